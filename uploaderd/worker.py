"""A provider's workers: one pool a provider, so that none waits for another.

It claims what the gate lets through, hands it to `attempts`, probes the provider while the gate is
closed, and sweeps up the sessions that will never be used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from uploaderd.allowance import UNLIMITED, Allowance
from uploaderd.attempts import Attempts, Running, Surroundings
from uploaderd.clock import Clock
from uploaderd.errors import Fault, LedgerBroken, LedgerFull
from uploaderd.gate import Position
from uploaderd.lanes import Lanes
from uploaderd.ledger import Ledger, Transaction, leftovers, queue
from uploaderd.ledger.queue import IN_TURN, Turns
from uploaderd.ledger.wanted import Wanted
from uploaderd.logs.setup import get_logger
from uploaderd.meter import Meter
from uploaderd.model import Milliseconds
from uploaderd.provider import Provider
from uploaderd.retry import UPLOADS, Backoff
from uploaderd.standing import Standing
from uploaderd.sweeping_up import sweep_up
from uploaderd.waiting import first_of, unless

log = get_logger(__name__)


class Pool:
    """Carries out one provider's uploads, at most `max_uploads` at once.

    `open_provider` makes the provider; it is tried again until it succeeds, for missing credentials
    or an unreachable endpoint are no reason to end. `turns` says what goes first. `on_request`: only what
    somebody asks for is sent.
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
        allowance: Allowance = UNLIMITED,
        turns: Turns = IN_TURN,
        paused: bool = False,
        on_request: bool = False,
        backoff: Backoff = UPLOADS,
        attempt_timeout: float | None = None,
    ) -> None:
        self.name = name
        self._id = provider_id
        self._open_provider = open_provider
        self._ledger = ledger
        self._clock = clock
        self._max_uploads = max_uploads
        self._turns = turns
        self._lanes = Lanes(max_uploads * max_parts, lambda: allowance.lanes)
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._standing = Standing(name, provider_id, ledger, clock, surroundings.chance)
        self._attempts = Attempts(
            name,
            provider_id,
            ledger,
            clock,
            surroundings,
            self._standing,
            max_parts=max_parts,
            allowance=allowance,
            lanes=self._lanes,
            backoff=backoff,
            timeout=attempt_timeout,
        )
        self.on_request = on_request
        self._asking: list[Callable[[], Wanted]] = []
        self._paused = asyncio.Event()
        """Set while a person wants nothing to be sent there."""
        if paused:
            self.pause()
        self.provider: Provider | None = None
        """While it is open."""
        self._log = log.bind(provider=name)

    @property
    def paused(self) -> bool:
        """Whether a person wants nothing to be sent there."""
        return self._paused.is_set()

    @property
    def running(self) -> Mapping[int, Running]:
        """The uploads that are under way, by their rows."""
        return self._attempts.running

    @property
    def meter(self) -> Meter:
        """How fast bytes go to this provider."""
        return self._attempts.meter

    def wake(self) -> None:
        """Something was queued, or became due."""
        self._wake.set()

    def pause(self) -> None:
        """Claim nothing, ask for nothing; uploads under way go back into the queue after their parts."""
        self._paused.set()
        self._attempts.halt()
        self._wake.set()

    def resume(self) -> None:
        """End a pause."""
        self._paused.clear()
        if not self._stopping.is_set():
            self._attempts.go_on()
        self._wake.set()

    @contextmanager
    def asked(self, what: Callable[[], Wanted]) -> Iterator[None]:
        """While it lasts, `what` may be sent though this provider sends on request alone."""
        self._asking.append(what)
        self._wake.set()
        try:
            yield
        finally:
            self._asking.remove(what)

    def hurry(self) -> None:
        """Somebody mended something: ask the provider now, not when its next probe is due."""
        self._standing.hurry()
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more; parts in flight finish, then `run` returns."""
        self._stopping.set()
        self._attempts.halt()
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
        if self._paused.is_set():
            await self._wake.wait()
            return
        await self._claim_what_fits(provider)
        if self._standing.at(Position.TRIAL) and not self._tasks:
            # Nothing is due that could try it: the probe's word must do.
            await self._standing.works()
        if self._standing.at(Position.CLOSED):
            await unless(self._paused, self._standing.probe(provider, self._stopping))
        else:
            await self._pause(provider)

    async def _until_mended(self) -> None:
        """Wait until the ledger takes writes again; the uploads that are under way wait by themselves."""
        await first_of(self._ledger.mended(), self._stopping.wait())

    async def _connect(self) -> Provider | None:
        while not self._stopping.is_set():
            try:
                provider = await self._open_provider()
            except Fault as fault:
                await self._wait(await self._standing.cannot_open(fault))
                continue
            self._log.info("provider opened", login=provider.login, target=provider.target)
            self._standing.begin()
            return provider
        return None

    async def _claim_what_fits(self, provider: Provider) -> None:
        room = self._room()
        if self._stopping.is_set() or not room:
            return
        for claim in await self._ledger.run(
            queue.claim, self._id, room, only=self._only(), turns=self._turns
        ):
            task = asyncio.create_task(
                self._attempts.carry_out(provider, claim), name=f"{self.name}:{claim.upload_id}"
            )
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _room(self) -> int:
        """How many more uploads may begin: no more than may send something."""
        return self._standing.room(len(self._tasks), min(self._max_uploads, self._lanes.limit))

    async def _sweep_up(self, provider: Provider) -> None:
        """Abort what will never be gone on with, while the provider is well."""
        try:
            await sweep_up(provider, self._id, self._ledger, self._stopping.is_set)
        except (Fault, TimeoutError) as error:
            self._log.warning("a leftover could not be aborted yet", reason=str(error))

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
        if not self._room():
            await self._wake.wait()
            return
        upload, leftover = await self._ledger.run(_agenda, self._id, self._only())
        if leftover is not None and leftover <= self._clock.now():
            await self._sweep_up(provider)
        elif due := [at for at in (upload, leftover) if at is not None]:
            await self._wait(max(0.0, (min(due) - self._clock.now()) / 1000))
        else:
            await self._wake.wait()

    def _only(self) -> Wanted | None:
        """What may be sent; None: everything."""
        return Wanted.any_of(what() for what in self._asking) if self.on_request else None

    async def _wait(self, seconds: float) -> None:
        """Sleep, unless woken."""
        await first_of(self._clock.sleep(seconds), self._wake.wait())


def _agenda(
    tx: Transaction, provider_id: int, only: Wanted | None
) -> tuple[Milliseconds | None, Milliseconds | None]:
    """When the provider's next upload and its next leftover are due."""
    return queue.next_due(tx.conn, provider_id, only), leftovers.next_due(tx, provider_id)
