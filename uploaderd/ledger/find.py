"""Finding a recording by what a person knows of it, and the few that `status` shows by name.

Nothing here writes. What `status` asks reads an index's first rows; a part of a name is looked for among
the newest recordings, then in the index over the paths, which is all of them.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from uploaderd.ledger import read, stretches
from uploaderd.ledger.stretches import Wanted

RECENT: Final = 500_000
"""Recordings, from the newest on, that are looked through first: a tenth of a second."""

_SIDE: Final = 5
"""Neighbours of an unknown path, on either side, among which the one that was meant is looked for."""

_NEWEST: Final = 200
"""New recordings that are looked at for the same."""


@dataclass(frozen=True, slots=True)
class Working:
    """An upload that the daemon has begun, as far as the ledger knows; its progress only the daemon does."""

    provider: str
    source: str
    path: bytes
    size: int
    resumed_from: int


def oldest_waiting(conn: sqlite3.Connection) -> read.RecordingRow | None:
    """The recording that has been waiting for longest."""
    row = conn.execute(
        "SELECT id FROM recordings WHERE state = 'waiting' ORDER BY finished_at LIMIT 1"
    ).fetchone()
    return read.by_rows(conn, [row[0]])[0] if row is not None else None


def working(conn: sqlite3.Connection) -> list[Working]:
    """Uploads under way: at most `max_uploads` a provider."""
    return [
        Working(provider, source, bytes(path), size, resumed_from)
        for provider, source, path, size, resumed_from in conn.execute(
            "SELECT p.name, s.name, r.path, r.size, u.resumed_from FROM providers p"
            " JOIN uploads u ON u.provider_id = p.id AND u.state IN ('uploading', 'completing')"
            " JOIN recordings r ON r.id = u.recording_id JOIN sources s ON s.id = r.source_id"
            " ORDER BY p.id, u.id"
        )
    ]


def troubled(conn: sqlite3.Connection, state: str, most: int) -> list[read.RecordingRow]:
    """The newest recordings that are failed, lost or held, and that nobody acknowledged."""
    rows = [
        row[0]
        for row in conn.execute(
            "SELECT id FROM recordings WHERE state = ? AND state <> 'safe' AND acknowledged_at IS NULL"
            " ORDER BY id DESC LIMIT ?",
            (state, most),
        )
    ]
    return read.by_rows(conn, rows) if rows else []


def containing(conn: sqlite3.Connection, part: bytes, most: int) -> list[read.RecordingRow]:
    """Recordings whose path contains `part`, newest first, at most so many.

    If some of the newest `RECENT` do, those alone: it is one of them that people ask for.
    """
    rows: list[int] = []
    recent = None
    for stretch in stretches.back(conn, Wanted(parts=(part,)), None, most):
        rows += stretch.rows
        recent = recent if recent is not None else stretch.before - RECENT
        if len(rows) >= most or stretch.before <= recent:
            break
    if not rows:
        # The index over the paths is a quarter of the table, and a million of them are read in a tenth of
        # a second; named, because SQLite would walk the table to spare itself the sorting.
        rows = [
            row[0]
            for row in conn.execute(
                "SELECT id FROM recordings INDEXED BY sqlite_autoindex_recordings_1"
                " WHERE instr(path, ?) > 0 AND source_id > 0 ORDER BY id DESC LIMIT ?",
                (part, most),
            )
        ]
    return read.by_rows(conn, rows[:most]) if rows else []


def similar(conn: sqlite3.Connection, path: bytes) -> list[bytes]:
    """Known paths among which the one that was meant may be: neighbours by name, and the newest."""
    near: dict[bytes, None] = {}
    for (source,) in conn.execute("SELECT id FROM sources").fetchall():
        for side in ("path < ? ORDER BY path DESC", "path > ? ORDER BY path"):
            for (found,) in conn.execute(
                f"SELECT path FROM recordings WHERE source_id = ? AND {side} LIMIT {_SIDE}", (source, path)
            ):
                near[bytes(found)] = None
    for (found,) in conn.execute(f"SELECT path FROM recordings ORDER BY id DESC LIMIT {_NEWEST}"):
        near[bytes(found)] = None
    return list(near)
