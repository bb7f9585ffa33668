"""Going back through the recordings, from the newest on, a stretch of the table at a time.

What few recordings match may lie anywhere among ten million. A stretch that holds none of the wanted
provider or source is followed by a look for the next one that does, through an index that has it: at most
as long as the walk was that came before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

STEP: Final = 20_000
"""Rows of a stretch: some milliseconds."""

_INDEXED: Final = 50
"""Stretches in one, where an index has the rows: of what is not safe there is little."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which recordings; None stands for any. `parts`: one of them is in the path, to the byte."""

    state: str | None = None
    source: str | None = None
    provider: str | None = None
    parts: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Stretch:
    """The rows that match, newest first; all others that do lie before the row `before`."""

    rows: list[int]
    before: int


def back(conn: sqlite3.Connection, wanted: Wanted, before: int | None, most: int) -> Iterator[Stretch]:
    """Stretch after stretch, to the oldest recording.

    Args:
        conn: the ledger.
        wanted: which recordings. Unknown names simply match nothing.
        before: only those before this row; None: from the newest on.
        most: rows that match in one stretch, at most.
    """
    where, values = _condition(conn, wanted)
    unsafe = wanted.state not in (None, "safe")
    step = STEP * _INDEXED if unsafe and not wanted.parts else STEP
    (newest,) = conn.execute("SELECT coalesce(max(id), 0) FROM recordings").fetchone()
    upper = newest + 1 if before is None else min(before, newest + 1)
    vain = 0
    while upper > 1:
        lower = max(1, upper - step)
        rows = [
            row[0]
            for row in conn.execute(
                f"SELECT r.id FROM recordings r WHERE r.id >= :lower AND r.id < :upper AND {where}"
                f" ORDER BY r.id DESC LIMIT {most}",
                {**values, "lower": lower, "upper": upper},
            )
        ]
        if rows:
            vain, upper = 0, rows[-1] if len(rows) == most else lower
        else:
            vain, upper = vain + upper - lower, lower
            upper = upper if unsafe else _next(conn, wanted, values, upper, vain)
        yield Stretch(rows, upper)


def _next(conn: sqlite3.Connection, wanted: Wanted, values: dict[str, object], upper: int, vain: int) -> int:
    """`upper`, or the row behind the next one that the provider or source has; `vain` rows had none."""
    if wanted.provider is not None:
        # Read backwards, and no further than the gap is long.
        (found,) = conn.execute(
            "SELECT coalesce((SELECT recording_id FROM uploads INDEXED BY sqlite_autoindex_uploads_1"
            " WHERE recording_id < :upper AND provider_id = :provider"
            " ORDER BY recording_id DESC LIMIT 1), 0)",
            {**values, "upper": upper},
        ).fetchone()
        upper = found + 1
    if wanted.source is not None and not wanted.parts:
        (there,) = conn.execute(
            "SELECT coalesce(sum(count), 0) FROM recording_totals WHERE source_id = :source", values
        ).fetchone()
        # This index is in the order of the paths: all of the source is read.
        if vain >= there // 4:
            (found,) = conn.execute(
                "SELECT coalesce(max(id), 0) FROM recordings INDEXED BY sqlite_autoindex_recordings_1"
                " WHERE source_id = :source AND id < :upper",
                {**values, "upper": upper},
            ).fetchone()
            upper = found + 1
    return upper


def _condition(conn: sqlite3.Connection, wanted: Wanted) -> tuple[str, dict[str, object]]:
    """On `recordings r`, and its values."""
    conditions = ["TRUE"]
    values: dict[str, object] = {
        "state": wanted.state,
        **{f"part{n}": part for n, part in enumerate(wanted.parts)},
    }
    for table, name in (("source", wanted.source), ("provider", wanted.provider)):
        row = conn.execute(f"SELECT id FROM {table}s WHERE name = ?", (name,)).fetchone()
        values[table] = row[0] if row is not None else None
    if wanted.state is not None:
        conditions.append("r.state = :state")
        if wanted.state != "safe":
            conditions.append("r.state <> 'safe'")  # lets SQLite use the partial index
    if wanted.source is not None:
        # The plus keeps SQLite from walking the index over the paths, and sorting a million rows for a page.
        conditions.append("+r.source_id = :source")
    if wanted.provider is not None:
        conditions.append(
            "EXISTS (SELECT 1 FROM uploads u WHERE u.recording_id = r.id AND u.provider_id = :provider)"
        )
    if wanted.parts:
        conditions.append(
            f"({' OR '.join(f'instr(r.path, :part{n}) > 0' for n in range(len(wanted.parts)))})"
        )
    return " AND ".join(conditions), values
