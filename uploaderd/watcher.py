"""One source, watched: hints make candidates, a timer looks at them again, and the sweep misses none.

Events are hints; whatever casts doubt on them (a new folder, an error, a root that came back) asks for
a sweep of what is in doubt. What is judged finished is offered to the intake, which decides what it is.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import structlog
from watchfiles import Change

from uploaderd.candidates import Candidate, Candidates
from uploaderd.clock import Clock
from uploaderd.config import Source
from uploaderd.errors import FileFault, FileVanished, LedgerBroken, LedgerError, SourceMissing, UploaderdError
from uploaderd.finished import Judge, Verdict
from uploaderd.hints import Hints, watch_limit_reached
from uploaderd.intake import Finished, Intake
from uploaderd.keys import text_of
from uploaderd.ledger import Ledger, health
from uploaderd.ledger.identity import Settled
from uploaderd.ledger.intake import source_device
from uploaderd.listener import LIMIT, Listener
from uploaderd.model import FileIdentity, FoundBy, SourceState
from uploaderd.mounts import Mount
from uploaderd.reader import identity_of
from uploaderd.root import Root, look_at_root
from uploaderd.schedule import Schedule
from uploaderd.sweep import RETRY_SECONDS, Sweep, SweepResult
from uploaderd.walk import Tally

log = structlog.stdlib.get_logger(__name__)
T = TypeVar("T")
Look = Verdict | UploaderdError | OSError

ROOT_SECONDS: Final = 2.0
"""How often the root itself is looked at: it may be unmounted, or made anew, without any event."""

POLL_SECONDS: Final = 10.0
"""How often the tree is swept where events do not tell all."""

POLL_SHARE: Final = 20
"""A sweep that takes long is repeated after that many times its own length at the earliest."""

LOOKS: Final = 256
"""Candidates looked at in one go."""

FLOOD: Final = 4_096
"""Hints at once that make an overflow of the kernel's queue (16,384 by default) likely."""

REPORTED: Final = 10_000
"""Unreadable files that are remembered as reported."""


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
        self._candidates = Candidates()
        self._sweep = Sweep(self._path, source_id, ledger.path, self._judge, self._takes, self._candidates)
        self._listener = Listener(
            name, self._path, clock, self._root_to_hear, self._heard, lambda: self._in_doubt(b"")
        )
        self._schedule = Schedule()
        self._sweeping = asyncio.Lock()
        self._next: asyncio.Task[SweepResult] | None = None
        self._last: SweepResult | None = None
        self._candidate_due = asyncio.Event()
        self._sweep_due = asyncio.Event()
        self._asked: set[bytes] = set()
        self._looking = False
        self._root: Root | None = None
        self._remembered: int | None = None
        self._reported: set[bytes] = set()
        # Of its own: a mount that hangs must not hold up other sources.
        self._threads = ThreadPoolExecutor(3, thread_name_prefix=f"watch-{name}")

    # --- for others ------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, object]:
        """How the source is watched, as `status` shows it; plain values only.

        `missing` and `polling` say why, or are null; `lease` is null until a file was looked at.
        """
        last = self._last
        return {
            "missing": (self._root.missing if self._root is not None else "") or None,
            "listening": self._listener.listening,
            "polling": self._polling() or None,
            "lease": self._judge.lease,
            "candidates": len(self._candidates),
            "last_sweep": None
            if last is None
            else {"at": last.at, "files": last.files, "seconds": last.seconds, "unreadable": last.unreadable},
        }

    @property
    def settled(self) -> bool:
        """Whether a sweep has come to its end and nothing that was found waits to be taken in."""
        return (
            self._last is not None
            and not self._candidates
            and not self._asked
            and not self._looking
            and not self._sweeping.locked()
            and not self._schedule.asked
        )

    def request_sweep(self) -> None:
        """Sweep the whole tree as soon as possible."""
        self._schedule.ask(self._clock.monotonic())
        self._sweep_due.set()

    def look_at(self, path: bytes) -> None:
        """Somebody found the file changed: look at it anew."""
        self._asked.add(path)
        self._candidate_due.set()

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

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            LedgerBroken: the ledger's storage failed.
        """
        self._remembered = await self._ledger.run(source_device, self._id)
        self._schedule.ask(self._clock.monotonic())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_sweeping())
                group.create_task(self._keep_looking())
                group.create_task(self._listener.run())
        except BaseExceptionGroup as failed:
            if (broken := failed.subgroup(LedgerBroken)) is not None:
                raise _first(broken) from None
            raise

    # --- hints -----------------------------------------------------------------------------------

    async def _heard(self, batch: Hints) -> None:
        """Make candidates of what changed, and doubts of new folders."""
        if len(batch) >= FLOOD:
            self._in_doubt(b"")
        cut = len(self._path.rstrip(b"/")) + 1
        wanted: dict[bytes, bool] = {}
        for change, text in batch:
            path = os.fsencode(text)[cut:]
            if change is Change.deleted:
                self._candidates.drop(path)
            elif path and (change is Change.added or self._takes(path)):
                wanted[path] = wanted.get(path, False) or change is Change.added
        await self._see(wanted)

    async def _see(self, wanted: dict[bytes, bool]) -> None:
        """Look what is at the paths; the value says that it is new there."""
        for path, status in await self._on_thread(self._stats, wanted):
            if not stat.S_ISDIR(status.st_mode):
                now = self._clock.monotonic()
                self._candidates.changed(identity_of(status), path, FoundBy.EVENT, now, self._judge.shortest)
                self._candidate_due.set()
            elif wanted[path]:
                self._in_doubt(path)

    def _stats(self, paths: Iterable[bytes]) -> list[tuple[bytes, os.stat_result]]:
        """Folders, and regular files that are taken. Blocks."""
        found = []
        for path in paths:
            try:
                status = os.lstat(os.path.join(self._path, path))
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and self._takes(path)):
                found.append((path, status))
        return found

    def _in_doubt(self, folder: bytes) -> None:
        self._schedule.doubt(folder, self._clock.monotonic())
        self._sweep_due.set()

    # --- candidates ------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        """Look at each candidate when its quiet time may be over."""
        while True:
            due = self._candidates.next_due()
            await self._wait(self._candidate_due, None if due is None else due - self._clock.monotonic())
            self._looking = True
            try:
                if self._asked:
                    asked, self._asked = self._asked, set()
                    await self._see(dict.fromkeys(asked, False))
                candidates = self._candidates.take_due(self._clock.monotonic(), LOOKS)
                if candidates:
                    await self._look_again(candidates)
            finally:
                self._looking = False

    async def _look_again(self, candidates: list[Candidate]) -> None:
        before = [(one.path, one.identity, one.since) for one in candidates]
        looks = await self._on_thread(self._judged, before)
        finished = []
        for one, (_, _, since), looked in zip(candidates, before, looks, strict=True):
            if isinstance(looked, Verdict) and looked.finished_by is not None and one.since == since:
                self._candidates.drop(one.path)
                finished.append(self._finished(one.path, looked, one.found_by))
            else:
                self._not_yet(one, looked)
        await self._offer(finished)

    def _judged(self, files: Iterable[tuple[bytes, FileIdentity, float]]) -> list[Look]:
        looks: list[Look] = []
        for path, identity, since in files:
            try:
                looks.append(self._judge.look(path, identity, since))
            except (UploaderdError, OSError) as error:
                looks.append(error)
        return looks

    def _not_yet(self, one: Candidate, looked: Look) -> None:
        """When to look again at what is not finished, or never."""
        now = self._clock.monotonic()
        match looked:
            case FileVanished():
                self._candidates.drop(one.path)
            case FileFault():
                self._candidates.drop(one.path)
                self._cannot_read(one.path, looked.message)
            case Verdict(obstacle="writer"):
                # Its quiet time begins anew when it is closed. Many open files are looked at less often.
                one.since, one.written = now, True
                self._candidates.later(one.path, now + max(looked.wait, len(self._candidates) / 5_000))
            case Verdict(obstacle="changed"):
                one.identity, one.since, one.written = looked.identity, now, False
                self._candidates.later(one.path, now + looked.wait)
            case Verdict():
                self._candidates.later(one.path, max(one.due, now + looked.wait))
            case _:
                self._candidates.later(one.path, now + RETRY_SECONDS)

    def _cannot_read(self, path: bytes, reason: str) -> None:
        """Say it once."""
        if path not in self._reported and len(self._reported) < REPORTED:
            self._reported.add(path)
            log.warning(
                "cannot be read, and is left out until it can",
                source=self._name,
                path=text_of(path),
                reason=reason,
            )

    def _finished(self, path: bytes, looked: Verdict, found_by: FoundBy) -> Finished:
        assert looked.finished_by is not None
        self._reported.discard(path)
        return Finished(path, looked.identity, found_by, looked.finished_by, self._clock.now())

    async def _offer(self, finished: list[Finished]) -> int:
        """Hand files to the intake; how many were queued. What is left over stays a candidate."""
        if not finished:
            return 0
        try:
            offered = await self._intake.offer(self._name, finished, inodes=self._inodes)
        except LedgerBroken:
            raise
        except LedgerError as error:
            log.warning("the ledger takes nothing in just now", source=self._name, reason=str(error))
            outcomes: tuple[Settled | None, ...] = (None,) * len(finished)
        else:
            outcomes = offered.outcomes
        for one, outcome in zip(finished, outcomes, strict=True):
            if outcome is Settled.LINKED:
                self._sweep.nothing_new(one.path)
            elif outcome is None:
                now = self._clock.monotonic()
                self._candidates.found(one.identity, one.path, now, RETRY_SECONDS, writer=False)
                self._candidate_due.set()
        return outcomes.count(Settled.QUEUED)

    # --- sweeps ----------------------------------------------------------------------------------

    async def _keep_sweeping(self) -> None:
        while True:
            wait = self._schedule.next_due() - self._clock.monotonic()
            await self._wait(self._sweep_due, min(ROOT_SECONDS, wait))
            try:
                await self._look_at_root()
                if self._candidates.room_again:
                    self._in_doubt(b"")
                if self._root is not None and not self._root.missing:
                    for folder in self._schedule.take_due(self._clock.monotonic()):
                        async with self._sweeping:
                            await self._swept(folder)
            except LedgerBroken:
                raise
            except (LedgerError, OSError) as error:
                log.warning("a sweep was cut short", source=self._name, reason=str(error))

    async def _sweep_now(self) -> SweepResult:
        async with self._sweeping:
            self._next = None  # Who asks from here on wants one that begins later.
            await self._look_at_root()
            if self._root is None or self._root.missing:
                reason = self._root.missing if self._root is not None else "unknown"
                raise SourceMissing(f"the source {self._name} is missing: {reason}", code="missing")
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
        held_too = not folder and self._last is None
        batches = self._sweep.batches(folder, tally, inodes=self._inodes, held_too=held_too)
        try:
            while (batch := await self._on_thread(next, batches, None)) is not None:
                now = self._clock.monotonic()
                for one in batch.unfinished:
                    self._candidates.found(one.identity, one.path, now, one.wait, writer=one.writer)
                    self._candidate_due.set()
                for path, reason in batch.unreadable:
                    self._cannot_read(path, reason)
                for path, looked in batch.finished:
                    self._candidates.drop_if(path, looked.identity)
                queued += await self._offer(
                    [self._finished(path, looked, FoundBy.SWEEP) for path, looked in batch.finished]
                )
        finally:
            await self._on_thread(batches.close)
        seconds = self._clock.monotonic() - began
        result = SweepResult(tally.files, tally.folders, tally.unreadable, queued, seconds, self._clock.now())
        if not folder:
            await self._completed(result)
        return result

    async def _completed(self, result: SweepResult) -> None:
        await self._ledger.run(health.swept, self._id)
        self._last = result
        log.debug(
            "swept", source=self._name, files=result.files, queued=result.queued, seconds=result.seconds
        )
        if self._listener.listening and await self._on_thread(watch_limit_reached, self._path):
            self._listener.grow_deaf(LIMIT)
        every = self._source.sweep_every
        if self._polling():
            every = min(every, max(POLL_SECONDS, POLL_SHARE * result.seconds))
        self._schedule.ended(self._clock.monotonic(), result.seconds, every)

    # --- root ------------------------------------------------------------------------------------

    async def _look_at_root(self) -> None:
        """See whether the root is there, and which; tell the ledger what is new."""
        before, root = self._root, await self._on_thread(look_at_root, self._path, self._remembered)
        if before is None or (before.missing, before.device) != (root.missing, root.device):
            state = SourceState.MISSING if root.missing else SourceState.OK
            await self._ledger.run(health.source_seen, self._id, state, root.device)
            if root.missing:
                log.error(
                    "the source is missing; nothing of it counts as deleted, and it goes on by itself",
                    source=self._name,
                    path=text_of(self._path),
                    reason=root.missing,
                )
            elif before is not None:
                log.info("the source is there again", source=self._name, path=text_of(self._path))
        self._root = root
        if not root.missing:
            self._remembered = root.device
            if before is not None and before != root:
                self.request_sweep()

    def _root_to_hear(self) -> Root | None:
        """The root, if events are wanted of it."""
        wanted = self._inodes if self._source.polling == "auto" else not self._source.polling
        return self._root if wanted else None

    @property
    def _inodes(self) -> bool:
        """Whether inodes mean something."""
        return self._root is None or self._root.mount is not Mount.NETWORK

    def _polling(self) -> str:
        """Why the tree is swept every few seconds; empty if it is not."""
        if self._source.polling != "auto":
            return "polling = true" if self._source.polling else ""
        if not self._inodes:
            return "other hosts may write to a network file system unseen"
        if self._root is not None and self._root.mount is Mount.OVERLAY:
            return "what is written to a layer beneath an overlay is not seen"
        return self._listener.deaf

    # --- waiting ---------------------------------------------------------------------------------

    async def _on_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def _wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Wait for the event, at most so long (None: without end); the event is cleared."""
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(event.wait())]
        if seconds is not None:
            waits.append(asyncio.ensure_future(self._clock.sleep(max(0.0, seconds))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        event.clear()


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group
