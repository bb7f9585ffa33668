"""Sources from which nothing comes any more: the camera that died at night (`expect_every`).

The time of a source's last recording is a column of the source, moved by the transaction that queues one:
to ask for it costs the same however many there are. Silence is written down once, with an event, and ends
with the next recording.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from uploaderd.ledger.chain import Event
from uploaderd.ledger.writer import Transaction
from uploaderd.model import Milliseconds, SourceState

CHANGES: Final = (
    # Nothing was expected of it before: it was added then, or a person resumed it.
    "ALTER TABLE sources ADD COLUMN watched_since INTEGER",
    "ALTER TABLE sources ADD COLUMN last_found_at INTEGER",
    "ALTER TABLE sources ADD COLUMN silent_since INTEGER",
    (
        "UPDATE sources SET last_found_at = (SELECT max(found_at) FROM recordings"
        " WHERE source_id = sources.id AND skipped IS NULL)"
    ),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """When something has to come from a source.

    Attributes:
        every: milliseconds after which silence is too long.
        swept_after: the sweep that found nothing new must have ended after this.
        not_before: no judgement before this: what a sweep found may still have to prove itself finished.
    """

    every: int
    swept_after: Milliseconds
    not_before: Milliseconds


def found(tx: Transaction, sources: Collection[int]) -> None:
    """Recordings of these sources were queued, or held: their silence, if there was any, is over."""
    for source in sources:
        silent = tx.conn.execute(
            "SELECT name, silent_since FROM sources WHERE id = ? AND silent_since IS NOT NULL", (source,)
        ).fetchone()
        tx.conn.execute(
            "UPDATE sources SET last_found_at = ?, silent_since = NULL WHERE id = ?", (tx.now, source)
        )
        if silent is not None:
            tx.event(Event("source-heard", source=silent[0], detail={"silent_since": silent[1]}))


def judge(tx: Transaction, expected: Mapping[int, Expected]) -> list[str]:
    """Write down which sources are silent for too long; the names of those that were not so before.

    A source is not silent before a sweep has looked, while its root is missing, which is an alarm of its
    own, or while a person keeps it paused.
    """
    fresh: list[str] = []
    for source, name, state, paused_by, since, last_sweep_at, silent_since in tx.conn.execute(
        "SELECT id, name, state, paused_by, max(coalesce(watched_since, 0), coalesce(last_found_at, 0)),"
        " last_sweep_at, silent_since FROM sources"
    ).fetchall():
        one = expected.get(source)
        if one is None or paused_by is not None or tx.now - since <= one.every:
            if silent_since is not None:
                tx.conn.execute("UPDATE sources SET silent_since = NULL WHERE id = ?", (source,))
            continue
        looked = (last_sweep_at or 0) >= one.swept_after and tx.now >= one.not_before
        if silent_since is not None or state != SourceState.OK or not looked:
            continue
        tx.conn.execute("UPDATE sources SET silent_since = ? WHERE id = ?", (since, source))
        detail = {"since": since, "expect_every_seconds": one.every // 1000}
        tx.event(Event("source-silent", source=name, detail=detail))
        fresh.append(name)
    return fresh
