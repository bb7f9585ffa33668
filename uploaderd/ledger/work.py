"""An upload's way from its claim on: sent part by part, completed, verified, or not yet.

Each function is one guarded transition: it moves exactly one row that is in the state it expects,
appends the history row in the same transaction, or raises `StaleTransition` and changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from uploaderd.errors import Fault, FileChanged, StaleTransition
from uploaderd.ledger import leftovers
from uploaderd.ledger.chain import Attempt, Event
from uploaderd.ledger.writer import Transaction
from uploaderd.model import (
    Checksum,
    Claim,
    Milliseconds,
    ObjectInfo,
    Part,
    Proof,
    Session,
)

_SENDING: Final = "('uploading')"
_WORKING: Final = "('uploading', 'completing')"


def intend(tx: Transaction, upload_id: int) -> float | None:
    """Before the provider is asked to open anything: key, token and time are on record.

    Returns the seconds since an earlier opening began that nobody knows the outcome of, if there was one.
    """
    (before,) = tx.conn.execute("SELECT intent_at FROM uploads WHERE id = ?", (upload_id,)).fetchone()
    _move(tx, upload_id, _SENDING, "intent_at = coalesce(intent_at, :now)")
    return None if before is None else max(0.0, (tx.now - before) / 1000)


def rekey(tx: Transaction, upload_id: int, key: str, replaces: str | None) -> None:
    """A conflict, resolved before anything was sent: another key, or the object to be replaced."""
    _move(tx, upload_id, _SENDING, "key = :key, replaces = :replaces", key=key, replaces=replaces)
    tx.event(
        Event(
            "conflict",
            recording_id=_recording(tx.conn, upload_id),
            detail={"key": key, "replaces": replaces},
        )
    )


def opened(tx: Transaction, upload_id: int, session: Session, strays: Sequence[Session] = ()) -> None:
    """The provider gave a session; `strays`, of earlier openings, become leftovers."""
    for stray in strays:
        tx.conn.execute(
            "INSERT INTO leftovers (provider_id, key, token, session, part_size, since, next_try_at)"
            " SELECT provider_id, key, token, ?, ?, ?, ? FROM uploads WHERE id = ?",
            (stray.handle, stray.part_size, tx.now, tx.now, upload_id),
        )
    _move(
        tx,
        upload_id,
        _SENDING,
        "session = :session, part_size = :part_size, intent_at = NULL",
        session=session.handle,
        part_size=session.part_size,
    )


def session_lost(tx: Transaction, upload_id: int) -> None:
    """The session is gone at the provider: the next one starts from the first byte, same token."""
    tx.conn.execute("DELETE FROM parts WHERE upload_id = ?", (upload_id,))
    _move(
        tx,
        upload_id,
        _WORKING,
        "state = 'uploading', session = NULL, part_size = NULL, completing_at = NULL",
    )


def resumed(tx: Transaction, upload_id: int, kept: Sequence[Part]) -> None:
    """The attempt goes on with a session; the provider holds these parts of it, and they count from now on.

    Receipts of others go: a part that is sent anew may have the number of one that is not there any more.
    """
    _move(tx, upload_id, _SENDING, "resumed_from = :held", held=sum(part.size for part in kept))
    tx.conn.execute("DELETE FROM parts WHERE upload_id = ?", (upload_id,))
    for part in kept:
        part_done(tx, upload_id, part)


def charge(tx: Transaction, upload_id: int, size: int) -> None:
    """Count bytes before they are sent; a negative size gives back what was not sent after all."""
    _move(tx, upload_id, _WORKING, "bytes_sent = bytes_sent + :size", size=size)


def part_done(tx: Transaction, upload_id: int, part: Part) -> None:
    """The provider took a part."""
    tx.conn.execute(
        "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            upload_id,
            part.number,
            part.offset,
            part.size,
            part.checksum.crc32c,
            part.checksum.crc64nvme.to_bytes(8, "big"),
            part.checksum.md5,
            part.etag,
            part.checked,
        ),
    )


def content_known(tx: Transaction, recording_id: int, content: Checksum) -> None:
    """The checksum of the whole content, as one pass over the file found it.

    Raises:
        FileChanged: another pass over the same recording found another content.
    """
    crc64nvme = content.crc64nvme.to_bytes(8, "big")
    cursor = tx.conn.execute(
        "UPDATE recordings SET crc32c = ?, crc64nvme = ? WHERE id = ? AND size = ?"
        " AND (crc64nvme IS NULL OR (crc32c = ? AND crc64nvme = ?))",
        (content.crc32c, crc64nvme, recording_id, content.size, content.crc32c, crc64nvme),
    )
    if cursor.rowcount != 1:
        raise FileChanged(
            "the content differs from what another upload of the same recording read", code="content"
        )


def completing(tx: Transaction, upload_id: int, content: Checksum, charged: int = 0) -> None:
    """Committed before the call that makes the object visible; `charged` bytes go with it.

    Raises:
        FileChanged: another upload of the recording read another content.
    """
    content_known(tx, _recording(tx.conn, upload_id), content)
    _move(
        tx,
        upload_id,
        _WORKING,
        "state = 'completing', completing_at = :now, bytes_sent = bytes_sent + :size",
        size=charged,
    )


def abandon(tx: Transaction, upload_id: int) -> None:
    """The session will never be used again: it becomes a leftover, to be aborted."""
    _leave(tx, upload_id)
    _move(
        tx,
        upload_id,
        _WORKING,
        "state = 'uploading', session = NULL, part_size = NULL, intent_at = NULL, completing_at = NULL",
    )


def verified(
    tx: Transaction, upload_id: int, found: ObjectInfo, proof: Proof, *, unlinked: bool = False
) -> list[str]:
    """The provider's evidence is in: the copy is there, whole.

    Returns the providers that hold a verified copy, if that made the recording safe; otherwise none.
    `unlinked`: somebody unlinked the file while we held it open and read it whole.
    """
    recording_id = _recording(tx.conn, upload_id)
    if unlinked:
        _unlinked(tx, recording_id)
    _record(tx, upload_id, "verified")
    _move(
        tx,
        upload_id,
        _WORKING,
        "state = 'verified', verified_at = :now, attempt_at = NULL, session = NULL, failures = 0,"
        " etag = :etag, version_id = :version, proof_kind = :kind, proof_value = :value,"
        " error_class = NULL, error_code = NULL, error_message = NULL, error_hint = NULL",
        etag=found.etag,
        version=found.version_id,
        kind=proof.kind,
        value=proof.value,
    )
    tx.conn.execute("DELETE FROM parts WHERE upload_id = ?", (upload_id,))
    row = tx.conn.execute(
        "UPDATE providers SET last_verified_at = ? WHERE id = (SELECT provider_id FROM uploads WHERE id = ?)"
        " RETURNING id",
        (tx.now, upload_id),
    ).fetchone()
    assert row is not None
    return [
        name
        for (name,) in tx.conn.execute(
            "SELECT p.name FROM recordings r JOIN uploads u ON u.recording_id = r.id AND u.state = 'verified'"
            " JOIN providers p ON p.id = u.provider_id"
            " WHERE r.id = ? AND r.state = 'safe' AND r.safe_at = ? ORDER BY p.id",
            (recording_id, tx.now),
        )
    ]


def retry_later(
    tx: Transaction, upload_id: int, fault: Fault, next_attempt_at: Milliseconds, *, progress: bool
) -> None:
    """A transient fault: wait until then. Progress made since the last failure starts the count anew."""
    _record(tx, upload_id, "retrying", fault)
    _move(
        tx,
        upload_id,
        _WORKING,
        "state = 'retrying', attempt_at = NULL, next_attempt_at = :next,"
        " failures = CASE WHEN :progress THEN 1 ELSE failures + 1 END," + _ERROR,
        next=next_attempt_at,
        progress=progress,
        **_error(fault),
    )


def requeue(tx: Transaction, upload_id: int, fault: Fault) -> None:
    """The provider is in trouble, not this upload: back into the queue, which its gate holds shut."""
    _record(tx, upload_id, "retrying", fault)
    _move(
        tx,
        upload_id,
        _WORKING,
        "state = 'queued', attempt_at = NULL," + _ERROR,
        **_error(fault),
    )


def failed(tx: Transaction, upload_id: int, fault: Fault) -> None:
    """Needs a person (or was superseded). A session that is left becomes a leftover."""
    _record(tx, upload_id, "failed", fault)
    _leave(tx, upload_id)
    _move(
        tx,
        upload_id,
        _WORKING,
        "state = 'failed', attempt_at = NULL, session = NULL, part_size = NULL, intent_at = NULL,"
        " completing_at = NULL," + _ERROR,
        **_error(fault),
    )


def earlier_version(tx: Transaction, recording_id: int, provider_id: int, token: str) -> bool:
    """Whether the token is of an upload of an earlier recording at the same path."""
    return (
        tx.conn.execute(
            "SELECT 1 FROM recordings now JOIN recordings before"
            " ON before.source_id = now.source_id AND before.path = now.path AND before.past <> 0"
            " JOIN uploads u ON u.recording_id = before.id AND u.provider_id = ?"
            " WHERE now.id = ? AND u.token = ?",
            (provider_id, recording_id, bytes.fromhex(token)),
        ).fetchone()
        is not None
    )


def gone(tx: Transaction, upload_id: int, fault: Fault, path: bytes) -> bool:
    """No file is at `path` any more. True if the recording is lost; False if it was only renamed.

    The upload of a lost recording fails; that of a renamed one goes back into the queue.
    """
    recording_id = _recording(tx.conn, upload_id)
    (there,) = tx.conn.execute("SELECT path FROM recordings WHERE id = ?", (recording_id,)).fetchone()
    if bytes(there) != path:
        requeue(tx, upload_id, fault)
        return False
    failed(tx, upload_id, fault)
    fresh = tx.conn.execute(
        "UPDATE recordings SET lost_at = ?, local = 'removed', past = id"
        " WHERE id = ? AND lost_at IS NULL AND superseded_by IS NULL AND past = 0",
        (tx.now, recording_id),
    ).rowcount
    if fresh:
        tx.event(Event("lost", recording_id=recording_id, detail={"reason": fault.message}))
    return True


def unclaim(tx: Transaction, claim: Claim) -> None:
    """Only a look was taken, and nothing found: the upload is queued as it was, and had no attempt."""
    _move(
        tx,
        claim.upload_id,
        _SENDING,
        "state = 'queued', attempt_at = NULL, attempts = attempts - 1, key = :key, replaces = :replaces",
        key=claim.key,
        replaces=claim.replaces,
    )


def stopped(tx: Transaction, upload_id: int) -> None:
    """A clean stop in mid-attempt: the session is kept for the next start."""
    _record(tx, upload_id, "stopped")
    _move(tx, upload_id, _WORKING, "state = 'queued', attempt_at = NULL")


def _unlinked(tx: Transaction, recording_id: int) -> None:
    fresh = tx.conn.execute(
        "UPDATE recordings SET local = 'removed', past = id WHERE id = ? AND past = 0", (recording_id,)
    ).rowcount
    if fresh:
        tx.event(Event("unlinked", recording_id=recording_id))


def recover(tx: Transaction) -> int:
    """At start: what was being worked on goes back into the queue, and says so; how many."""
    interrupted = [
        row[0] for row in tx.conn.execute("SELECT id FROM uploads WHERE state IN ('uploading', 'completing')")
    ]
    for upload_id in interrupted:
        _record(tx, upload_id, "interrupted")
        _move(tx, upload_id, _WORKING, "state = 'queued', attempt_at = NULL")
    return len(interrupted)


_ERROR: Final = " error_class = :class, error_code = :code, error_message = :message, error_hint = :hint"


def _error(fault: Fault) -> dict[str, object]:
    return {
        "class": fault.failure,
        "code": fault.code or None,
        "message": fault.message,
        "hint": fault.hint or None,
    }


def _move(tx: Transaction, upload_id: int, states: str, change: str, **values: object) -> None:
    """Change one upload that is in one of `states`; `change` is ours, never a caller's text."""
    cursor = tx.conn.execute(
        f"UPDATE uploads SET {change} WHERE id = :id AND state IN {states}",
        {"id": upload_id, "now": tx.now, **values},
    )
    if cursor.rowcount != 1:
        row = tx.conn.execute("SELECT state FROM uploads WHERE id = ?", (upload_id,)).fetchone()
        raise StaleTransition(
            f"upload {upload_id} is {row[0] if row else 'gone'}, expected {states} ({change})"
        )


def _leave(tx: Transaction, upload_id: int) -> None:
    leftovers.leave(tx, "id = :row", upload_id)
    tx.conn.execute("DELETE FROM parts WHERE upload_id = ?", (upload_id,))


def _recording(conn: sqlite3.Connection, upload_id: int) -> int:
    return int(conn.execute("SELECT recording_id FROM uploads WHERE id = ?", (upload_id,)).fetchone()[0])


def _record(tx: Transaction, upload_id: int, outcome: str, fault: Fault | None = None) -> None:
    """Append the attempt that ends now, from what the row says of it."""
    row = tx.conn.execute(
        "SELECT u.recording_id, p.name, u.attempts, u.attempt_at, u.bytes_sent - u.bytes_before,"
        " u.resumed_from FROM uploads u JOIN providers p ON p.id = u.provider_id"
        " WHERE u.id = ? AND u.attempt_at IS NOT NULL",
        (upload_id,),
    ).fetchone()
    if row is None:
        raise StaleTransition(f"upload {upload_id} has no attempt to end ({outcome})")
    recording_id, provider, number, started_at, bytes_sent, resumed_from = row
    tx.history.attempt(
        Attempt(
            recording_id=recording_id,
            upload_id=upload_id,
            provider=provider,
            number=number,
            started_at=started_at,
            ended_at=tx.now,
            outcome=outcome,
            failure=fault.failure if fault else None,
            code=(fault.code or None) if fault else None,
            http_status=fault.http_status if fault else None,
            request_id=fault.request_id if fault else None,
            bytes_sent=bytes_sent,
            resumed_from=resumed_from,
            message=fault.message if fault else None,
        )
    )
