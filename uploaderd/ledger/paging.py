"""A page of recordings, newest first, in a time that does not depend on how many there are.

What few recordings match may lie anywhere among a million: the search goes back in stretches, and gives
what it has found when its time is up, with where to go on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from uploaderd.ledger import read, stretches
from uploaderd.ledger.stretches import Wanted


@dataclass(frozen=True, slots=True)
class Page:
    """`before`: where the next page begins (a row, for `page`); None: there is none.

    With fewer rows than asked for, and a `before`, the time was up: older ones may match.
    """

    rows: list[read.RecordingRow]
    before: int | None


def page(
    conn: sqlite3.Connection, wanted: Wanted, before: int | None, limit: int, late: Callable[[], bool]
) -> Page:
    """The newest `limit` recordings that match, of those before the row `before`; fewer once it is `late`."""
    found: list[int] = []
    older = 1
    for stretch in stretches.back(conn, wanted, before, limit + 1):
        found += stretch.rows
        older = stretch.before
        if len(found) > limit:
            found = found[:limit]
            older = found[-1]
            break
        if late():
            break
    # One more than was asked for tells that there is a next page: none is ever empty, unless it was late.
    return Page(read.by_rows(conn, found) if found else [], older if older > 1 else None)
