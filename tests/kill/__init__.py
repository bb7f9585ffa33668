"""Kill it anywhere: faults made on purpose, at every point, and what must be true after each of them.

What each guarantee rests on, which test shows it and the last figures are in docs/guarantees.md. The longer
runs, and how to start them:

    TESTS_KILLS=200 pytest tests/kill/test_random.py       200 kills instead of 20
    TESTS_EVERY=1 pytest tests/kill                        every point, where CI takes a sample
"""
