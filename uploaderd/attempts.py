"""Attempts at one provider's uploads: carried out, and settled in the ledger.

What decides is the failure's class alone. Transient: the upload backs off, and after several in a
row the provider is taken for down. Provider: the upload waits for its provider. Recording and
conflict: this upload only. A fault of the local disk is no word against the provider.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from uploaderd import retry
from uploaderd.allowance import Allowance
from uploaderd.clock import Clock
from uploaderd.errors import (
    Fault,
    FileChanged,
    FileFault,
    FileVanished,
    LedgerError,
    LedgerFull,
    LocalFault,
    Stopped,
)
from uploaderd.gate import Position
from uploaderd.keys import text_of
from uploaderd.lanes import Lanes
from uploaderd.ledger import Ledger, work
from uploaderd.ledger.book import UploadBook
from uploaderd.logs import mask
from uploaderd.logs.setup import about, get_logger
from uploaderd.meter import Meter
from uploaderd.model import Claim, FailureClass, Milliseconds
from uploaderd.provider import Provider
from uploaderd.reader import OpenRecording
from uploaderd.send import STALL_SECONDS, Conditions, Progress
from uploaderd.standing import Standing, told
from uploaderd.upload import Outcome, Upload
from uploaderd.vacancy import Vacancy
from uploaderd.wishes import Wishes

log = get_logger(__name__)

TELLING: Final = 4 * 2**20
"""Bytes from which on an upload's speed says something of the link, and not only of its round trips."""

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
    it has; `offer` hands a path back to be looked at; `safe` hears of a recording that became safe, and
    which providers hold it.
    """

    wishes: Callable[[Claim, float | None], Wishes]
    resweep: Callable[[str], Awaitable[None]]
    offer: Callable[[str, bytes], None]
    safe: Callable[[Claim, Sequence[str]], None]
    chance: Callable[[], float] = field(default=random.random)
    stall_seconds: float = STALL_SECONDS


class Attempts:
    """Carries out attempts at one provider, any number at once.

    `timeout` is the longest that an attempt may take, in seconds.
    """

    def __init__(
        self,
        name: str,
        provider_id: int,
        ledger: Ledger,
        clock: Clock,
        surroundings: Surroundings,
        standing: Standing,
        *,
        max_parts: int,
        allowance: Allowance,
        lanes: Lanes,
        backoff: retry.Backoff = retry.UPLOADS,
        timeout: float | None = None,
    ) -> None:
        self._name = name
        self._id = provider_id
        self._ledger = ledger
        self._clock = clock
        self._surroundings = surroundings
        self._standing = standing
        self._halting = asyncio.Event()
        self._max_parts = max_parts
        self._allowance = allowance
        self._lanes = lanes
        self._vacancy = Vacancy()
        self._backoff = backoff
        self._timeout = timeout
        self._part_rate: float | None = None
        self.running: dict[int, Running] = {}
        self.meter = Meter(clock.monotonic)

    def halt(self) -> None:
        """Parts in flight finish; then the uploads go back into the queue, with what they have sent."""
        self._halting.set()

    def go_on(self) -> None:
        """Attempts that begin from here on are carried out."""
        self._halting = asyncio.Event()

    async def carry_out(self, provider: Provider, claim: Claim) -> None:
        """One attempt, from the claim to the outcome in the ledger.

        Raises:
            LedgerBroken: the daemon must end.
        """
        path = text_of(claim.path)
        with about(recording=path, source=claim.source, provider=self._name, attempt=claim.attempt):
            progress = Progress(claim.identity.size)
            running = Running(claim, progress, self._clock.now(), Meter(self._clock.monotonic))
            self.running[claim.upload_id] = running
            try:
                await self._upload_and_write(provider, claim, running)
            except LedgerFull as full:
                # The daemon is ending and waits no longer: to the next start it looks like a crash.
                log.warning("what became of the upload could not be written", reason=str(full))
            finally:
                del self.running[claim.upload_id]

    async def _upload_and_write(self, provider: Provider, claim: Claim, running: Running) -> None:
        started, progress = self._clock.monotonic(), running.progress
        try:
            outcome = await self._upload(provider, claim, running)
        except Stopped:
            await self._ledger.insist(work.stopped, claim.upload_id)
            log.info("upload stopped; it goes on from there", bytes_held=progress.done)
        except Fault as fault:
            self._learn_speed(progress, self._clock.monotonic() - started)
            await self._decide(claim, progress, fault)
        except asyncio.CancelledError:
            # The request is carried out even though nobody waits for its answer.
            await asyncio.shield(self._ledger.run(work.stopped, claim.upload_id))
            raise
        else:
            await self._verified(claim, outcome, progress, self._clock.monotonic() - started)

    async def _upload(self, provider: Provider, claim: Claim, running: Running) -> Outcome:
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
            stopping=self._halting,
            stall_seconds=self._surroundings.stall_seconds,
            allowance=self._allowance,
            lanes=self._lanes,
            vacancy=self._vacancy,
        )
        book = UploadBook(self._ledger, claim, self._id)
        wishes = self._surroundings.wishes(claim, self._rate())
        log.debug("upload begins", key=claim.key, size=claim.identity.size, resumes=claim.handle is not None)
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                return await Upload(claim, provider, book, wishes, conditions, running.progress).run()
        except (Fault, Stopped, LedgerError):
            raise
        except Exception as error:
            if limit.expired():
                raise Fault(
                    f"the attempt took longer than {self._timeout:g} s; the next goes on from its parts",
                    code="AttemptTimeout",
                    hint=f"raise attempt_timeout of [providers.{self._name}], if the link is slow",
                ) from None
            # Not in the provider's own table: waited out, and logged in full by `_decide`.
            raise Fault(
                mask(f"{type(error).__name__}: {error}"), code=type(error).__name__, recognised=False
            ) from error

    async def _verified(self, claim: Claim, outcome: Outcome, progress: Progress, seconds: float) -> None:
        holders = await self._ledger.insist(
            work.verified, claim.upload_id, outcome.found, outcome.proof, unlinked=outcome.unlinked
        )
        await self._standing.works()
        self._learn_speed(progress, seconds)
        log.info(
            "upload verified",
            key=outcome.key,
            size=claim.identity.size,
            bytes_sent=progress.sent,
            resumed_from=progress.held,
            seconds=round(seconds, 3),
            proof=outcome.proof.kind,
        )
        if holders:
            self._surroundings.safe(claim, holders)

    def _rate(self) -> float | None:
        """What one request is expected to move at, as far as anything is known."""
        known = [] if self._part_rate is None else [self._part_rate]
        if (allowed := self._allowance.rate) is not None:
            known.append(allowed / min(self._lanes.limit, self._max_parts))
        return min(known, default=None)

    def _learn_speed(self, progress: Progress, seconds: float) -> None:
        """What one request moved at. Failures tell too: on a slow link nothing else may ever come."""
        if seconds > 0 and progress.sent >= TELLING:
            self._part_rate = progress.sent / seconds / progress.lanes

    async def _decide(self, claim: Claim, progress: Progress, fault: Fault) -> None:
        """Write what happened, and what comes next."""
        run = self._ledger.insist
        self._standing.log_unrecognised(fault)
        if progress.done > progress.held:
            # It does take parts: whatever went wrong, the provider is not down.
            await self._standing.works()
        match fault:
            case FileVanished():
                await self._vanished(claim, progress, fault)
            case LocalFault():
                delay = self._backoff.delay(claim.failures + 1, self._surroundings.chance)
                await self._later(claim, progress, fault, delay)
            case FileChanged(code="superseded"):
                await run(work.failed, claim.upload_id, fault)
                log.info("upload dropped: a newer version took the recording's place")
            case FileChanged():
                self._surroundings.offer(claim.source, claim.path)
                await self._later(claim, progress, fault, CHANGED_PAUSE * 2 ** min(claim.failures, 6))
            case Fault(failure=FailureClass.RECORDING | FailureClass.CONFLICT):
                await run(work.failed, claim.upload_id, fault)
                log.error("upload failed; it needs a person", **told(fault))
                if self._standing.at(Position.TRIAL):
                    # The provider answered, which is all that the trial was to show.
                    await self._standing.works()
            case _:
                if fault.failure is FailureClass.PROVIDER:
                    await run(work.requeue, claim.upload_id, fault)
                    log.warning("upload waits for its provider", **told(fault))
                else:
                    delay = self._backoff.delay(
                        claim.failures + 1, self._surroundings.chance, fault.retry_after
                    )
                    await self._later(claim, progress, fault, delay)
                await self._standing.failed(fault)

    async def _vanished(self, claim: Claim, progress: Progress, fault: Fault) -> None:
        """Look for the file under another name, and once more under its own, before it is called lost."""
        pause = CHANGED_PAUSE * 2 ** min(claim.failures, 6)
        try:
            await self._surroundings.resweep(claim.source)
            async with await OpenRecording.open(claim.root, claim.path):
                pass
        except FileVanished:
            pass
        except (LocalFault, FileFault) as other:
            # The whole source is gone, a mount perhaps: nothing below it is taken for deleted. Or something
            # is at its path that cannot be read: the next attempt deals with it.
            await self._later(claim, progress, other, pause)
            return
        else:
            # Its recorder, or a removal that was given up, had it aside for a moment.
            await self._later(claim, progress, fault, pause)
            return
        if await self._ledger.insist(work.gone, claim.upload_id, fault, claim.path):
            log.error("recording lost: its file is gone before it was safe", reason=fault.message)
        else:
            log.info("recording was renamed; the upload follows it")

    async def _later(self, claim: Claim, progress: Progress, fault: Fault, delay: float) -> None:
        moved = progress.done > progress.held
        at = Milliseconds(self._clock.now() + int(delay * 1000))
        await self._ledger.insist(work.retry_later, claim.upload_id, fault, at, progress=moved)
        log.warning("upload will be tried again", in_seconds=round(delay, 1), **told(fault))
