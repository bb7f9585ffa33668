"""The local files of safe recordings, on their way out: what is due, what is under way, what was kept.

A removal is on record before its file is touched (`begin`) and until the outcome is (`removed`, `kept`).
One that is found at start was cut off, and is settled by a look at the disk.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from uploaderd.errors import Fault, StaleTransition
from uploaderd.keys import text_of
from uploaderd.ledger import leftovers
from uploaderd.ledger.chain import Event
from uploaderd.ledger.passage import Ripe, Young
from uploaderd.ledger.writer import Transaction
from uploaderd.model import Checksum, FileIdentity, FinishedBy, Milliseconds, Token

PAGE: Final = 5_000
"""Rows that `reconsider` moves in one transaction: a million kept files must not stop everything else."""

ASIDE_MS: Final = 600_000
"""For which uploads that the recording does not require are put off when its removal begins."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A verified copy that the recording requires. `etag`, `version_id` are those that were verified."""

    upload_id: int
    provider: str
    key: str
    token: Token
    etag: str | None
    version_id: str | None
    proof_kind: str


@dataclass(frozen=True, slots=True)
class Due:
    """A safe recording whose time is up.

    Attributes:
        content: as the pass that sent it found it.
        needed: how many of the `copies` must still be there.
        working: an upload of it is under way.
    """

    recording_id: int
    path: bytes
    identity: FileIdentity
    content: Checksum | None
    found_at: Milliseconds
    finished_by: FinishedBy
    needed: int
    copies: tuple[Copy, ...]
    working: bool


@dataclass(frozen=True, slots=True)
class Begun:
    """A removal that was begun and whose outcome is not on record. `aside`: the name in its folder."""

    recording_id: int
    path: bytes
    aside: bytes
    identity: FileIdentity


_LATEST: Final = 2**63 - 1
"""Of SQLite's integers."""

_REMOVABLE: Final = (
    "source_id = :source AND state = 'safe' AND past = 0"
    " AND id NOT IN (SELECT recording_id FROM removals) AND safe_at IS NOT NULL"
)

_DUE: Final = (
    # What was kept so far first: it is older.
    f"{_REMOVABLE} AND kept_until IS NOT NULL AND kept_until <= :now ORDER BY kept_until",
    f"{_REMOVABLE} AND kept_until IS NULL AND safe_at > :after AND safe_at <= :upto ORDER BY safe_at",
)

_UNRIPE: Final = (
    "(safe_at > :before OR EXISTS (SELECT 1 FROM json_each(:young)"
    " WHERE safe_at > json_extract(value, '$[0]') AND safe_at <= json_extract(value, '$[1]')))"
)


def due(tx: Transaction, source_id: int, ripe: Ripe, limit: int) -> list[Due]:
    """The source's next recordings to be removed, at most `limit`."""
    values = {
        "source": source_id,
        "now": tx.now,
        "before": ripe.before,
        "young": json.dumps([[span.after, span.upto] for span in ripe.young]),
    }
    # Safe anew, or `keep_for` has grown: their time is counted from `safe_at` again.
    tx.conn.execute(
        f"UPDATE recordings SET kept_until = NULL WHERE {_REMOVABLE} AND kept_until <= :now AND {_UNRIPE}",
        values,
    )
    kept, safe = _DUE
    spans = ({"after": span.after, "upto": span.upto} for span in ripe.spans())
    found: list[Due] = []
    for which, more in ((kept, {}), *((safe, span) for span in spans)):
        rows = tx.conn.execute(
            "SELECT id, path, size, mtime_ns, inode, device, fingerprint, crc32c, crc64nvme, found_at,"
            f" finished_by, needed FROM recordings WHERE {which} LIMIT {limit - len(found)}",
            {**values, **more},
        ).fetchall()
        found += [_due(tx.conn, row) for row in rows]
    return found


def _due(conn: sqlite3.Connection, row: tuple[Any, ...]) -> Due:
    id_, path, size, mtime_ns, inode, device, mark, crc32c, crc64nvme, found_at, finished_by, needed = row
    copies = [
        Copy(upload_id, provider, key, Token(bytes(token).hex()), etag, version_id, proof_kind or "")
        for upload_id, provider, key, token, etag, version_id, proof_kind in conn.execute(
            "SELECT u.id, p.name, u.key, u.token, u.etag, u.version_id, u.proof_kind FROM uploads u"
            " JOIN providers p ON p.id = u.provider_id"
            " WHERE u.recording_id = ? AND u.required AND u.state = 'verified' ORDER BY u.id",
            (id_,),
        )
    ]
    return Due(
        recording_id=id_,
        path=bytes(path),
        identity=_identity(size, mtime_ns, inode, device, mark),
        content=Checksum(size, crc32c, int.from_bytes(crc64nvme, "big")) if crc64nvme is not None else None,
        found_at=Milliseconds(found_at),
        finished_by=FinishedBy(finished_by),
        needed=needed,
        copies=tuple(copies),
        working=_working(conn, id_),
    )


def _working(conn: sqlite3.Connection, recording_id: int) -> bool:
    return (
        conn.execute(
            "SELECT 1 FROM uploads WHERE recording_id = ? AND state IN ('uploading', 'completing')",
            (recording_id,),
        ).fetchone()
        is not None
    )


def next_due(tx: Transaction, source_id: int, ripe: Ripe) -> Milliseconds | None:
    """When to ask again what is `due`, where all that was has been dealt with; None if nothing is safe."""
    values = {"source": source_id}
    (kept,) = tx.conn.execute(
        f"SELECT min(kept_until) FROM recordings WHERE {_REMOVABLE} AND kept_until IS NOT NULL", values
    ).fetchone()
    times = [] if kept is None else [kept]
    for span in (Young(ripe.before, _LATEST, ripe.before), *ripe.young):
        (safe,) = tx.conn.execute(
            f"SELECT min(safe_at) FROM recordings WHERE {_REMOVABLE} AND kept_until IS NULL"
            " AND safe_at > :after AND safe_at <= :upto",
            {**values, "after": span.after, "upto": span.upto},
        ).fetchone()
        if safe is not None:
            times.append(ripe.now + safe - span.ripe)
    return Milliseconds(min(times)) if times else None


def begin(tx: Transaction, one: Due, aside: bytes) -> bool:
    """The file is about to be put aside. False if it must not be, for the ledger knows more by now."""
    if _working(tx.conn, one.recording_id):
        return False
    fresh = tx.conn.execute(
        "INSERT INTO removals (recording_id, source_id, path, aside, since)"
        " SELECT id, source_id, path, ?, ? FROM recordings"
        " WHERE id = ? AND path = ? AND state = 'safe' AND past = 0"
        " AND id NOT IN (SELECT recording_id FROM removals)",
        (aside, tx.now, one.recording_id, one.path),
    ).rowcount
    if fresh != 1:
        return False
    # Nobody is to begin to send it now: while it is aside it would seem lost.
    tx.conn.execute(
        "UPDATE uploads SET state = 'retrying', next_attempt_at = max(coalesce(next_attempt_at, 0), ?)"
        " WHERE recording_id = ? AND state IN ('queued', 'retrying')",
        (tx.now + ASIDE_MS, one.recording_id),
    )
    detail = {"path": text_of(one.path), "aside": text_of(aside)}
    tx.event(Event("removing", recording_id=one.recording_id, detail=detail))
    return True


def removed(tx: Transaction, recording_id: int, detail: Mapping[str, object]) -> None:
    """The file is gone, by our hand. What of it was still waiting to be sent will never be."""
    _end(tx, recording_id, "removed")
    which = "recording_id = :row AND state IN ('queued', 'retrying')"
    leftovers.leave(tx, which, recording_id)
    unsent = [
        row[0]
        for row in tx.conn.execute(
            f"SELECT name FROM providers WHERE id IN (SELECT provider_id FROM uploads WHERE {which})",
            {"row": recording_id},
        )
    ]
    tx.conn.execute(
        f"DELETE FROM parts WHERE upload_id IN (SELECT id FROM uploads WHERE {which})", {"row": recording_id}
    )
    tx.conn.execute(
        "UPDATE uploads SET state = 'failed', session = NULL, part_size = NULL, intent_at = NULL,"
        " completing_at = NULL, error_class = 'recording', error_code = 'removed',"
        " error_message = 'the local file was removed once the recording was safe, which this copy is not"
        f" required for', error_hint = '' WHERE {which}",
        {"row": recording_id},
    )
    _gone(tx, recording_id)
    told = {**detail, "never_sent_to": unsent} if unsent else dict(detail)
    tx.event(Event("removed", recording_id=recording_id, detail=told))


def vanished(tx: Transaction, recording_id: int) -> None:
    """The file of a safe recording is gone, and not by our hand."""
    if _gone(tx, recording_id):
        tx.event(Event("unlinked", recording_id=recording_id, detail={"by": "somebody else"}))


def _gone(tx: Transaction, recording_id: int) -> bool:
    # By now another content may have taken the path ('replaced').
    cursor = tx.conn.execute(
        "UPDATE recordings SET local = 'removed', past = id, kept = NULL, kept_until = NULL"
        " WHERE id = ? AND local <> 'removed'",
        (recording_id,),
    )
    return cursor.rowcount == 1


def kept(tx: Transaction, recording_id: int, why: str, reason: str, until: Milliseconds) -> bool:
    """The file stays, and is looked at again then. True, and an event, if it was not kept for that before.

    `why` is a word; `reason` a sentence for people.
    """
    tx.conn.execute("DELETE FROM removals WHERE recording_id = ?", (recording_id,))
    (before,) = tx.conn.execute("SELECT kept FROM recordings WHERE id = ?", (recording_id,)).fetchone()
    tx.conn.execute("UPDATE recordings SET kept = ?, kept_until = ? WHERE id = ?", (why, until, recording_id))
    if before == why:
        return False
    tx.event(Event("kept", recording_id=recording_id, detail={"why": why, "reason": reason}))
    return True


def put_off(tx: Transaction, recordings: Sequence[int], until: Milliseconds) -> None:
    """Look at these again then. No event: it is somebody else's trouble, which has its own."""
    for recording_id in recordings:
        tx.conn.execute("DELETE FROM removals WHERE recording_id = ?", (recording_id,))
        tx.conn.execute("UPDATE recordings SET kept_until = ? WHERE id = ?", (until, recording_id))


def reconsider(tx: Transaction, source_id: int, reasons: Sequence[str]) -> int:
    """Look now at what was kept for one of these reasons; how many there were, at most `PAGE`."""
    marks = ", ".join("?" * len(reasons))
    return tx.conn.execute(
        "UPDATE recordings SET kept_until = ? WHERE id IN (SELECT id FROM recordings"
        " WHERE source_id = ? AND state = 'safe' AND past = 0 AND kept_until IS NOT NULL AND kept_until > ?"
        f" AND kept IN ({marks}) LIMIT {PAGE})",
        (tx.now, source_id, tx.now, *reasons),
    ).rowcount


def copy_lost(tx: Transaction, copy: Copy, fault: Fault, found: Mapping[str, object], *, again: bool) -> bool:
    """A verified copy is gone from its provider, or is another by now: it is verified no more.

    `again`: it is queued, so that whoever carries it out proves it anew, or writes it over; later, if its
    file is aside and would seem lost (`begin`). False if somebody else found out before.
    """
    aside = (
        again
        and tx.conn.execute(
            "SELECT 1 FROM removals WHERE recording_id = (SELECT recording_id FROM uploads WHERE id = ?)",
            (copy.upload_id,),
        ).fetchone()
    )
    row = tx.conn.execute(
        "UPDATE uploads SET state = ?, next_attempt_at = ?, verified_at = NULL, etag = NULL,"
        " version_id = NULL, session = NULL, proof_kind = NULL, proof_value = NULL, completing_at = NULL,"
        " error_class = ?, error_code = ?, error_message = ?, error_hint = ?"
        " WHERE id = ? AND state = 'verified' RETURNING recording_id",
        (
            ("retrying" if aside else "queued") if again else "failed",
            tx.now + ASIDE_MS if aside else None,
            fault.failure,
            fault.code,
            fault.message,
            fault.hint,
            copy.upload_id,
        ),
    ).fetchone()
    if row is None:
        return False
    tx.conn.execute("UPDATE recordings SET safe_at = NULL WHERE id = ? AND state <> 'safe'", row)
    detail = {"key": copy.key, "verified": {"etag": copy.etag, "version_id": copy.version_id}, "found": found}
    tx.event(Event(fault.code, provider=copy.provider, recording_id=row[0], detail=detail))
    return True


def begun(tx: Transaction, source_id: int) -> list[Begun]:
    """Removals of the source that were begun and never ended."""
    return [
        Begun(id_, bytes(path), bytes(aside), _identity(size, mtime_ns, inode, device, mark))
        for id_, path, aside, size, mtime_ns, inode, device, mark in tx.conn.execute(
            "SELECT r.id, m.path, m.aside, r.size, r.mtime_ns, r.inode, r.device, r.fingerprint"
            " FROM removals m JOIN recordings r ON r.id = m.recording_id WHERE m.source_id = ?",
            (source_id,),
        )
    ]


def is_begun(tx: Transaction, aside: bytes) -> bool:
    """Whether the file of that name was put aside by a removal that is on record."""
    return tx.conn.execute("SELECT 1 FROM removals WHERE aside = ?", (aside,)).fetchone() is not None


def put_back(tx: Transaction, recording_id: int, detail: Mapping[str, object]) -> None:
    """A removal that was cut off is undone: its file is there."""
    _end(tx, recording_id, "put back")
    tx.event(Event("put-back", recording_id=recording_id, detail=detail))


def _end(tx: Transaction, recording_id: int, how: str) -> None:
    ended = tx.conn.execute("DELETE FROM removals WHERE recording_id = ?", (recording_id,)).rowcount
    if ended != 1:
        raise StaleTransition(f"no removal of recording {recording_id} was begun ({how})")


def _identity(size: int, mtime_ns: int, inode: int, device: int, fingerprint: bytes) -> FileIdentity:
    """Inode and device numbers are unsigned 64-bit; SQLite's integers are signed."""
    mask = 0xFFFFFFFFFFFFFFFF
    return FileIdentity(size, mtime_ns, inode & mask, device & mask, bytes(fingerprint))
