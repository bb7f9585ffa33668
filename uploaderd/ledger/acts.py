"""What people decide of providers, sources and recordings: each with an event that tells who did it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from uploaderd.ledger.chain import Event
from uploaderd.ledger.writer import Transaction

Kind = Literal["provider", "source"]

_TABLES: Final[Mapping[Kind, str]] = {"provider": "providers", "source": "sources"}

_NO_ERROR: Final = "error_class = NULL, error_code = NULL, error_message = NULL, error_hint = NULL"


OVER: Final = ("superseded", "removed")
"""Codes of uploads that are failed for good, and that nobody misses."""


@dataclass(frozen=True, slots=True)
class Retried:
    """What trying again came to, in uploads.

    Attributes:
        queued: were failed, and are in the queue again.
        due: were waiting for their next attempt, which is due now.
        without_file: failed, and their local file is gone.
    """

    queued: int = 0
    due: int = 0
    without_file: int = 0


def pause(tx: Transaction, kind: Kind, name: str, who: str, reason: str) -> str | None:
    """Pause a provider or source until somebody resumes it; by whom it was paused already, if it was."""
    table = _TABLES[kind]
    by = f"{who} ({reason})" if reason else who
    paused = tx.conn.execute(
        f"UPDATE {table} SET paused_by = ? WHERE name = ? AND paused_by IS NULL", (by, name)
    )
    if paused.rowcount != 1:
        row = tx.conn.execute(f"SELECT paused_by FROM {table} WHERE name = ?", (name,)).fetchone()
        return str(row[0])
    tx.event(_about(kind, name, "paused", who, {"reason": reason} if reason else {}))
    return None


def resume(tx: Transaction, kind: Kind, name: str, who: str) -> bool:
    """End a person's pause. False if there was none."""
    table = _TABLES[kind]
    resumed = tx.conn.execute(
        f"UPDATE {table} SET paused_by = NULL WHERE name = ? AND paused_by IS NOT NULL", (name,)
    )
    if resumed.rowcount != 1:
        return False
    if kind == "source":
        # Its silence while it was paused was no alarm, and is none afterwards.
        tx.conn.execute("UPDATE sources SET watched_since = ? WHERE name = ?", (tx.now, name))
    tx.event(_about(kind, name, "resumed", who, {}))
    return True


def _about(kind: Kind, name: str, what: str, who: str, detail: Mapping[str, object]) -> Event:
    if kind == "provider":
        return Event(what, who, provider=name, detail=detail)
    return Event(what, who, source=name, detail=detail)


def paused(tx: Transaction, kind: Kind) -> frozenset[str]:
    """The providers or sources that a person paused."""
    rows = tx.conn.execute(f"SELECT name FROM {_TABLES[kind]} WHERE paused_by IS NOT NULL")
    return frozenset(row[0] for row in rows)


def retry(
    tx: Transaction, who: str, recordings: Sequence[int] | None, provider: str | None, source: str | None
) -> Retried:
    """Try again now what failed, or waits for its next attempt.

    Args:
        tx: the transaction.
        who: asks for it.
        recordings: their rows; None: all of them.
        provider: only uploads to this one.
        source: only recordings of this one.
    """
    queued = due = without_file = 0
    touched: set[int] = set()
    for upload, recording, state, past, code in _troubled(tx, recordings, provider, source):
        if state == "retrying":
            tx.conn.execute(
                "UPDATE uploads SET next_attempt_at = min(next_attempt_at, ?) WHERE id = ?", (tx.now, upload)
            )
            due += 1
        elif past == 0:
            tx.conn.execute(
                f"UPDATE uploads SET state = 'queued', failures = 0, {_NO_ERROR}"
                " WHERE id = ? AND state = 'failed'",
                (upload,),
            )
            # Whoever has it tried again wants to know if it fails again.
            tx.conn.execute("UPDATE recordings SET acknowledged_at = NULL WHERE id = ?", (recording,))
            queued += 1
        else:
            without_file += code not in OVER
            continue
        touched.add(recording)
    if touched:
        detail = {"queued": queued, "due": due}
        if recordings is None:
            tx.event(Event("retried", who, provider=provider, source=source, detail=detail))
        for recording in sorted(touched) if recordings is not None else ():
            tx.event(Event("retried", who, provider=provider, recording_id=recording))
    return Retried(queued, due, without_file)


def _troubled(
    tx: Transaction, recordings: Sequence[int] | None, provider: str | None, source: str | None
) -> list[tuple[int, int, str, int, str | None]]:
    """Uploads that failed or wait, with their recording, state, its `past` and the error's code."""
    conditions = ["u.state IN ('failed', 'retrying')", "p.state <> 'retired'"]
    if recordings is not None:
        # One value, however many they are: SQLite takes 32,766 at most.
        conditions.append("u.recording_id IN (SELECT value FROM json_each(?))")
    if provider is not None:
        conditions.append("p.name = ?")
    if source is not None:
        conditions.append("s.name = ?")
    listed = [json.dumps(recordings)] if recordings is not None else []
    values = [*listed, *(name for name in (provider, source) if name is not None)]
    rows = tx.conn.execute(
        "SELECT u.id, u.recording_id, u.state, r.past, u.error_code FROM uploads u"
        " JOIN providers p ON p.id = u.provider_id JOIN recordings r ON r.id = u.recording_id"
        f" JOIN sources s ON s.id = r.source_id WHERE {' AND '.join(conditions)}",
        values,
    )
    return rows.fetchall()


def acknowledge(tx: Transaction, recording: int, who: str, reason: str) -> str | None:
    """Take a failed, lost or held recording out of the alarm; its state, if that keeps it from being so."""
    done = tx.conn.execute(
        "UPDATE recordings SET acknowledged_at = ? WHERE id = ? AND state IN ('failed', 'lost', 'held')"
        " AND acknowledged_at IS NULL",
        (tx.now, recording),
    )
    if done.rowcount != 1:
        state, before = tx.conn.execute(
            "SELECT state, acknowledged_at FROM recordings WHERE id = ?", (recording,)
        ).fetchone()
        return "acknowledged already" if before is not None else str(state)
    tx.event(Event("acknowledged", who, recording_id=recording, detail={"reason": reason}))
    return None
