"""Commands that act, as people give them: beside a running daemon and without one."""
