"""Sessions that will never be used again, until their provider says that they are gone.

A session without a handle is one that may exist: its opening, or a write in one request, was begun, and no
answer is on record. The provider is asked for it, once no upload of that key is under way whose session could
be taken for it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from uploaderd.ledger.chain import Event
from uploaderd.ledger.writer import Transaction
from uploaderd.model import Milliseconds, ObjectSpec, Session, Token

AGAIN_MS: Final = (10_000, 60_000, 300_000, 3_600_000)
"""Pauses between tries to abort. The first is short: the try may have been cut off by a crash."""

_MAY_BE_TRIED: Final = (
    "(session <> '' OR NOT EXISTS (SELECT 1 FROM uploads u WHERE u.provider_id = leftovers.provider_id"
    " AND u.key = leftovers.key AND u.state NOT IN ('verified', 'failed')))"
)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A session to be aborted; without a handle, one to be looked for that was begun `seconds` ago."""

    id: int
    session: Session
    seconds: float


def leave(tx: Transaction, which: str, row: int) -> None:
    """Make leftovers of the sessions of uploads; `which` is ours (with `:row`), never a caller's text."""
    tx.conn.execute(
        "INSERT INTO leftovers (provider_id, key, token, session, part_size, since, next_try_at)"
        " SELECT provider_id, key, token, coalesce(session, ''), coalesce(part_size, 0),"
        " coalesce(intent_at, completing_at, :now), :now FROM uploads"
        f" WHERE {which} AND coalesce(session, intent_at, completing_at) IS NOT NULL",
        {"now": tx.now, "row": row},
    )


def due(tx: Transaction, provider_id: int) -> Leftover | None:
    """The provider's next leftover that it is time to abort; its next try is put off right away."""
    row = tx.conn.execute(
        "SELECT id, key, token, session, part_size, since, failures FROM leftovers"
        f" WHERE provider_id = ? AND next_try_at <= ? AND {_MAY_BE_TRIED} ORDER BY next_try_at LIMIT 1",
        (provider_id, tx.now),
    ).fetchone()
    if row is None:
        return None
    id_, key, token, handle, part_size, since, failures = row
    pause = AGAIN_MS[min(failures, len(AGAIN_MS) - 1)]
    tx.conn.execute(
        "UPDATE leftovers SET failures = failures + 1, next_try_at = ? WHERE id = ?", (tx.now + pause, id_)
    )
    spec = ObjectSpec(key, 0, Token(bytes(token).hex()), "")
    return Leftover(id_, Session(spec, part_size, handle), max(0.0, (tx.now - since) / 1000))


def next_due(tx: Transaction, provider_id: int) -> Milliseconds | None:
    """When the next leftover is due; None if there is none."""
    row = tx.conn.execute(
        f"SELECT min(next_try_at) FROM leftovers WHERE provider_id = ? AND {_MAY_BE_TRIED}", (provider_id,)
    ).fetchone()
    return Milliseconds(row[0]) if row[0] is not None else None


def gone(
    tx: Transaction, leftover: Leftover, provider: str, *, found: bool = True, expires_days: int = 0
) -> None:
    """The provider holds nothing of it any more, or ends it by itself after so many days.

    `found`: it did hold something before.
    """
    tx.conn.execute("DELETE FROM leftovers WHERE id = ?", (leftover.id,))
    if not found:
        return
    detail: dict[str, object] = {"key": leftover.session.spec.key}
    if expires_days:
        tx.event(Event("leftover-expires", provider=provider, detail={**detail, "within_days": expires_days}))
    else:
        tx.event(Event("leftover-aborted", provider=provider, detail=detail))


def count(conn: sqlite3.Connection, provider_id: int) -> int:
    """Sessions that the provider may still hold something of."""
    (left,) = conn.execute("SELECT count(*) FROM leftovers WHERE provider_id = ?", (provider_id,)).fetchone()
    return int(left)
