"""Into the queue: sources and providers as configured, and recordings as they are found.

Every function runs inside the writer's transaction and moves exactly the rows it names, or raises.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from uploaderd.errors import LedgerError, StaleTransition
from uploaderd.ledger import leftovers, silence
from uploaderd.ledger.chain import Event
from uploaderd.ledger.writer import Transaction
from uploaderd.model import FileIdentity, FinishedBy, FoundBy, Gate, Milliseconds


@dataclass(frozen=True, slots=True)
class NewUpload:
    """One upload of a recording to be: its frozen key, and whether the recording requires it."""

    provider_id: int
    key: str
    required: bool
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class NewRecording:
    """A finished file, ready for the queue.

    `skipped` or `held` give the reason for which it is not queued. With a `gate`, a person may open it:
    `uploads` are those it then gets. `needed` of the required uploads make it safe. `doubt` is something
    about it that a person may want to know.
    """

    source_id: int
    path: bytes
    identity: FileIdentity
    found_by: FoundBy
    finished_by: FinishedBy
    finished_at: Milliseconds
    uploads: tuple[NewUpload, ...]
    needed: int
    skipped: str | None = None
    held: str | None = None
    gate: Gate | None = None
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger has at a path, or at an inode.

    `gone`: its file is taken for removed, or another content took its path. `released`: a person opened
    the gate that holds it.
    """

    id: int
    source_id: int
    path: bytes
    identity: FileIdentity
    crc64nvme: int | None
    state: str
    gone: bool = False
    released: bool = False


def register_source(tx: Transaction, name: str, path: bytes) -> int:
    """The source's row, made or brought up to date."""
    row = tx.conn.execute(
        "INSERT INTO sources (name, path, watched_since) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET path = excluded.path,"
        " watched_since = coalesce(watched_since, excluded.watched_since) RETURNING id",
        (name, path, tx.now),
    ).fetchone()
    return int(row[0])


def source_device(tx: Transaction, source_id: int) -> int | None:
    """The device that the source's root was last seen on; None if it never was."""
    (device,) = tx.conn.execute("SELECT device FROM sources WHERE id = ?", (source_id,)).fetchone()
    return None if device is None else int(device)


def register_provider(tx: Transaction, name: str, type_: str, target: str) -> int:
    """The provider's row, made on first use.

    Raises:
        LedgerError: the name stood for something else before.
    """
    row = tx.conn.execute("SELECT id, target FROM providers WHERE name = ?", (name,)).fetchone()
    if row is None:
        row = tx.conn.execute(
            "INSERT INTO providers (name, type, target) VALUES (?, ?, ?) RETURNING id, target",
            (name, type_, target),
        ).fetchone()
        tx.event(Event("provider-added", provider=name, detail={"target": target}))
    if row[1] != target:
        raise LedgerError(
            f"[providers.{name}] now points at {target}, but this ledger knows it as {row[1]}",
            "what the ledger calls safe there would not be: give the new destination a name of its own",
        )
    return int(row[0])


def enqueue(tx: Transaction, found: Sequence[NewRecording]) -> list[int | None]:
    """Put recordings into the queue, each with its uploads; their ids, in order.

    None for one whose path the ledger already knows with the same size, mtime and inode: found
    twice, queued once. Another content at a known path must have been moved aside first (`replace`).
    """
    rows = [_enqueue(tx, one) for one in found]
    # An empty file is no sign of life: a recorder that lost its camera goes on making them.
    pairs = zip(found, rows, strict=True)
    silence.found(tx, {one.source_id for one, row in pairs if row is not None and not one.skipped})
    return rows


def _enqueue(tx: Transaction, one: NewRecording) -> int | None:
    known = at_path(tx.conn, one.source_id, one.path)
    if known is not None:
        if known.identity.same_stat(one.identity):
            return None
        replace(tx, known.id)
    identity = one.identity
    row = tx.conn.execute(
        "INSERT INTO recordings (source_id, path, size, mtime_ns, inode, device, fingerprint, found_at,"
        " finished_at, found_by, finished_by, needed, required, skipped, held, gate, doubt)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            one.source_id,
            one.path,
            identity.size,
            identity.mtime_ns,
            _signed(identity.inode),
            _signed(identity.device),
            identity.fingerprint,
            tx.now,
            one.finished_at,
            one.found_by,
            one.finished_by,
            one.needed,
            sum(upload.required for upload in one.uploads),
            one.skipped,
            one.held,
            one.gate,
            one.doubt,
        ),
    ).fetchone()
    recording_id = int(row[0])
    if not one.held:
        add_uploads(tx, recording_id, one.uploads)
    if one.held or one.skipped:
        tx.event(
            Event(
                "held" if one.held else "skipped",
                recording_id=recording_id,
                detail={"reason": one.held or one.skipped},
            )
        )
    if one.doubt:
        tx.event(Event("doubtful", recording_id=recording_id, detail={"reason": one.doubt}))
    if known is not None:
        superseded(tx, known.id, recording_id)
        tx.event(Event("new-version", recording_id=recording_id, detail={"replaces": known.id}))
    return recording_id


def add_uploads(tx: Transaction, recording_id: int, uploads: Sequence[NewUpload]) -> None:
    """Queue the recording's uploads, each under a token of its own."""
    tx.conn.executemany(
        "INSERT INTO uploads (recording_id, provider_id, required, key, token, replaces)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                recording_id,
                upload.provider_id,
                upload.required,
                upload.key,
                secrets.token_bytes(16),
                upload.replaces,
            )
            for upload in uploads
        ],
    )


def replace(tx: Transaction, recording_id: int) -> None:
    """Another content took the recording's path: free the path, and drop what was not sent yet.

    Sessions of dropped uploads become leftovers, to be aborted.
    """
    _one(
        tx.conn.execute(
            "UPDATE recordings SET past = id, local = 'replaced' WHERE id = ? AND past = 0", (recording_id,)
        ),
        "replace",
        recording_id,
    )
    drop_unsent(tx, recording_id)


def superseded(tx: Transaction, recording_id: int, by: int) -> None:
    """If the replaced recording was not sent yet, the one that took its place stands for it."""
    tx.conn.execute(
        "UPDATE recordings SET superseded_by = ? WHERE id = ? AND state IN ('waiting', 'failed', 'held')",
        (by, recording_id),
    )


def drop_unsent(tx: Transaction, recording_id: int) -> None:
    """Take the recording's queued uploads out of the queue; their sessions become leftovers.

    Uploads that are being worked on are left to their worker, which finds out by itself.
    """
    where = "recording_id = :row AND state IN ('queued', 'retrying', 'failed')"
    leftovers.leave(tx, where, recording_id)
    tx.conn.execute(
        f"DELETE FROM parts WHERE upload_id IN (SELECT id FROM uploads WHERE {where})", {"row": recording_id}
    )
    tx.conn.execute(
        "UPDATE uploads SET state = 'failed', session = NULL, intent_at = NULL, error_class = 'recording',"
        " error_code = 'superseded', error_message = 'another content took its path before it was sent',"
        f" error_hint = '' WHERE {where}",
        {"row": recording_id},
    )


def touched(tx: Transaction, recording_id: int, identity: FileIdentity) -> None:
    """The same content under a new inode or mtime (remount, restore, touch): nothing is sent."""
    _one(
        tx.conn.execute(
            "UPDATE recordings SET mtime_ns = ?, inode = ?, device = ? WHERE id = ? AND size = ?",
            (
                identity.mtime_ns,
                _signed(identity.inode),
                _signed(identity.device),
                recording_id,
                identity.size,
            ),
        ),
        "touched",
        recording_id,
    )
    tx.event(Event("touched", recording_id=recording_id))


def revive(tx: Transaction, recording_id: int, path: bytes) -> None:
    """A recording whose file was taken for gone, or whose path another content took, is found after all.

    What was given up for that reason is queued again. `path` must be free; it may be another than before.
    """
    _one(
        tx.conn.execute(
            "UPDATE recordings SET path = ?, local = 'present', past = 0, lost_at = NULL,"
            " superseded_by = NULL WHERE id = ? AND past = id",
            (path, recording_id),
        ),
        "revive",
        recording_id,
    )
    tx.conn.execute(
        "UPDATE uploads SET state = 'queued', failures = 0, error_class = NULL, error_code = NULL,"
        " error_message = NULL, error_hint = NULL"
        " WHERE recording_id = ? AND state = 'failed' AND error_class = 'recording'",
        (recording_id,),
    )
    tx.event(Event("found-again", recording_id=recording_id))


def renamed(tx: Transaction, recording_id: int, path: bytes, shown: tuple[str, str]) -> None:
    """Follow a recording to its new path inside its source; `shown` are both as text."""
    _one(
        tx.conn.execute(
            "UPDATE recordings SET path = ?, past = 0 WHERE id = ? AND local = 'present'",
            (path, recording_id),
        ),
        "renamed",
        recording_id,
    )
    tx.event(Event("renamed", recording_id=recording_id, detail={"from": shown[0], "to": shown[1]}))


def was_at(conn: sqlite3.Connection, recording_id: int, shown: str) -> bool:
    """Whether the recording was renamed away from that path (as text)."""
    row = conn.execute(
        "SELECT 1 FROM events WHERE recording_id = ? AND kind = 'renamed'"
        " AND json_extract(detail, '$.from') = ?",
        (recording_id, shown),
    ).fetchone()
    return row is not None


def at_key(conn: sqlite3.Connection, provider_id: int, key: str) -> list[tuple[int, int, bytes]]:
    """Id, source and path of the present recordings that have this key at the provider."""
    rows = conn.execute(
        "SELECT r.id, r.source_id, r.path FROM uploads u JOIN recordings r ON r.id = u.recording_id"
        " WHERE u.provider_id = ? AND u.key = ? AND r.past = 0",
        (provider_id, key),
    )
    return [(id_, source_id, bytes(path)) for id_, source_id, path in rows]


def sent_ranges(conn: sqlite3.Connection, recording_id: int) -> list[tuple[int, int, int]]:
    """Offset, size and CRC-64/NVME of what was sent of the recording in sessions that still count."""
    rows = conn.execute(
        "SELECT DISTINCT p.offset, p.size, p.crc64nvme FROM parts p JOIN uploads u ON u.id = p.upload_id"
        " WHERE u.recording_id = ? ORDER BY p.offset",
        (recording_id,),
    )
    return [(offset, size, int.from_bytes(crc, "big")) for offset, size, crc in rows]


_KNOWN: Final = (
    "id, source_id, path, size, mtime_ns, inode, device, fingerprint, crc64nvme, state, past <> 0,"
    " released_by IS NOT NULL"
)


def at_path(conn: sqlite3.Connection, source_id: int, path: bytes) -> Known | None:
    """What is there now, as far as the ledger knows."""
    row = conn.execute(
        f"SELECT {_KNOWN} FROM recordings WHERE source_id = ? AND path = ? AND past = 0", (source_id, path)
    ).fetchone()
    return _known(row) if row is not None else None


def last_at_path(conn: sqlite3.Connection, source_id: int, path: bytes) -> Known | None:
    """The newest recording that was there and is gone."""
    row = conn.execute(
        f"SELECT {_KNOWN} FROM recordings WHERE source_id = ? AND path = ? AND past <> 0"
        " ORDER BY past DESC LIMIT 1",
        (source_id, path),
    ).fetchone()
    return _known(row) if row is not None else None


def at_inode(conn: sqlite3.Connection, source_id: int, inode: int, mtime_ns: int) -> list[Known]:
    """The source's recordings with this inode and mtime: hard links, or what was renamed; present ones first.

    Those too that are taken for gone: their file may have been moved before anybody looked. The inode alone
    would say little: where files come and go, each number has been that of hundreds.
    """
    rows = conn.execute(
        f"SELECT {_KNOWN} FROM recordings WHERE inode = ? AND mtime_ns = ? AND source_id = ?"
        " ORDER BY past <> 0, id DESC",
        (_signed(inode), mtime_ns, source_id),
    )
    return [_known(row) for row in rows]


def _known(row: tuple[Any, ...]) -> Known:
    id_, source_id, path, size, mtime_ns, inode, device, fingerprint, crc64nvme, state, gone, released = row
    return Known(
        id_,
        source_id,
        bytes(path),
        FileIdentity(size, mtime_ns, _unsigned(inode), _unsigned(device), bytes(fingerprint)),
        int.from_bytes(crc64nvme, "big") if isinstance(crc64nvme, bytes) else None,
        state,
        bool(gone),
        bool(released),
    )


def _one(cursor: sqlite3.Cursor, what: str, row: int) -> None:
    if cursor.rowcount != 1:
        raise StaleTransition(f"{what}: row {row} was not as expected")


def _signed(value: int) -> int:
    """Inode and device numbers are unsigned 64-bit; SQLite's integers are signed."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _unsigned(value: int) -> int:
    return value + (1 << 64) if value < 0 else value
