"""Decisions that the ledger keeps: pause and resume, retry, acknowledge, release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uploaderd.acts.acting import Acting, known, recording
from uploaderd.acts.orders import Acknowledge, Pause, Release, Resume, Retry
from uploaderd.errors import NotHeld, Refused
from uploaderd.keys import text_of
from uploaderd.ledger import Transaction, acts, held, read
from uploaderd.logs.setup import get_logger
from uploaderd.model import RecordingState

log = get_logger(__name__)


async def pause(order: Pause, acting: Acting) -> Mapping[str, Any]:
    """`before`: by whom it was paused already, if it was.

    Raises:
        Refused: there is no such provider or source.
    """
    before = await acting.ledger.run(_pause, order, acting.who)
    _switch(acting, order, on=True)
    log.warning("paused", **{order.kind: order.name}, by=acting.who, reason=order.reason)
    return {"before": before}


async def resume(order: Resume, acting: Acting) -> Mapping[str, Any]:
    """`resumed`: whether it was paused.

    Raises:
        Refused: there is no such provider or source.
    """
    resumed = await acting.ledger.run(_resume, order, acting.who)
    _switch(acting, order, on=False)
    log.info("resumed", **{order.kind: order.name}, by=acting.who)
    return {"resumed": resumed}


def _switch(acting: Acting, order: Pause | Resume, *, on: bool) -> None:
    """Tell what is at work; what is not reads it from the ledger when it begins."""
    generation = acting.generation
    if generation is None:
        return
    if order.kind == "provider" and (pool := generation.pools.get(order.name)) is not None:
        (pool.pause if on else pool.resume)()
    elif order.kind == "source" and order.name in generation.watchers:
        (generation.pause_source if on else generation.resume_source)(order.name)


async def retry(order: Retry, acting: Acting) -> Mapping[str, Any]:
    """`queued`, `due`, `without_file`: uploads, as `ledger.acts.Retried` has them; `lost`: paths.

    Raises:
        Refused: an unknown name.
    """
    done, lost = await acting.ledger.run(_retry, order, acting.who)
    generation = acting.generation
    for name, pool in generation.pools.items() if generation is not None else ():
        if order.provider in (None, name):
            pool.hurry()
    return {"queued": done.queued, "due": done.due, "without_file": done.without_file, "lost": lost}


async def acknowledge(order: Acknowledge, acting: Acting) -> Mapping[str, Any]:
    """`acknowledged`: how many; `not`: path and state of those that are in no alarm.

    Raises:
        Refused: an unknown recording, or no reason.
    """
    if not order.reason.strip():
        raise Refused("an acknowledgement needs a reason", "say why it is all right: --reason", kind="usage")
    return await acting.ledger.run(_acknowledge, order, acting.who)


async def release(order: Release, acting: Acting) -> Mapping[str, Any]:
    """`released`: how many; `not`: path, reason and hint of those that cannot be.

    Raises:
        Refused: an unknown recording.
    """
    released, others = await acting.ledger.run(_release, order, acting.who)
    if (generation := acting.generation) is not None:
        watched = generation.watched
        for source, path in released:
            if source in watched:
                watched[source].look_at(path)
    return {"released": len(released), "not": others}


# --- inside the transaction --------------------------------------------------------------------


def _check(tx: Transaction, provider: str | None, source: str | None) -> None:
    known(provider, {row.name: row for row in read.providers(tx.conn)}, "provider")
    known(source, {row.name: row for row in read.sources(tx.conn)}, "source")


def _pause(tx: Transaction, order: Pause, who: str) -> str | None:
    _check_named(tx, order)
    return acts.pause(tx, order.kind, order.name, who, order.reason)


def _resume(tx: Transaction, order: Resume, who: str) -> bool:
    _check_named(tx, order)
    return acts.resume(tx, order.kind, order.name, who)


def _check_named(tx: Transaction, order: Pause | Resume) -> None:
    _check(
        tx,
        order.name if order.kind == "provider" else None,
        order.name if order.kind == "source" else None,
    )


def _retry(tx: Transaction, order: Retry, who: str) -> tuple[acts.Retried, list[str]]:
    _check(tx, order.provider, order.source)
    rows = None if order.recordings is None else [recording(tx, one) for one in order.recordings]
    done = acts.retry(
        tx, who, None if rows is None else [row.row for row in rows], order.provider, order.source
    )
    return done, [text_of(row.path) for row in rows or () if row.state == RecordingState.LOST]


def _acknowledge(tx: Transaction, order: Acknowledge, who: str) -> dict[str, Any]:
    others: list[tuple[str, str]] = []
    count = 0
    for one in order.recordings:
        row = recording(tx, one)
        state = acts.acknowledge(tx, row.row, who, order.reason.strip())
        if state is None:
            count += 1
        else:
            others.append((text_of(row.path), state))
    return {"acknowledged": count, "not": others}


def _release(
    tx: Transaction, order: Release, who: str
) -> tuple[list[tuple[str, bytes]], list[tuple[str, str, str]]]:
    released: list[tuple[str, bytes]] = []
    others: list[tuple[str, str, str]] = []
    for one in order.recordings:
        row = recording(tx, one)
        try:
            released.append(held.release(tx, row.row, who))
        except NotHeld as refused:
            others.append((text_of(row.path), refused.message, refused.hint))
    return released, others
