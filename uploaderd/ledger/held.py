"""Recordings that are kept out of the queue, and how they get into it after all.

One is held for a reason that may pass (its key is another's, no provider is enabled) or by a gate that a
person may open. Whatever it was, the recording is queued when its file is looked at next.
"""

from __future__ import annotations

from uploaderd.errors import NotHeld, StaleTransition
from uploaderd.ledger.chain import Event
from uploaderd.ledger.intake import NewRecording, add_uploads
from uploaderd.ledger.writer import Transaction
from uploaderd.model import RecordingState


def unhold(tx: Transaction, recording_id: int, one: NewRecording) -> None:
    """What held the recording is no more: it gets its uploads, and is queued.

    Whoever acknowledged that it was held did not mean whatever may become of it now.
    """
    moved = tx.conn.execute(
        "UPDATE recordings SET held = NULL, gate = NULL, doubt = ?, needed = ?, required = ?,"
        " acknowledged_at = NULL, fingerprint = ?, finished_by = ?"
        " WHERE id = ? AND held IS NOT NULL AND past = 0"
        " AND NOT EXISTS (SELECT 1 FROM uploads WHERE recording_id = recordings.id)",
        (
            one.doubt,
            one.needed,
            sum(upload.required for upload in one.uploads),
            one.identity.fingerprint,  # one that could not be read had none
            one.finished_by,
            recording_id,
        ),
    )
    if moved.rowcount != 1:
        raise StaleTransition(f"unhold: row {recording_id} was not as expected")
    add_uploads(tx, recording_id, one.uploads)
    tx.event(Event("unheld", recording_id=recording_id, detail={"doubt": one.doubt} if one.doubt else None))


def readable_again(tx: Transaction, recording_id: int) -> bool:
    """Queue again what failed because the file could not be read; whether there was such an upload."""
    moved = tx.conn.execute(
        "UPDATE uploads SET state = 'queued', failures = 0, error_class = NULL, error_code = NULL,"
        " error_message = NULL, error_hint = NULL WHERE recording_id = ? AND state = 'failed'"
        " AND error_class = 'recording' AND error_code IN ('EACCES', 'EPERM')",
        (recording_id,),
    )
    if moved.rowcount == 0:
        return False
    tx.event(Event("readable-again", recording_id=recording_id))
    return True


def because(tx: Transaction, recording_id: int, one: NewRecording) -> None:
    """It stays held, perhaps for another reason than before."""
    changed = tx.conn.execute(
        "UPDATE recordings SET held = ?, gate = ? WHERE id = ? AND held IS NOT NULL AND held <> ?",
        (one.held, one.gate, recording_id, one.held),
    )
    if changed.rowcount == 1:
        tx.event(Event("held", recording_id=recording_id, detail={"reason": one.held}))


def release(tx: Transaction, recording_id: int, who: str) -> tuple[str, bytes]:
    """A person opens the gate that holds the recording. It is queued when its file is looked at next.

    Returns:
        The source's name and the path, for `Watcher.look_at`.

    Raises:
        NotHeld: nothing holds it, or something that no release would help against.
    """
    row = tx.conn.execute(
        "SELECT s.name, r.path, r.state, r.held, r.gate"
        " FROM recordings r JOIN sources s ON s.id = r.source_id WHERE r.id = ? AND r.past = 0",
        (recording_id,),
    ).fetchone()
    if row is None:
        raise NotHeld("its file is not there any more: there is nothing to be released")
    source, path, state, held, gate = row
    if state != RecordingState.HELD:
        raise NotHeld(f"it is {state}, and not held")
    if gate is None:
        raise NotHeld(
            f"releasing it would not help: {held}", "do away with the reason; it then goes on by itself"
        )
    tx.conn.execute("UPDATE recordings SET released_by = ? WHERE id = ?", (who, recording_id))
    tx.event(Event("released", who, recording_id=recording_id, detail={"gate": gate, "reason": held}))
    return str(source), bytes(path)
