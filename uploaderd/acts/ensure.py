"""Make sure: sweep now, queue what was missed, and wait until what is there now is safe.

What is there now: the files that a sweep finds, finished or not yet, and whatever the ledger has waiting.
What comes later is not waited for. Whoever asks after some files waits for those alone.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from uploaderd.acts import verify
from uploaderd.acts.acting import Acting, Tell, known, recording
from uploaderd.acts.orders import Ensure, Verify
from uploaderd.errors import LocalFault, Refused
from uploaderd.generation import Generation
from uploaderd.keys import text_of
from uploaderd.ledger import Event, Transaction, acts, awaiting, read
from uploaderd.ledger.wanted import Wanted
from uploaderd.model import RecordingState
from uploaderd.report.status import reason

LOOK_SECONDS: Final = 0.3
"""How often it is looked how far things are."""

NAMED: Final = 20
"""What is named in an answer, of each kind; the others are counted."""

_TROUBLED: Final = (RecordingState.FAILED, RecordingState.LOST, RecordingState.HELD)


async def ensure(order: Ensure, acting: Acting, tell: Tell) -> Mapping[str, Any]:
    """Bring it to safety, or say what keeps it.

    Returns:
        `of` (recordings and files that it is about), `waiting` (those that are not safe), `unfinished`
        (files that are not finished, each with why), `failed` (paths that need a person, with why; at
        most `NAMED`), `failures` (how many do), `missing` (sources that cannot be looked at, with why),
        `troubles` (providers that something waits for, with why), `late` (the time was up), `unproven`
        (with `force`: providers that could not be asked for their copies, with why). What `tell` hears
        has `uploading` as well; or it is `proving`, as `verify` tells it.

    Raises:
        Refused: an unknown name; or nothing is at work that could do it.
        LedgerError: the ledger cannot be used.
    """
    late, making, unproven = False, _making(order, acting), {}
    try:
        async with asyncio.timeout(order.timeout):
            if order.finished or order.force:
                await acting.ledger.run(_noted, order, acting.who)
            if order.force:
                unproven = await _prove_again(order, acting, tell)
            while True:
                with making.asking():
                    await making.begin()
                    while not making.over and await making.look():
                        await tell(await making.progress())
                        await acting.clock.sleep(LOOK_SECONDS)
                if not making.over:
                    break
                making = _making(order, acting)
    except TimeoutError:
        late = await making.look() or not making.begun
    return {**await making.result(), "late": late, "unproven": unproven}


def _making(order: Ensure, acting: Acting) -> _Ensuring:
    generation = acting.generation
    if generation is None:
        raise Refused("nothing is at work that could upload")
    return _Ensuring(order, generation, acting)


async def _prove_again(order: Ensure, acting: Acting, tell: Tell) -> dict[str, str]:
    """Ask for the copies again, queue what is gone and what failed; who could not be asked, and why."""
    everything = order.files is None

    async def told(how_far: Mapping[str, Any]) -> None:
        if "begins" not in how_far:
            await tell({"proving": how_far})

    asked = Verify(None if everything else order.recordings, order.files or (), settle=True, repair=True)
    found = await verify.verify(asked, acting, told)
    rows = None if everything else await verify.rows_of(asked, acting)
    await acting.ledger.run(lambda tx: acts.retry(tx, acting.who, rows, None, None))
    acting.wake()
    return {name: str(found["why"][name]) for name in found["unasked"]}


def _noted(tx: Transaction, order: Ensure, who: str) -> None:
    detail = {name: True for name in ("finished", "force") if getattr(order, name)}
    tx.event(Event("ensure", who, detail={**detail, "files": _told(order.files)}))


def _told(files: Sequence[tuple[str, str]] | None) -> list[str] | str:
    if files is None:
        return "all"
    return [f"{source}: {text_of(unquote_to_bytes(quoted))}" for source, quoted in files[:NAMED]]


class _Ensuring:
    """One order under way."""

    def __init__(self, order: Ensure, generation: Generation, acting: Acting) -> None:
        self._order = order
        self._generation = generation
        self._acting = acting
        self._rows: set[int] = set()
        """Recordings that are waited for, each for itself."""
        self._top: int | None = None
        """All up to this row are waited for; None: only those in `_rows`."""
        self._files: dict[str, dict[bytes, str]] = {name: {} for name in generation.watchers}
        """Files that are not finished yet, by source and path, each with why."""
        self._useless: dict[str, str] = {}
        """Files that cannot be taken in, with why."""
        self._missing: dict[str, str] = {}
        self._of = self._waiting = 0
        self.begun = False

    @property
    def over(self) -> bool:
        """Whether something else is at work by now: the configuration was read again."""
        return self._acting.generation is not self._generation

    def asking(self) -> AbstractContextManager[None]:
        """While it lasts, providers that send on request alone send what it is about."""
        return self._generation.asked(lambda: Wanted(self._top or 0, self._rows))

    async def begin(self) -> None:
        """Find what it is about, and look at it."""
        order = self._order
        self.begun = True
        if order.files is None:
            for name in self._generation.watchers:
                await self._sweep(name)
            self._top = await self._acting.read(awaiting.newest)
            return
        self._rows |= await self._acting.ledger.run(
            lambda tx: {recording(tx, public_id).row for public_id in order.recordings}
        )
        for name, paths in _by_source(order.files).items():
            known(name, self._generation.watchers, "source")
            await self._ask(name, paths)

    async def look(self) -> bool:
        """See how far it is; whether there is something to wait for."""
        for name, files in self._files.items():
            # Taken in since the last look, or given up: asking tells which.
            if settled := files.keys() - set(self._generation.watchers[name].unsettled):
                for path in settled:
                    del files[path]
                await self._ask(name, settled)
        stands = await self._acting.read(awaiting.stands, self._rows)
        while successors := {one.successor for one in stands if one.successor is not None} - self._rows:
            self._rows |= successors
            stands = await self._acting.read(awaiting.stands, self._rows)
        # A sweep may have found files whose recordings are newer than all those that it knew.
        waiting = sum(
            one.state == RecordingState.WAITING for one in stands if self._top is None or one.row > self._top
        )
        if self._top is not None:
            waiting += await self._acting.read(awaiting.waiting_upto, self._top)
        self._waiting = waiting + sum(map(len, self._files.values()))
        self._of = max(self._of, self._waiting, len(self._rows) if self._top is None else 0)
        if self._generation.on_request:
            self._generation.wake()  # which have not heard of what is asked for since the last look
        return self._waiting > 0

    async def _sweep(self, name: str) -> None:
        try:
            await self._generation.sweep(name)
        except LocalFault as fault:
            self._missing[name] = fault.message
            return
        if unsettled := self._generation.watchers[name].unsettled:
            await self._ask(name, unsettled)

    async def _ask(self, name: str, paths: Collection[bytes]) -> None:
        """Look at files now. Their recordings are waited for; those that are not finished yet, too."""
        watcher = self._generation.watchers[name]
        if name not in self._generation.watched:
            self._missing[name] = "it is paused"
            return
        try:
            told = await watcher.ensure(sorted(paths), vouched=self._order.finished)
        except LocalFault as fault:
            self._missing[name] = fault.message
            return
        self._rows |= set(told.rows.values())
        still = set(watcher.unsettled)
        for path, why in told.others.items():
            if path in still:
                self._files[name][path] = why
            elif self._order.files is not None or await asyncio.to_thread(
                os.path.lexists, self._absolute(name, path)
            ):
                self._useless[text_of(self._absolute(name, path))] = why

    def _absolute(self, source: str, path: bytes) -> bytes:
        return os.path.join(os.fsencode(self._generation.config.sources[source].path), path)

    # --- telling -----------------------------------------------------------------------------

    async def progress(self) -> Mapping[str, Any]:
        """How far it is."""
        uploading = [
            {
                "path": text_of(running.claim.path),
                "provider": name,
                "bytes_sent": running.progress.held + running.progress.sent,
                "size": running.claim.identity.size,
                "rate_bytes_per_second": running.meter.rate(),
            }
            for name, pool in self._generation.pools.items()
            for running in pool.running.values()
            if self._top is not None or running.claim.recording_id in self._rows
        ]
        return {**self._values(), "uploading": uploading, "troubles": await self._acting.read(self._troubles)}

    async def result(self) -> Mapping[str, Any]:
        """What came of it."""
        failed, failures = await self._acting.read(self._failed)
        return {
            **self._values(),
            "failed": dict([*self._useless.items(), *failed.items()][:NAMED]),
            "failures": failures + len(self._useless),
            "troubles": await self._acting.read(self._troubles),
        }

    def _values(self) -> dict[str, Any]:
        unfinished = [
            (text_of(self._absolute(name, path)), why)
            for name, files in self._files.items()
            for path, why in list(files.items())[:NAMED]
        ]
        return {
            "of": self._of,
            "waiting": self._waiting,
            "unfinished": dict(unfinished[:NAMED]),
            "missing": dict(self._missing),
        }

    def _failed(self, conn: sqlite3.Connection) -> tuple[dict[str, str], int]:
        """Recordings that need a person, some of them by name, and how many there are."""
        if self._top is not None:
            rows = [
                row
                for state in _TROUBLED
                for row in read.recordings(conn, state=state, limit=NAMED)
                if row.acknowledged_at is None
            ]
            return self._named(rows), read.totals(conn).alarming
        troubled = [
            one.row
            for one in awaiting.stands(conn, self._rows)
            if one.state in _TROUBLED and not one.acknowledged
        ]
        return self._named(read.by_rows(conn, troubled[:NAMED]) if troubled else ()), len(troubled)

    def _named(self, rows: Iterable[read.RecordingRow]) -> dict[str, str]:
        sources = self._generation.config.sources
        return {
            text_of(self._absolute(row.source, row.path) if row.source in sources else row.path): ": ".join(
                (row.state, reason(row)[0])
            )
            for row in rows
        }

    def _troubles(self, conn: sqlite3.Connection) -> dict[str, str]:
        """What is wrong with providers that something waits for."""
        return {
            row.name: f"paused by {row.paused_by}" if row.paused_by else str(row.problem_message)
            for row in read.providers(conn)
            if row.waiting and (row.paused_by or row.problem_message)
        }


def _by_source(files: Iterable[tuple[str, str]]) -> dict[str, list[bytes]]:
    paths: dict[str, list[bytes]] = {}
    for source, quoted in files:
        paths.setdefault(source, []).append(unquote_to_bytes(quoted))
    return paths
