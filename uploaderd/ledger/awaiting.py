"""Recordings that somebody waits for: how many are still on their way."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Stand:
    """Where one recording stands. `successor`: the row of the newer version that took its place unsent."""

    row: int
    state: str
    successor: int | None
    acknowledged: bool


def newest(conn: sqlite3.Connection) -> int:
    """The row of the newest recording; 0 if there is none."""
    (row,) = conn.execute("SELECT coalesce(max(id), 0) FROM recordings").fetchone()
    return int(row)


def waiting_upto(conn: sqlite3.Connection, row: int) -> int:
    """Recordings that are waiting, up to that row."""
    (count,) = conn.execute(
        # The second condition lets SQLite use the index over what is not safe.
        "SELECT count(*) FROM recordings WHERE state = 'waiting' AND state <> 'safe' AND id <= ?",
        (row,),
    ).fetchone()
    return int(count)


def stands(conn: sqlite3.Connection, rows: Collection[int]) -> list[Stand]:
    """Where these recordings stand; what retention has pruned is left out."""
    found: list[Stand] = []
    for page in _pages(rows):
        marks = ", ".join("?" * len(page))
        found += [
            Stand(row, state, successor, acknowledged is not None)
            for row, state, successor, acknowledged in conn.execute(
                f"SELECT id, state, superseded_by, acknowledged_at FROM recordings WHERE id IN ({marks})",
                page,
            )
        ]
    return found


def _pages(rows: Collection[int]) -> Iterator[list[int]]:
    left = iter(rows)
    while page := list(islice(left, PAGE)):
        yield page
