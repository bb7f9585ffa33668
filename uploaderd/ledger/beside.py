"""What the ledger has at a source's paths, for a sweep that comes along in the same order."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any, Final

PAGE: Final = 2_000
"""Rows read at once at most: no reading transaction stays open for the length of a sweep, which would keep
the write-ahead log from being reset."""

FEW: Final = 16
"""Rows read at once where most of them are of files that are gone."""


@dataclass(frozen=True, slots=True)
class Present:
    """A recording that is there, as a sweep compares it with a file.

    `stuck`: it is held, or an upload failed: another look at the file may let it go on.
    """

    path: bytes
    size: int
    mtime_ns: int
    inode: int
    stuck: bool


class Beside:
    """The recordings of a source whose files the ledger believes to be there.

    Where somebody else removes files, and tells nobody, there may be a million of them without a file: what
    lies between two paths that are asked for is passed over unread, but for the rest of a page.
    """

    def __init__(self, conn: sqlite3.Connection, source_id: int) -> None:
        self._conn = conn
        self._source_id = source_id
        self._page: list[tuple[Any, ...]] = []
        self._next = 0
        self._asked_for = 0
        self._size = FEW
        self._whole = False

    def at(self, path: bytes) -> Present | None:
        """What is at the path, if anything is. Paths must be asked for in the order of their bytes."""
        while True:
            while self._next < len(self._page):
                row = self._page[self._next]
                if row[0] >= path:
                    return self._taken(row) if row[0] == path else None
                self._next += 1
            if self._whole:
                return None
            self._read(path)

    def _taken(self, row: tuple[Any, ...]) -> Present:
        self._next += 1
        self._asked_for += 1
        _, size, mtime_ns, inode, stuck = row
        # Inodes are unsigned 64-bit; SQLite's integers are signed.
        return Present(bytes(row[0]), size, mtime_ns, inode & 0xFFFFFFFFFFFFFFFF, bool(stuck))

    def _read(self, path: bytes) -> None:
        dense = 2 * self._asked_for >= len(self._page)
        self._size = min(4 * self._size, PAGE) if dense else FEW
        self._page = self._conn.execute(
            "SELECT path, size, mtime_ns, inode, held IS NOT NULL OR failed > 0 FROM recordings"
            " WHERE source_id = ? AND path >= ? AND past = 0 ORDER BY path LIMIT ?",
            (self._source_id, path, self._size),
        ).fetchall()
        self._next = self._asked_for = 0
        self._whole = len(self._page) < self._size
