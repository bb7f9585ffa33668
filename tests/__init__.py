"""The test suite. `python3 tests/run.py` sets up and runs all of it."""
