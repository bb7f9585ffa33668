"""Kill it anywhere: faults made on purpose, at every point, and what must be true after each of them.

What each guarantee rests on, which test shows it, the last figures, and the longer runs are in
docs/guarantees.md.
"""
