"""A page of recordings, newest first, in a time that does not depend on how many there are.

What few recordings match may lie anywhere among a million: the search goes back in steps, and gives what
it has found when its time is up, with where to go on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from uploaderd.ledger import read

STEP: Final = 20_000
"""Rows looked at between two looks at the clock: some milliseconds."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which recordings; None stands for any. `parts`: one of them is in the path, to the byte."""

    state: str | None = None
    source: str | None = None
    provider: str | None = None
    parts: tuple[bytes, ...] = ()


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
    where, values = read.which(state=wanted.state, source=wanted.source, provider=wanted.provider)
    if wanted.parts:
        where += f" AND ({' OR '.join(f'instr(r.path, :part{n}) > 0' for n in range(len(wanted.parts)))})"
        values |= {f"part{n}": part for n, part in enumerate(wanted.parts)}
    (newest,) = conn.execute("SELECT coalesce(max(id), 0) FROM recordings").fetchone()
    upper = min(before if before is not None else newest + 1, newest + 1)
    found: list[int] = []
    while upper > 1:
        lower = max(1, upper - STEP)
        found += [
            row[0]
            for row in conn.execute(
                f"SELECT r.id FROM recordings r WHERE r.id >= :lower AND r.id < :upper AND {where}"
                f" ORDER BY r.id DESC LIMIT {limit + 1 - len(found)}",
                {**values, "lower": lower, "upper": upper},
            )
        ]
        if len(found) > limit:
            found = found[:limit]
            upper = found[-1]
            break
        upper = lower
        if late():
            break
    # One more than was asked for tells that there is a next page: none is ever empty, unless it was late.
    return Page(read.by_rows(conn, found) if found else [], upper if upper > 1 else None)
