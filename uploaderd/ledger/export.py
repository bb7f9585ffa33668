"""The ledger as JSON lines: what was recorded and uploaded, and the history with its hashes.

A line is one object; `type` says of what: `recording` (with its `uploads`), `attempt`, `event`, or
`horizon`, which stands before a chain's rows and has the id and hash of the row before them. Times are
milliseconds since the epoch. Sessions, which may be as good as keys, are left out.

An attempt's or event's `hash` is SHA-256 over the previous one's 32 bytes and the row's values in the
order of `chain.COLUMNS` as compact JSON in UTF-8, `detail` being text (itself compact JSON, keys sorted).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

from uploaderd.keys import text_of
from uploaderd.ledger import chain
from uploaderd.ledger.chain import Chain
from uploaderd.model import Milliseconds, recording_id_of

PAGE: Final = 500
"""Rows read at once: no reading transaction lasts for the length of an export."""

TYPES: Final = {"attempts": "attempt", "events": "event"}

_HIDDEN: Final = frozenset({"session", "past", "source_id", "recording_id", "provider_id"})


def lines(conn: sqlite3.Connection, since: Milliseconds | None = None) -> Iterator[str]:
    """All of it, or what was found, sent or happened since then.

    The history is cut at its first row from then on; from there no row is left out, so that the chain
    can be checked.
    """
    yield from _recordings(conn, since)
    for which in chain.CHAINS:
        yield from _history(conn, which, since)


def recording_lines(conn: sqlite3.Connection, rows: Sequence[int]) -> Iterator[tuple[Milliseconds, str]]:
    """Recordings by their rows, oldest first: when each was found, and its line."""
    marks = ", ".join("?" * len(rows))
    uploads: dict[int, list[dict[str, Any]]] = {row: [] for row in rows}
    for upload in _dicts(
        conn,
        f"SELECT u.*, p.name AS provider FROM uploads u JOIN providers p ON p.id = u.provider_id"
        f" WHERE u.recording_id IN ({marks}) ORDER BY u.id",
        rows,
    ):
        uploads[upload["recording_id"]].append(_plain(upload))
    for recording in _dicts(
        conn,
        "SELECT r.*, s.name AS source FROM recordings r JOIN sources s ON s.id = r.source_id"
        f" WHERE r.id IN ({marks}) ORDER BY r.id",
        rows,
    ):
        row, found_at = recording["id"], Milliseconds(recording["found_at"])
        line = {
            "type": "recording",
            "row": row,
            **_plain(recording),
            "id": recording_id_of(row, found_at),
            "path": text_of(recording["path"]),
            "uploads": uploads[row],
        }
        yield found_at, _dump(line)


def history_line(which: Chain, row: Sequence[Any]) -> tuple[Milliseconds, str]:
    """A row of `chain.rows_after`: when it was written, and its line."""
    *values, digest = row
    named = dict(zip(chain.COLUMNS[which], values, strict=True))
    at = Milliseconds(named[chain.TIME[which]])
    if which == "events":
        named["detail"] = json.loads(named["detail"])
    return at, _dump({"type": TYPES[which], **named, "hash": digest.hex()})


def _recordings(conn: sqlite3.Connection, since: Milliseconds | None) -> Iterator[str]:
    last = 0
    while True:
        rows = [
            row[0]
            for row in conn.execute(
                "SELECT id FROM recordings WHERE id > ? AND (? IS NULL OR max(found_at, coalesce(safe_at, 0),"
                " coalesce(lost_at, 0), coalesce(acknowledged_at, 0)) >= ?) ORDER BY id LIMIT ?",
                (last, since, since, PAGE),
            )
        ]
        if not rows:
            return
        for _, line in recording_lines(conn, rows):
            yield line
        last = rows[-1]


def _history(conn: sqlite3.Connection, which: Chain, since: Milliseconds | None) -> Iterator[str]:
    last, digest = chain.horizon(conn, which)
    if since is not None:
        (first,) = conn.execute(
            f"SELECT min(id) FROM {which} WHERE {chain.TIME[which]} >= ?", (since,)
        ).fetchone()
        if first is None:
            return
        before = conn.execute(f"SELECT id, hash FROM {which} WHERE id = ?", (first - 1,)).fetchone()
        last, digest = before if before is not None else (last, digest)
    yield _dump({"type": "horizon", "chain": which, "id": last, "hash": digest.hex()})
    while page := list(chain.rows_after(conn, which, last, PAGE)):
        for row in page:
            yield history_line(which, row)[1]
        last = page[-1][0]


def _dicts(conn: sqlite3.Connection, query: str, values: Sequence[object]) -> Iterator[dict[str, Any]]:
    cursor = conn.execute(query, tuple(values))
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """The row as JSON can have it: without what is hidden or not there, bytes in hexadecimal."""
    return {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in row.items()
        if name not in _HIDDEN and value is not None
    }


def _dump(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))
