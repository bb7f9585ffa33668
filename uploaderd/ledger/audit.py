"""Verified copies, to be asked for again: which there are, how many bytes, and what was found amiss."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from uploaderd.errors import Fault
from uploaderd.ledger import removal
from uploaderd.ledger.chain import Event
from uploaderd.ledger.removal import Copy
from uploaderd.ledger.writer import Transaction
from uploaderd.model import Checksum, Token

_POSITION: Final = "verify"
"""Name in `meta` of where a run was cut off."""

_KEPT: Final = (
    "u.state = 'verified' AND NOT EXISTS (SELECT 1 FROM uploads later WHERE later.provider_id = u.provider_id"
    " AND later.key = u.key AND later.id > u.id AND later.state = 'verified')"
)
"""The copy is still meant to be there: no later version took its key (`on_new_version = "replace"`)."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording with its verified copies.

    Attributes:
        content: what was sent; None if that is not on record.
        present: the ledger believes that its file is there.
    """

    row: int
    source: str
    path: bytes
    content: Checksum | None
    present: bool
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class Extent:
    """Copies, and the bytes of their contents, at one provider."""

    copies: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run over the recordings up to the row `upto` came: up to `after` all are done, and `done`."""

    deep: bool
    after: int
    upto: int
    done: tuple[int, ...] = ()


def below(conn: sqlite3.Connection, source: str, path: bytes) -> list[int]:
    """The recordings that are, or were, at a path of a source or below it; the empty one is all of it."""
    # "0" is the byte after "/".
    rows = conn.execute(
        "SELECT id FROM recordings WHERE source_id = (SELECT id FROM sources WHERE name = :source)"
        " AND (:path = x'' OR path = :path OR (path > :first AND path < :last))",
        {"source": source, "path": path, "first": path + b"/", "last": path + b"0"},
    )
    return [row[0] for row in rows]


def extent(conn: sqlite3.Connection, place: Position, rows: Collection[int] | None) -> dict[str, Extent]:
    """What there is to be asked for, by provider; see `kept`."""
    which, values = _which(place, rows)
    return {
        name: Extent(copies, size)
        for name, copies, size in conn.execute(
            "SELECT p.name, count(*), sum(r.size) FROM recordings r JOIN uploads u ON u.recording_id = r.id"
            f" JOIN providers p ON p.id = u.provider_id WHERE {_KEPT} AND {which}"
            " GROUP BY p.id ORDER BY p.id",
            values,
        )
    }


def kept(conn: sqlite3.Connection, place: Position, rows: Collection[int] | None, limit: int) -> list[Kept]:
    """The next recordings that have verified copies, in the order of their rows.

    Args:
        conn: the ledger.
        place: only what it leaves to be done.
        rows: only these; None: all.
        limit: at most so many.
    """
    which, values = _which(place, rows)
    found = conn.execute(
        "SELECT r.id, s.name, r.path, r.size, r.crc32c, r.crc64nvme, r.past FROM recordings r"
        f" JOIN sources s ON s.id = r.source_id WHERE {which} AND EXISTS (SELECT 1 FROM uploads u"
        f" WHERE u.recording_id = r.id AND {_KEPT}) ORDER BY r.id LIMIT {limit}",
        values,
    ).fetchall()
    return [
        Kept(
            row,
            source,
            bytes(path),
            Checksum(size, crc32c, int.from_bytes(crc64nvme, "big")) if crc64nvme is not None else None,
            past == 0,
            _copies(conn, row),
        )
        for row, source, path, size, crc32c, crc64nvme, past in found
    ]


def _which(place: Position, rows: Collection[int] | None) -> tuple[str, tuple[object, ...]]:
    # Lists are one value, however long they are: SQLite takes 32,766 at most.
    left = "r.id > ? AND r.id <= ? AND r.id NOT IN (SELECT value FROM json_each(?))"
    values = (place.after, place.upto, json.dumps(place.done))
    if rows is None:
        return left, values
    return f"{left} AND r.id IN (SELECT value FROM json_each(?))", (*values, json.dumps(sorted(rows)))


def _copies(conn: sqlite3.Connection, row: int) -> tuple[Copy, ...]:
    return tuple(
        Copy(upload_id, provider, key, Token(bytes(token).hex()), etag, version_id, proof_kind or "")
        for upload_id, provider, key, token, etag, version_id, proof_kind in conn.execute(
            "SELECT u.id, p.name, u.key, u.token, u.etag, u.version_id, u.proof_kind FROM uploads u"
            " JOIN providers p ON p.id = u.provider_id"
            f" WHERE u.recording_id = ? AND {_KEPT} ORDER BY u.id",
            (row,),
        )
    )


def differs(tx: Transaction, copy: Copy, fault: Fault, found: Mapping[str, object], *, again: bool) -> bool:
    """A copy is not what was verified. False if it was uploaded anew since it was asked for.

    `again`: it is queued; else it is failed, and needs a person.
    """
    now = tx.conn.execute("SELECT etag, version_id FROM uploads WHERE id = ?", (copy.upload_id,)).fetchone()
    if now != (copy.etag, copy.version_id):
        return False
    return removal.copy_lost(tx, copy, fault, found, again=again)


def cut_off(tx: Transaction, position: Position) -> None:
    """Remember how far a run came."""
    value = json.dumps(asdict(position))
    tx.conn.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_POSITION, value))


def position(tx: Transaction) -> Position | None:
    """How far a run came that was cut off."""
    row = tx.conn.execute("SELECT value FROM meta WHERE name = ?", (_POSITION,)).fetchone()
    if row is None:
        return None
    value = json.loads(row[0])
    return Position(value["deep"], value["after"], value["upto"], tuple(value.get("done", ())))


def ended(tx: Transaction, who: str, detail: Mapping[str, Any], *, whole: bool) -> None:
    """A run came to its end. `whole`: it was one over the whole ledger."""
    if whole:
        tx.conn.execute("DELETE FROM meta WHERE name = ?", (_POSITION,))
    tx.event(Event("verify", who, detail=detail))
