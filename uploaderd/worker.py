"""A provider's workers: claim, attempt, decide. One pool a provider, so that none waits for another.

What decides is the failure's class alone. Transient: the upload backs off, and after several in a
row the provider is taken for down. Provider: the gate closes, the provider is probed, and opens by
itself once mended. Recording and conflict: this upload only.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from uploaderd import retry
from uploaderd.clock import Clock
from uploaderd.errors import (
    CannotLook,
    Fault,
    FileChanged,
    FileVanished,
    LedgerBroken,
    LedgerError,
    LedgerFull,
    LocalFault,
    Stopped,
)
from uploaderd.gate import Closed, Gate, Position
from uploaderd.keys import text_of
from uploaderd.ledger import Ledger, Transaction, health, leftovers, work
from uploaderd.ledger.book import UploadBook
from uploaderd.ledger.leftovers import Leftover
from uploaderd.logs import mask
from uploaderd.logs.setup import about, get_logger
from uploaderd.meter import Meter
from uploaderd.model import Claim, FailureClass, Milliseconds, Session
from uploaderd.provider import Provider, Strays
from uploaderd.send import STALL_SECONDS, Conditions, Progress
from uploaderd.upload import Outcome, Upload, Wishes

log = get_logger(__name__)

PROBE_SECONDS: Final = 30.0

SEEN: Final = 100
"""Kinds of unrecognised failures that are remembered as logged."""

CHANGED_PAUSE: Final = 2.0
"""Seconds until a file that changed is tried again, unless the watcher replaces it before."""


@dataclass(slots=True)
class Running:
    """An upload that is under way, for `status`."""

    claim: Claim
    progress: Progress
    since: Milliseconds
    meter: Meter


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a pool is given: the operator's wishes, and whom to tell.

    `wishes` makes an upload's wishes; `resweep` looks for a source's renamed files and returns when
    it has; `offer` hands a path back to be looked at; `safe` hears of a recording that became safe.
    """

    wishes: Callable[[Claim, float | None], Wishes]
    resweep: Callable[[str], Awaitable[None]]
    offer: Callable[[str, bytes], None]
    safe: Callable[[Claim], Awaitable[None]]
    chance: Callable[[], float] = field(default=random.random)
    stall_seconds: float = STALL_SECONDS


class Pool:
    """Carries out one provider's uploads, at most `max_uploads` at once.

    `open_provider` makes the provider; it is tried again until it succeeds, for missing credentials
    or an unreachable endpoint are no reason to end.
    """

    def __init__(
        self,
        name: str,
        provider_id: int,
        open_provider: Callable[[], Awaitable[Provider]],
        ledger: Ledger,
        clock: Clock,
        surroundings: Surroundings,
        *,
        max_uploads: int,
        max_parts: int,
    ) -> None:
        self.name = name
        self._id = provider_id
        self._open_provider = open_provider
        self._ledger = ledger
        self._clock = clock
        self._surroundings = surroundings
        self._max_uploads = max_uploads
        self._max_parts = max_parts
        self._gate = Gate(surroundings.chance)
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._part_rate: float | None = None
        self._probe_in = 0.0
        self._ill = True
        """Whether the ledger may say that the provider is in trouble: true until something worked."""
        self._moved = asyncio.Event()
        self._seen: set[tuple[str, str]] = set()
        self.provider: Provider | None = None
        """While it is open."""
        self.running: dict[int, Running] = {}
        self.meter = Meter(clock.monotonic)
        self._log = log.bind(provider=name)

    def wake(self) -> None:
        """Something was queued, or became due."""
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more; parts in flight finish, then `run` returns."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Work until stopped. Cancelling it ends the uploads at once; their state is written."""
        provider = await self._connect()
        if provider is None:
            return
        self.provider = provider
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                self._moved.clear()
                try:
                    await self._turn(provider)
                except LedgerFull:
                    await self._until_mended()
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            self.provider = None
            await provider.aclose()

    async def _turn(self, provider: Provider) -> None:
        """Claim what fits, then wait until there may be more to do.

        Raises:
            LedgerFull: nothing could be written.
        """
        await self._claim_what_fits(provider)
        if self._gate.at(Position.TRIAL) and not self._tasks:
            # Nothing is due that could try it: the probe's word must do.
            await self._works()
        if self._gate.at(Position.CLOSED):
            await self._probe(provider)
        else:
            await self._pause(provider)

    async def _until_mended(self) -> None:
        """Wait until the ledger takes writes again; the uploads that are under way wait by themselves."""
        waits = [asyncio.ensure_future(self._ledger.mended()), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _connect(self) -> Provider | None:
        while not self._stopping.is_set():
            try:
                provider = await self._open_provider()
            except Fault as fault:
                closed = self._gate.probe_failed(fault)
                await self._troubled(closed)
                await self._wait(closed.probe_in)
                continue
            self._log.info("provider opened", login=provider.login, target=provider.target)
            # A wrong bucket or key shows at once, not with the first recording.
            self._gate.position = Position.CLOSED
            self._probe_in = 0.0
            return provider
        return None

    async def _claim_what_fits(self, provider: Provider) -> None:
        room = self._gate.room(len(self._tasks), self._max_uploads)
        if self._stopping.is_set() or not room:
            return
        for claim in await self._ledger.run(work.claim, self._id, room):
            task = asyncio.create_task(self._attempt(provider, claim), name=f"{self.name}:{claim.upload_id}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def _sweep_up(self, provider: Provider) -> None:
        """Abort sessions that will never be used again, one after another, while the provider is well."""
        while not self._stopping.is_set():
            leftover = await self._ledger.run(leftovers.due, self._id)
            if leftover is None:
                return
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    sessions = await _sessions_of(provider, leftover)
                    gone = [await provider.abort(session) for session in sessions]
            except (Fault, TimeoutError) as error:
                self._log.warning("a leftover could not be aborted yet", reason=str(error))
                return
            if all(gone):
                await self._ledger.insist(leftovers.gone, leftover, self.name, found=bool(gone))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, LedgerBroken):
                return  # which ends the daemon, and says why
            # Every fault has been dealt with inside: this is a bug.
            self._log.error("an upload ended unexpectedly", exc_info=error)

    async def _pause(self, provider: Provider) -> None:
        """Wait for something to do: a wake, or the time when an upload or a leftover is due."""
        if not self._gate.room(len(self._tasks), self._max_uploads):
            await self._wake.wait()
            return
        upload, leftover = await self._ledger.run(_agenda, self._id)
        if leftover is not None and leftover <= self._clock.now():
            await self._sweep_up(provider)
        elif due := [at for at in (upload, leftover) if at is not None]:
            await self._wait(max(0.0, (min(due) - self._clock.now()) / 1000))
        else:
            await self._wake.wait()

    async def _wait(self, seconds: float) -> None:
        """Sleep, unless woken."""
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((sleeping, waking), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waking.cancel()

    # --- one attempt -----------------------------------------------------------------------------

    async def _attempt(self, provider: Provider, claim: Claim) -> None:
        path = text_of(claim.path)
        with about(recording=path, source=claim.source, provider=self.name, attempt=claim.attempt):
            progress = Progress(claim.identity.size)
            running = Running(claim, progress, self._clock.now(), Meter(self._clock.monotonic))
            self.running[claim.upload_id] = running
            try:
                await self._attempt_and_write(provider, claim, running)
            except LedgerFull as full:
                # The daemon is ending and waits no longer: to the next start it looks like a crash.
                log.warning("what became of the upload could not be written", reason=str(full))
            finally:
                del self.running[claim.upload_id]

    async def _attempt_and_write(self, provider: Provider, claim: Claim, running: Running) -> None:
        started, progress = self._clock.monotonic(), running.progress
        try:
            outcome = await self._carry_out(provider, claim, running)
        except Stopped:
            await self._ledger.insist(work.stopped, claim.upload_id)
            log.info("upload stopped; it goes on at the next start", bytes_held=progress.done)
        except Fault as fault:
            await self._decide(claim, progress, fault)
        except asyncio.CancelledError:
            # The request is carried out even though nobody waits for its answer.
            await asyncio.shield(self._ledger.run(work.stopped, claim.upload_id))
            raise
        else:
            await self._verified(claim, outcome, progress, self._clock.monotonic() - started)

    async def _carry_out(self, provider: Provider, claim: Claim, running: Running) -> Outcome:
        if not claim.present and not claim.completing:
            raise FileChanged("another content took its path before it was sent", code="superseded")

        async def pace(size: int) -> None:
            running.meter.add(size)
            self.meter.add(size)

        conditions = Conditions(
            max_parts=self._max_parts,
            sleep=self._clock.sleep,
            random=self._surroundings.chance,
            pace=pace,
            stopping=self._stopping,
            stall_seconds=self._surroundings.stall_seconds,
        )
        book = UploadBook(self._ledger, claim, self._id)
        wishes = self._surroundings.wishes(claim, self._part_rate)
        log.debug("upload begins", key=claim.key, size=claim.identity.size, resumes=claim.handle is not None)
        try:
            return await Upload(claim, provider, book, wishes, conditions, running.progress).run()
        except (Fault, Stopped, LedgerError):
            raise
        except Exception as error:
            # Not in the provider's own table: waited out, and logged in full by `_decide`.
            raise Fault(
                mask(f"{type(error).__name__}: {error}"), code=type(error).__name__, recognised=False
            ) from error

    async def _verified(self, claim: Claim, outcome: Outcome, progress: Progress, seconds: float) -> None:
        safe = await self._ledger.insist(
            work.verified, claim.upload_id, outcome.found, outcome.proof, unlinked=outcome.unlinked
        )
        await self._works()
        if seconds > 0 and progress.sent > 0:
            lanes = 1 if progress.sent <= progress.size / 2 else self._max_parts
            self._part_rate = progress.sent / seconds / lanes
        log.info(
            "upload verified",
            key=outcome.key,
            size=claim.identity.size,
            bytes_sent=progress.sent,
            resumed_from=progress.held,
            seconds=round(seconds, 3),
            proof=outcome.proof.kind,
        )
        if safe:
            await self._surroundings.safe(claim)

    async def _decide(self, claim: Claim, progress: Progress, fault: Fault) -> None:
        """Write what happened, and what comes next."""
        run = self._ledger.insist
        self._log_unrecognised(fault)
        if progress.done > progress.held:
            # It does take parts: whatever went wrong, the provider is not down.
            await self._works()
        match fault:
            case FileVanished():
                await self._vanished(claim, progress, fault)
            case LocalFault():
                delay = retry.UPLOADS.delay(claim.failures + 1, self._surroundings.chance)
                await self._later(claim, progress, fault, delay)
            case FileChanged(code="superseded"):
                await run(work.failed, claim.upload_id, fault)
                log.info("upload dropped: a newer version took the recording's place")
            case FileChanged():
                self._surroundings.offer(claim.source, claim.path)
                await self._later(claim, progress, fault, CHANGED_PAUSE * 2 ** min(claim.failures, 6))
            case Fault(failure=FailureClass.RECORDING | FailureClass.CONFLICT):
                await run(work.failed, claim.upload_id, fault)
                log.error("upload failed; it needs a person", **_told(fault))
                if self._gate.at(Position.TRIAL):
                    # The provider answered, which is all that the trial was to show.
                    await self._works()
            case _:
                closed = self._gate.failed(fault)
                if fault.failure is FailureClass.PROVIDER:
                    await run(work.requeue, claim.upload_id, fault)
                    log.warning("upload waits for its provider", **_told(fault))
                else:
                    delay = retry.UPLOADS.delay(
                        claim.failures + 1, self._surroundings.chance, fault.retry_after
                    )
                    await self._later(claim, progress, fault, delay)
                if closed is not None:
                    await self._troubled(closed)

    async def _vanished(self, claim: Claim, progress: Progress, fault: Fault) -> None:
        """Look for the file under another name before it is called lost."""
        try:
            await self._surroundings.resweep(claim.source)
        except LocalFault as missing:
            # The whole source is gone, a mount perhaps: nothing below it is taken for deleted.
            await self._later(claim, progress, missing, CHANGED_PAUSE * 2 ** min(claim.failures, 6))
            return
        if await self._ledger.insist(work.gone, claim.upload_id, fault, claim.path):
            log.error("recording lost: its file is gone before it was safe", reason=fault.message)
        else:
            log.info("recording was renamed; the upload follows it")
        self.wake()

    async def _later(self, claim: Claim, progress: Progress, fault: Fault, delay: float) -> None:
        moved = progress.done > progress.held
        at = Milliseconds(self._clock.now() + int(delay * 1000))
        await self._ledger.insist(work.retry_later, claim.upload_id, fault, at, progress=moved)
        log.warning("upload will be tried again", in_seconds=round(delay, 1), **_told(fault))

    # --- the provider itself -----------------------------------------------------------------------

    async def _probe(self, provider: Provider) -> None:
        """Wait, then ask the provider whether it works again."""
        await self._wait_closed(self._probe_in)
        if self._stopping.is_set() or not self._gate.at(Position.CLOSED):
            return
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await provider.probe()
        except CannotLook:
            self._gate.probed()  # the credentials may not ask; an upload will tell
        except (Fault, TimeoutError) as error:
            fault = (
                error
                if isinstance(error, Fault)
                else Fault(f"no answer in {PROBE_SECONDS:g} s", code="timeout")
            )
            self._log_unrecognised(fault)
            await self._troubled(self._gate.probe_failed(fault))
        else:
            self._gate.probed()
        if self._gate.at(Position.TRIAL):
            await self._ledger.run(health.provider_due, self._id)

    async def _wait_closed(self, seconds: float) -> None:
        """Wait while the gate is closed. Newly queued work does not cut it short."""
        waits = [
            asyncio.ensure_future(wait)
            for wait in (self._clock.sleep(seconds), self._stopping.wait(), self._moved.wait())
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _troubled(self, closed: Closed) -> None:
        self._ill = True
        self._probe_in = closed.probe_in
        at = Milliseconds(self._clock.now() + int(closed.probe_in * 1000))
        if await self._ledger.insist(health.provider_troubled, self._id, closed.fault, at):
            paused = closed.fault.failure is FailureClass.PROVIDER
            self._log.error("provider paused" if paused else "provider is down", **_told(closed.fault))

    async def _works(self) -> None:
        """The provider showed that it works."""
        self._gate.succeeded()
        self._moved.set()
        if self._ill:
            well = await self._ledger.insist(health.provider_well, self._id)
            self._ill = False
            if well:
                self._log.info("provider works again")

    def _log_unrecognised(self, fault: Fault) -> None:
        """An error that no table knows is logged in full, once."""
        kind = (type(fault).__name__, fault.code)
        if not fault.recognised and kind not in self._seen and len(self._seen) < SEEN:
            self._seen.add(kind)
            self._log.error("unrecognised failure; taken for transient", exc_info=fault, **_told(fault))


async def _sessions_of(provider: Provider, leftover: Leftover) -> Sequence[Session]:
    """The leftover's session; if its opening was never answered, whatever came of that."""
    if leftover.session.handle:
        return (leftover.session,)
    if not isinstance(provider, Strays):
        return ()  # nothing was begun there, or it expires by itself
    try:
        return await provider.strays(leftover.session.spec, leftover.seconds)
    except CannotLook:
        return ()


def _agenda(tx: Transaction, provider_id: int) -> tuple[Milliseconds | None, Milliseconds | None]:
    """When the provider's next upload and its next leftover are due."""
    return work.next_due(tx.conn, provider_id), leftovers.next_due(tx, provider_id)


def _told(fault: Fault) -> Mapping[str, object]:
    told = {
        "reason": fault.message,
        "hint": fault.hint,
        "failure": str(fault.failure),
        "code": fault.code,
        "http_status": fault.http_status,
        "request_id": fault.request_id,
    }
    return {name: value for name, value in told.items() if value}
