"""One source, watched: hints make candidates, a timer looks at them again, and the sweep misses none.

Events are hints; whatever casts doubt on them (a new folder, an error, a root that came back) asks for
a sweep of what is in doubt. What is judged finished is offered to the intake, which decides what it is.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

from watchfiles import Change

from uploaderd.clock import Clock, wait_for
from uploaderd.config import Source
from uploaderd.ensuring import Ensured, Ensuring
from uploaderd.errors import LedgerBroken, LedgerError, LedgerFull, SourceMissing
from uploaderd.finished import Judge
from uploaderd.hints import Hints, flood, watch_limit_reached
from uploaderd.intake import Intake
from uploaderd.keys import text_of
from uploaderd.ledger import Ledger, health
from uploaderd.listener import LIMIT, UNREADABLE, Listener
from uploaderd.logs.setup import get_logger
from uploaderd.markers import BUSY, marked_by
from uploaderd.model import FoundBy
from uploaderd.mounts import Mount
from uploaderd.presence import Presence
from uploaderd.root import Root
from uploaderd.schedule import Schedule
from uploaderd.settling import RETRY_SECONDS, Settling
from uploaderd.sweep import Batch, Sweep, SweepResult
from uploaderd.walk import Tally

log = get_logger(__name__)
T = TypeVar("T")

ROOT_SECONDS: Final = 2.0
"""How often the root itself is looked at: it may be unmounted, or made anew, without any event."""

POLL_SECONDS: Final = 10.0
"""How often the tree is swept where events do not tell all."""

POLL_SHARE: Final = 20
"""A sweep that takes long is repeated after that many times its own length at the earliest."""

WRITTEN_SECONDS: Final = 3_600.0
"""How old the last sweep in the ledger may be while we watch. The daemon itself tells of each; written down,
each would wake the disk of a machine at which nothing happens."""

UNSEEN: Final = 3
"""Folders that cannot be looked into that are named; the others are counted."""


class Watcher:
    """Watches one source until cancelled."""

    def __init__(
        self,
        name: str,
        source: Source,
        source_id: int,
        intake: Intake,
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self._name = name
        self._source = source
        self._id = source_id
        self._intake = intake
        self._ledger = ledger
        self._clock = clock
        self._path = os.fsencode(source.path).rstrip(b"/") or b"/"
        self._takes = intake.belonging.of(name).take
        self._judge = Judge(self._path, source, clock)
        self._presence = Presence(name, self._path, source_id, ledger, self.request_sweep)
        # Of its own: a mount that hangs must not hold up other sources.
        self._threads = ThreadPoolExecutor(3, thread_name_prefix=f"watch-{name}")
        self._settling = Settling(
            name,
            self._path,
            self._judge,
            self._takes,
            intake,
            clock,
            self._threads,
            lambda: self._presence.inodes,
        )
        self._sweep = Sweep(
            self._path, source_id, ledger.path, self._judge, self._takes, self._settling.candidates
        )
        self._ensuring = Ensuring(
            self._path, source_id, ledger.path, self._takes, self._settling, self._threads
        )
        self._listener = Listener(
            name, self._path, clock, self._root_to_hear, self._heard, lambda: self._in_doubt(b"")
        )
        self._schedule = Schedule()
        self._sweeping = asyncio.Lock()
        self._next: asyncio.Task[SweepResult] | None = None
        self._last: SweepResult | None = None
        self._in_ledger: SweepResult | None = None
        self._sweep_due = asyncio.Event()
        self._stuck_due = -math.inf
        self._written = -math.inf
        self._flood = flood()
        self._unseen = ""

    # --- for others ------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, object]:
        """How the source is watched, as `status` shows it; plain values only.

        `missing`, `unseen` (folders that cannot be looked into) and `polling` say why, or are null; `lease`
        is null until a file was looked at.
        """
        last = self._last
        return {
            "missing": self._presence.missing or None,
            "unseen": self._unseen or None,
            "listening": self._listener.listening,
            "polling": self._polling() or None,
            "lease": self._judge.lease,
            "candidates": len(self._settling.candidates),
            "last_sweep": None
            if last is None
            else {"at": last.at, "files": last.files, "seconds": last.seconds, "unreadable": last.unreadable},
        }

    @property
    def settled(self) -> bool:
        """Whether a sweep has come to its end and nothing that was found waits to be taken in."""
        return self.only_open == []

    @property
    def only_open(self) -> list[bytes] | None:
        """Files that somebody still writes, if there is nothing else to wait for; None while there is."""
        if self._last is None or self._sweeping.locked() or self._schedule.asked:
            return None
        return self._settling.only_open

    @property
    def unsettled(self) -> list[bytes]:
        """Files that were found and are neither taken in nor given up."""
        return self._settling.unsettled

    def request_sweep(self) -> None:
        """Sweep the whole tree as soon as possible."""
        self._schedule.ask(self._clock.monotonic())
        self._sweep_due.set()

    def look_at(self, path: bytes) -> None:
        """Somebody found the file changed: look at it anew."""
        self._settling.look_at(path)

    async def sweep(self) -> SweepResult:
        """Sweep the whole tree now; returns when what was found is taken in, or a candidate.

        Callers that ask before it begins share one.

        Raises:
            SourceMissing: the root is not there: nothing can be said of its files.
            LedgerError: the ledger could not take it in.
        """
        if self._next is None:
            self._next = asyncio.ensure_future(self._sweep_now())
        return await asyncio.shield(self._next)

    async def ensure(self, paths: Sequence[bytes], *, vouched: bool = False) -> Ensured:
        """Look at these files, and at all below these folders, now; their recordings.

        Args:
            paths: relative to the source; the empty one is all of it.
            vouched: the caller knows that they are finished: the quiet time is skipped, and markers are not
                waited for. What somebody has open for writing is taken in once it is closed.

        Raises:
            SourceMissing: the root is not there.
            LedgerError: the ledger cannot be used.
        """
        await self._presence.require()
        return await self._ensuring.look(paths, vouched=vouched, inodes=self._presence.inodes)

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            LedgerBroken: the ledger's storage failed.
        """
        await self._presence.begin()
        self._schedule.ask(self._clock.monotonic())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_sweeping())
                group.create_task(self._keep_looking())
                group.create_task(self._settling.run())
                group.create_task(self._listener.run())
        except BaseExceptionGroup as failed:
            if (broken := failed.subgroup(LedgerBroken)) is not None:
                raise _first(broken) from None
            raise
        finally:
            self._presence.close()
            if self._next is not None:
                self._next.cancel()
                self._next = None
            # Without us the ledger alone knows of it, and so it does until the next generation has swept.
            if self._last is not None and self._last is not self._in_ledger:
                with suppress(LedgerError):
                    await self._write_down(self._last)

    # --- hints -----------------------------------------------------------------------------------

    async def _heard(self, batch: Hints) -> None:
        """Make candidates of what changed, and doubts of folders that are new or were closed to us."""
        if len(batch) >= self._flood:
            self._in_doubt(b"")
        cut = len(self._path.rstrip(b"/")) + 1
        wanted: dict[bytes, bool] = {}
        for change, text in batch:
            path = os.fsencode(text)[cut:]
            if self._source.finished == "marker" and (of := marked_by(path)) is not None:
                if path.endswith(BUSY):
                    self._judge.markers.was_busy(of)
                wanted.setdefault(of, False)
            elif change is Change.deleted:
                self._settling.candidates.drop(path)
            elif path:
                wanted[path] = wanted.get(path, False) or change is Change.added
        for folder, in_doubt in (await self._settling.see(wanted)).items():
            if in_doubt:
                self._in_doubt(folder)
            elif self._unseen:
                self._in_doubt(b"")  # it may have been opened to us

    def _in_doubt(self, folder: bytes) -> None:
        self._schedule.doubt(folder, self._clock.monotonic())
        self._sweep_due.set()

    # --- sweeps ----------------------------------------------------------------------------------

    async def _keep_sweeping(self) -> None:
        swept = True
        while True:
            # A sweep stays due for as long as the root is missing, or the ledger refuses.
            wait = self._schedule.next_due() - self._clock.monotonic() if swept else ROOT_SECONDS
            await wait_for(self._sweep_due, self._clock, min(ROOT_SECONDS, wait))
            swept = False
            try:
                await self._presence.look()
                if self._settling.candidates.room_again():
                    self._in_doubt(b"")
                if self._presence.there:
                    for folder in self._schedule.take_due(self._clock.monotonic()):
                        async with self._sweeping:
                            await self._swept(folder)
                    swept = True
            except LedgerBroken:
                raise
            except (LedgerError, OSError) as error:
                log.warning("a sweep was cut short", source=self._name, reason=str(error))

    async def _keep_looking(self) -> None:
        """Look at the root during a sweep, too, which may never come back from a mount that hangs."""
        while True:
            await self._clock.sleep(ROOT_SECONDS)
            if self._sweeping.locked():
                with suppress(LedgerFull):  # asked again soon
                    await self._presence.look()

    async def _sweep_now(self) -> SweepResult:
        async with self._sweeping:
            self._next = None  # Who asks from here on wants one that begins later.
            await self._presence.require()
            try:
                return await self._swept(b"")
            except OSError as error:
                raise SourceMissing(f"sweeping {self._name} failed: {error.strerror}") from error

    async def _swept(self, folder: bytes) -> SweepResult:
        """Sweep below the folder (all, if empty), and take in what is finished."""
        began = self._clock.monotonic()
        if not folder:
            self._schedule.began(again=began + RETRY_SECONDS)
        queued = 0
        tally = Tally()
        unseen: list[str] = []
        # Polling sweeps more often: what is stuck is not looked at in every one of these.
        stuck_too = not folder and (began >= self._stuck_due or self._intake.lenient)
        if stuck_too:
            self._stuck_due = began + self._source.sweep_every
        batches = self._sweep.batches(folder, tally, inodes=self._presence.inodes, stuck_too=stuck_too)
        step: asyncio.Future[Batch | None] | None = None
        try:
            while True:
                step = asyncio.ensure_future(self._on_thread(next, batches, None))
                # Shielded: a cancelled wait ends no thread, and only an idle generator can be closed.
                if (batch := await asyncio.shield(step)) is None:
                    break
                for one in batch.unfinished:
                    self._settling.found(one.path, one.identity, one.wait, writer=one.writer)
                for path, reason in batch.unreadable:
                    self._settling.cannot_read(path, reason)
                    if len(unseen) < UNSEEN:
                        unseen.append(f"{text_of(path)}: {reason}")
                for path, looked in batch.finished:
                    self._settling.candidates.drop_if(path, looked.identity)
                taken = await self._settling.offer(
                    (path, looked, FoundBy.SWEEP) for path, looked in batch.finished
                )
                queued += taken.queued
                for path in taken.linked:
                    self._sweep.nothing_new(path)
        finally:
            tally.unwanted = True
            if step is not None:
                await asyncio.gather(step, return_exceptions=True)
            await self._on_thread(batches.close)
        seconds = self._clock.monotonic() - began
        result = SweepResult(tally.files, tally.folders, tally.unreadable, queued, seconds, self._clock.now())
        await self._see_less(folder, unseen, tally.unreadable)
        if not folder:
            await self._completed(result, tally.passing)
        return result

    async def _see_less(self, swept: bytes, unseen: list[str], count: int) -> None:
        """What was swept has so many folders that cannot be looked into, of which the first are named."""
        if swept and not unseen:
            return  # elsewhere there may be some
        if swept:
            self._in_doubt(b"")  # the whole tree is polled from then on
        elif self._unseen and not unseen:
            log.info("all folders can be looked into again", source=self._name)
            self._listener.listen_anew()
        if not swept or not self._unseen:
            self._unseen = ", ".join(unseen) + (f" and {count - UNSEEN} more" if count > UNSEEN else "")
        await self._ledger.run(health.unseen, self._id, self._unseen or None)

    async def _completed(self, result: SweepResult, cost: float) -> None:
        if self._clock.monotonic() - self._written >= WRITTEN_SECONDS:
            await self._write_down(result)
        self._last = result
        log.debug(
            "swept", source=self._name, files=result.files, queued=result.queued, seconds=result.seconds
        )
        if self._listener.listening and await self._on_thread(watch_limit_reached, self._path):
            self._listener.grow_deaf(LIMIT)
        every = self._source.sweep_every
        if self._polling():
            every = min(every, max(POLL_SECONDS, POLL_SHARE * cost))
        self._schedule.ended(self._clock.monotonic(), cost, every)

    async def _write_down(self, result: SweepResult) -> None:
        await self._ledger.run(health.swept, self._id, result.at)
        self._written, self._in_ledger = self._clock.monotonic(), result

    # --- events, or polling ----------------------------------------------------------------------

    def _root_to_hear(self) -> Root | None:
        """The root, if events are wanted of it."""
        wanted = self._presence.inodes if self._source.polling == "auto" else not self._source.polling
        return self._presence.root if wanted else None

    def _polling(self) -> str:
        """Why the tree is swept every few seconds; empty if it is not."""
        if self._source.polling != "auto":
            return "polling = true" if self._source.polling else ""
        if not self._presence.inodes:
            return "other hosts may write to a network file system unseen"
        if (root := self._presence.root) is not None and root.mount is Mount.OVERLAY:
            return "what is written to a layer beneath an overlay is not seen"
        return self._listener.deaf or (UNREADABLE if self._unseen else "")

    async def _on_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group
