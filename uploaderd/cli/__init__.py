"""The command line: one module a group of commands, put together in `entry`.

Data goes to stdout, messages to stderr. What a command needs beyond typer it imports when it runs:
`status`, `list`, `history` and `why` answer within 0.3 s.
"""

from uploaderd.cli.entry import main

__all__ = ["main"]
