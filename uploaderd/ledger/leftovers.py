"""Sessions that will never be used again, until their provider says that they are gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from uploaderd.ledger.chain import Event
from uploaderd.ledger.writer import Transaction
from uploaderd.model import Milliseconds, ObjectSpec, Session, Token

AGAIN_MS: Final = (60_000, 300_000, 3_600_000)
"""Pauses between tries to abort: a minute, five, then an hour."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A session to be aborted."""

    id: int
    session: Session


def due(tx: Transaction, provider_id: int) -> Leftover | None:
    """The provider's next leftover that it is time to abort; its next try is put off right away."""
    row = tx.conn.execute(
        "SELECT id, key, token, session, part_size, failures FROM leftovers"
        " WHERE provider_id = ? AND next_try_at <= ? ORDER BY next_try_at LIMIT 1",
        (provider_id, tx.now),
    ).fetchone()
    if row is None:
        return None
    id_, key, token, handle, part_size, failures = row
    pause = AGAIN_MS[min(failures, len(AGAIN_MS) - 1)]
    tx.conn.execute(
        "UPDATE leftovers SET failures = failures + 1, next_try_at = ? WHERE id = ?", (tx.now + pause, id_)
    )
    spec = ObjectSpec(key, 0, Token(bytes(token).hex()), "")
    return Leftover(id_, Session(spec, part_size, handle))


def next_due(tx: Transaction, provider_id: int) -> Milliseconds | None:
    """When the next leftover is due; None if there is none."""
    row = tx.conn.execute(
        "SELECT min(next_try_at) FROM leftovers WHERE provider_id = ?", (provider_id,)
    ).fetchone()
    return Milliseconds(row[0]) if row[0] is not None else None


def gone(tx: Transaction, leftover: Leftover, provider: str) -> None:
    """The provider holds nothing of it any more."""
    tx.conn.execute("DELETE FROM leftovers WHERE id = ?", (leftover.id,))
    tx.event(Event("leftover-aborted", provider=provider, detail={"key": leftover.session.spec.key}))
