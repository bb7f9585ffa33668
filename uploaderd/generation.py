"""Everything that a configuration brings to life: the pools, the watchers, and what connects them.

A reload ends one generation and begins the next on the same ledger; half-done uploads keep their
sessions in between.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from uploaderd.allowance import Allowances
from uploaderd.apart import must_be_apart
from uploaderd.attempts import Surroundings
from uploaderd.cleanup import Cleaner
from uploaderd.clock import Clock
from uploaderd.config import Config, DirectoryProvider
from uploaderd.copies import CleanupProvider
from uploaderd.errors import LocalFault
from uploaderd.expecting import Expecting
from uploaderd.finished import writer_has
from uploaderd.intake import Intake, IntakeProvider
from uploaderd.keys import text_of
from uploaderd.ledger import Ledger, acts, health, intake, outbox, read
from uploaderd.ledger.queue import Turns
from uploaderd.ledger.wanted import Wanted
from uploaderd.logs.setup import get_logger
from uploaderd.media import content_type
from uploaderd.model import Claim, OnConflict, OnNewVersion
from uploaderd.provider import Provider
from uploaderd.providers import open_provider
from uploaderd.providers.bounds import bounds
from uploaderd.retention import Retention
from uploaderd.retry import Backoff
from uploaderd.sampling import Sampling
from uploaderd.supervising import supervise
from uploaderd.telling import Telling
from uploaderd.waiting import Pause, unless
from uploaderd.watcher import Watcher
from uploaderd.wishes import Wishes
from uploaderd.worker import Pool

log = get_logger(__name__)

LAST_WORDS_SECONDS: Final = 3.0
"""What webhooks may take when all else has ended."""


@dataclass(frozen=True, slots=True)
class Registered:
    """The ledger's ids of what the configuration names."""

    sources: dict[str, int]
    providers: dict[str, int]
    webhooks: dict[str, int]
    used: frozenset[str]
    """Providers that hold at least one verified copy."""
    paused_sources: frozenset[str] = frozenset()
    paused_providers: frozenset[str] = frozenset()
    """By a person, until a person resumes them."""


async def register(config: Config, ledger: Ledger) -> Registered:
    """Make the configuration's sources and providers known to the ledger.

    In need: cleanup, which can free a full disk, begins behind it.

    Raises:
        LedgerError: a provider's name stood for something else before.
    """
    sources = {
        name: await ledger.insist_in_need(intake.register_source, name, os.fsencode(source.path))
        for name, source in config.sources.items()
    }
    providers = {
        name: await ledger.insist_in_need(intake.register_provider, name, provider.type, provider.target)
        for name, provider in config.providers.items()
    }
    enabled = frozenset(id_ for name, id_ in providers.items() if config.providers[name].enabled)
    await ledger.insist_in_need(health.configured, enabled)
    webhooks = await ledger.insist_in_need(
        outbox.configured, {name: webhook.events for name, webhook in config.webhooks.items()}
    )
    used = await ledger.insist_in_need(lambda tx: read.used_providers(tx.conn))
    paused_sources = await ledger.insist_in_need(acts.paused, "source")
    paused_providers = await ledger.insist_in_need(acts.paused, "provider")
    return Registered(sources, providers, webhooks, used, paused_sources, paused_providers)


def intake_of(config: Config, registered: Registered, ledger: Ledger, *, wake: Callable[[], None]) -> Intake:
    """What takes the files of all sources in; `wake` is called after something was queued."""
    return Intake(
        ledger,
        config,
        registered.sources,
        {
            name: IntakeProvider(registered.providers[name], bounds(provider), provider.prefix)
            for name, provider in config.providers.items()
        },
        wake=wake,
        host=socket.gethostname(),
    )


class Generation:
    """One configuration at work."""

    def __init__(
        self,
        config: Config,
        registered: Registered,
        ledger: Ledger,
        clock: Clock,
        allowances: Allowances,
    ) -> None:
        self.config = config
        self._allowances = allowances
        self._ledger = ledger
        self._clock = clock
        self._stopping = asyncio.Event()
        self.pools = {
            name: self._pool(name, registered)
            for name, provider in config.providers.items()
            if provider.enabled
        }
        self.intake = intake_of(config, registered, ledger, wake=self.wake)
        self._pauses = {name: Pause(on=name in registered.paused_sources) for name in config.sources}
        self._expecting = Expecting(
            {
                registered.sources[name]: source.expect_every
                for name, source in config.sources.items()
                if source.expect_every is not None
            },
            ledger,
            clock,
        )
        self._retention = Retention(config.ledger.keep_for, ledger, clock)
        self._tellings = [
            Telling(name, registered.webhooks[name], config, ledger, clock) for name in config.webhooks
        ]
        self._sampling = Sampling(
            lambda: {registered.providers[name]: pool.meter.total for name, pool in self.pools.items()},
            ledger,
            clock,
        )
        self.watchers = {
            name: Watcher(name, source, registered.sources[name], self.intake, ledger, clock)
            for name, source in config.sources.items()
        }
        self.cleaners = {name: self._cleaner(name, registered.sources[name]) for name in config.sources}

    @property
    def watched(self) -> dict[str, Watcher]:
        """The watchers of the sources that nobody has paused."""
        return {name: watcher for name, watcher in self.watchers.items() if not self._pauses[name].on}

    def pause_source(self, name: str) -> None:
        """Look for nothing there, take nothing in, remove nothing; what is queued already goes out."""
        self._pauses[name].begin()

    def resume_source(self, name: str) -> None:
        self._pauses[name].end()

    async def sweep(self, name: str) -> None:
        """Sweep a source now; what is finished there is queued then.

        Raises:
            SourceMissing: it is not there.
            LocalFault: it is paused.
            LedgerError: nothing could be taken in.
        """
        paused = LocalFault(f"the source {name} is paused", code="paused")
        if self._pauses[name].on:
            raise paused
        try:
            await self.watchers[name].sweep()
        except asyncio.CancelledError:
            # Whoever waits is not meant, unless it was cancelled itself: the sweep was, by a pause.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise paused from None

    @contextmanager
    def asked(self, what: Callable[[], Wanted]) -> Iterator[None]:
        """While it lasts, `what` goes to those providers as well that send on request alone."""
        with ExitStack() as asking:
            for pool in self.pools.values():
                asking.enter_context(pool.asked(what))
            yield

    @property
    def on_request(self) -> frozenset[str]:
        """Providers that are sent nothing but what somebody asks for."""
        return frozenset(name for name, pool in self.pools.items() if pool.on_request)

    def wake(self) -> None:
        """Something was queued."""
        for pool in self.pools.values():
            pool.wake()

    def stop(self) -> None:
        """Find and claim nothing more; parts in flight finish, then `run` returns."""
        self._stopping.set()
        for pool in self.pools.values():
            pool.stop()

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            LedgerBroken: the ledger's storage failed; the process must end.
        """
        async with asyncio.TaskGroup() as group:
            watching = [
                group.create_task(self._supervise(f"watcher {name}", partial(self._watch, name)))
                for name in self.watchers
            ]
            watching += [
                group.create_task(
                    self._supervise(f"cleanup {name}", partial(self._unpaused, name, cleaner.run))
                )
                for name, cleaner in self.cleaners.items()
            ]
            working = [
                group.create_task(self._supervise(f"provider {name}", pool.run), name=f"pool:{name}")
                for name, pool in self.pools.items()
            ]
            telling = [
                group.create_task(self._supervise("webhook", telling.run)) for telling in self._tellings
            ]
            watching.append(group.create_task(self._ledger.failure(), name="ledger-failure"))
            watching.append(group.create_task(self._supervise("retention", self._retention.run)))
            watching.append(group.create_task(self._supervise("sampling", self._sampling.run)))
            watching.append(group.create_task(self._supervise("expecting", self._expecting.run)))
            await self._stopping.wait()
            for task in watching:
                task.cancel()
            await self._tell_the_last(working, telling)

    async def _tell_the_last(
        self, working: Collection[asyncio.Task[None]], telling: Collection[asyncio.Task[None]]
    ) -> None:
        """What became of the last uploads is told too, if receivers answer: the ledger may end with us."""
        if working:
            await asyncio.wait(working)
        for one in self._tellings:
            one.stop()
        if telling:
            _, late = await asyncio.wait(telling, timeout=LAST_WORDS_SECONDS)
            for task in late:
                task.cancel()

    async def _supervise(self, what: str, run: Callable[[], Awaitable[None]]) -> None:
        await supervise(what, run, self._clock, self._stopping)

    async def _watch(self, name: str) -> None:
        # What a crash left aside has its name again before anybody can miss it.
        await self.cleaners[name].settle()
        await self._unpaused(name, self.watchers[name].run)

    async def _unpaused(self, source: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run it whenever the source is not paused."""
        pause = self._pauses[source]
        while True:
            await pause.ended.wait()
            await unless(pause.begun, run())
            if not pause.on:
                return

    def _pool(self, name: str, registered: Registered) -> Pool:
        config = self.config.providers[name]

        async def opened() -> Provider:
            if isinstance(config, DirectoryProvider):
                roots = {source: each.path for source, each in self.config.sources.items()}
                await must_be_apart(config.path, roots)
            expects = isinstance(config, DirectoryProvider) and name in registered.used
            return await open_provider(name, config, expect_marker=expects)

        surroundings = Surroundings(
            wishes=lambda claim, rate: self._wishes(name, claim, rate),
            resweep=self._resweep,
            offer=self._offer,
            safe=self._safe,
        )
        return Pool(
            name,
            registered.providers[name],
            opened,
            self._ledger,
            self._clock,
            surroundings,
            max_uploads=config.max_uploads,
            max_parts=config.max_parts,
            allowance=self._allowances.of(name),
            turns=Turns(
                self.config.daemon.order,
                {registered.sources[name]: source.priority for name, source in self.config.sources.items()},
            ),
            paused=name in registered.paused_providers,
            on_request=not config.auto_upload,
            backoff=Backoff(base=config.retry_delay),
            attempt_timeout=config.attempt_timeout,
        )

    def _cleaner(self, name: str, source_id: int) -> Cleaner:
        return Cleaner(
            name,
            self.config.sources[name],
            source_id,
            self._ledger,
            self._clock,
            {provider: self._to_be_asked(provider) for provider in self.pools},
            look_at=self.watchers[name].look_at,
            queued=self.wake,
            spare={os.fsencode(source.path) for source in self.config.sources.values()},
        )

    def _to_be_asked(self, name: str) -> CleanupProvider:
        config, pool = self.config.providers[name], self.pools[name]
        if isinstance(config, DirectoryProvider) and not config.same_device_counts:
            return CleanupProvider(lambda: pool.provider, config.path)
        return CleanupProvider(lambda: pool.provider)

    def _wishes(self, name: str, claim: Claim, rate: float | None) -> Wishes:
        provider = self.config.providers[name]
        source = self.config.sources.get(claim.source)
        return Wishes(
            content_type=content_type(text_of(claim.path)),
            metadata=source.metadata if source is not None else {},
            on_conflict=OnConflict(provider.on_conflict),
            on_new_version=OnNewVersion(provider.on_new_version),
            part_size=provider.part_size,
            rate=rate,
            writer_has=writer_has,
        )

    async def _resweep(self, source: str) -> None:
        if source in self.watchers:
            await self.sweep(source)

    def _offer(self, source: str, path: bytes) -> None:
        if (watcher := self.watchers.get(source)) is not None:
            watcher.look_at(path)

    def _safe(self, claim: Claim, holders: Sequence[str]) -> None:
        took = (self._clock.now() - claim.finished_at) / 1000
        for telling in self._tellings:
            telling.wake()
        log.info("recording safe", providers=holders, seconds_since_finished=round(took, 3))
        if (cleaner := self.cleaners.get(claim.source)) is not None:
            cleaner.wake()
