"""What SQLite does, in instructions of its virtual machine: a clock would tell of the machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

EVERY: Final = 10
"""Instructions between two counts; what is left of a statement's last ten is not counted."""


class Steps:
    """Instructions that were taken since `taken` was last 0."""

    def __init__(self) -> None:
        self.taken = 0

    def of(self, conn: sqlite3.Connection) -> None:
        """Count those of this connection, too, for as long as it is open."""
        conn.set_progress_handler(self._count, EVERY)

    def _count(self) -> int:
        self.taken += EVERY
        return 0  # anything else would interrupt the statement


@contextmanager
def counted(conn: sqlite3.Connection) -> Iterator[Steps]:
    """The steps that this connection takes meanwhile."""
    steps = Steps()
    steps.of(conn)
    try:
        yield steps
    finally:
        conn.set_progress_handler(None, 0)
