"""A new ledger from what is there: the sources' files, and their keys at the providers.

What the daemon would do first with files that it does not know is done here alone, and told: each is
queued, each provider is asked for it, and what is there with the same content is adopted. Nothing is
sent, completed or removed; what is not there stays queued for the daemon.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from uploaderd import retry
from uploaderd.apart import must_be_apart
from uploaderd.clock import Clock
from uploaderd.config import Config, DirectoryProvider
from uploaderd.errors import Fault, LedgerError, LocalFault
from uploaderd.finished import ignore_lease_signals, writer_has
from uploaderd.generation import Registered, intake_of, register
from uploaderd.ledger import Event, Ledger, Transaction, connect_readonly, queue, read, work
from uploaderd.ledger.aside import put_aside
from uploaderd.ledger.book import UploadBook
from uploaderd.ledger.lock import LedgerLock
from uploaderd.logs import mask
from uploaderd.model import Claim, FailureClass, OnConflict, OnNewVersion
from uploaderd.provider import Provider
from uploaderd.providers import open_provider
from uploaderd.send import Conditions, Progress
from uploaderd.upload import Outcome, Upload
from uploaderd.watcher import Watcher
from uploaderd.wishes import Wishes

TRIES: Final = 5
"""Looks at one upload before its provider is taken for down."""


@dataclass(slots=True)
class Looked:
    """What a look at one provider came to.

    Attributes:
        adopted: copies that are there, proven.
        missing: copies that are not there, and are still to be sent.
        left_out: files that changed or could not be read.
        problem: why not all could be looked for; empty if all were.
    """

    adopted: int = 0
    missing: int = 0
    left_out: int = 0
    problem: str = ""


@dataclass(slots=True)
class Rebuilt:
    """What came of it, by the names of providers and sources."""

    aside: str | None
    providers: dict[str, Looked] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    """What could not be looked into, and why."""

    @property
    def complete(self) -> bool:
        return not self.sources and not any(looked.problem for looked in self.providers.values())


async def rebuild(
    config: Config, clock: Clock, version: str, told: Callable[[Mapping[str, Looked]], None]
) -> Rebuilt:
    """Put the ledger aside, make a new one, and find out what is where.

    `told` hears every second how far it is.

    Raises:
        LedgerHeld: a daemon runs.
        LedgerError: the new ledger cannot be made.
    """
    ignore_lease_signals()
    path = config.ledger.path
    used = _used(config)
    lock = LedgerLock.take(path, version, clock.now())
    try:
        aside = put_aside(path, clock.now())
    finally:
        lock.close()
    ledger = Ledger(path, clock.now, version)
    await ledger.open()
    try:
        result = Rebuilt(aside.name if aside is not None else None)
        await ledger.run(_begun, result.aside)
        registered = await register(config, ledger)
        result.sources = await _sweep(config, registered, ledger, clock)
        looks = {
            name: _Look(name, config, registered.providers[name], ledger, clock, marked=name in used)
            for name, provider in config.providers.items()
            if provider.enabled
        }
        result.providers = {name: look.looked for name, look in looks.items()}
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(_tell(result.providers, told))
            await asyncio.gather(*(look.run() for look in looks.values()))
            telling.cancel()
        await ledger.run(_ended, result)
        return result
    finally:
        await ledger.close()


def _used(config: Config) -> frozenset[str]:
    """Directories that must have a marker: those that the old ledger knows, or all if it cannot tell."""
    try:
        with closing(connect_readonly(config.ledger.path, outdated=True)) as conn:
            return read.used_providers(conn)
    except (LedgerError, sqlite3.Error):
        return frozenset(config.providers)


async def _tell(looked: Mapping[str, Looked], told: Callable[[Mapping[str, Looked]], None]) -> None:
    while True:
        await asyncio.sleep(1.0)
        told(looked)


async def _sweep(config: Config, registered: Registered, ledger: Ledger, clock: Clock) -> dict[str, str]:
    """Queue every finished file; what could not be looked into, by source."""
    intake = intake_of(config, registered, ledger, wake=lambda: None)
    problems: dict[str, str] = {}
    for name, source in config.sources.items():
        watcher = Watcher(name, source, registered.sources[name], intake, ledger, clock)
        try:
            swept = await watcher.sweep()
        except LocalFault as missing:
            problems[name] = missing.message
            continue
        if swept.unreadable:
            problems[name] = f"{swept.unreadable} folders could not be read"
    return problems


class _Look:
    """A look at one provider, for all that is queued for it."""

    def __init__(
        self, name: str, config: Config, provider_id: int, ledger: Ledger, clock: Clock, *, marked: bool
    ) -> None:
        self.looked = Looked()
        self._name = name
        self._config = config.providers[name]
        self._sources = {source: each.path for source, each in config.sources.items()}
        self._id = provider_id
        self._ledger = ledger
        self._clock = clock
        self._marked = marked
        self._last = 0

    async def run(self) -> None:
        """Look for everything, or say in `looked.problem` why not."""
        expects = isinstance(self._config, DirectoryProvider) and self._marked
        try:
            if isinstance(self._config, DirectoryProvider):
                await must_be_apart(self._config.path, self._sources)
            provider = await open_provider(self._name, self._config, expect_marker=expects)
        except Fault as fault:
            self._give_up(fault)
            return
        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(self._config.max_uploads):
                    lanes.create_task(self._lane(provider))
        finally:
            await provider.aclose()

    async def _lane(self, provider: Provider) -> None:
        while not self.looked.problem and (claim := await self._next()) is not None:
            try:
                outcome = await self._patiently(provider, claim)
                self.looked.missing += outcome is None
            except Fault as fault:
                self._count(fault)
                outcome = None
            if outcome is None:
                await self._ledger.run(work.unclaim, claim)
            else:
                await self._ledger.run(work.verified, claim.upload_id, outcome.found, outcome.proof)
                self.looked.adopted += 1

    async def _next(self) -> Claim | None:
        claims = await self._ledger.run(queue.claim, self._id, 1, self._last)
        if not claims:
            return None
        # Lanes hear of their claims in any order.
        self._last = max(self._last, claims[0].upload_id)
        return claims[0]

    async def _patiently(self, provider: Provider, claim: Claim) -> Outcome | None:
        """Look, and again if that fails for no reason that needs a person."""
        for failures in range(1, TRIES + 1):
            try:
                return await self._upload(provider, claim).look()
            except Fault as fault:
                if fault.failure is not FailureClass.TRANSIENT or failures == TRIES:
                    raise
                delay = retry.UPLOADS.delay(failures, random.random, fault.retry_after)
                await self._clock.sleep(delay)
            except (LedgerError, asyncio.CancelledError):
                raise
            except Exception as error:
                code = type(error).__name__
                raise Fault(mask(f"{code}: {error}"), code=code, recognised=False) from error
        raise AssertionError("the last try returns or raises")

    def _upload(self, provider: Provider, claim: Claim) -> Upload:
        async def nothing(size: int) -> None:
            del size

        return Upload(
            claim,
            provider,
            UploadBook(self._ledger, claim, self._id),
            Wishes(
                content_type="",
                metadata={},
                # Whatever the configuration says of sending: what was once stored beside another object
                # is looked for there.
                on_conflict=OnConflict.SUFFIX,
                on_new_version=OnNewVersion.KEEP_BOTH,
                part_size=None,
                rate=None,
                writer_has=writer_has,
            ),
            Conditions(max_parts=1, sleep=self._clock.sleep, random=random.random, pace=nothing),
            Progress(claim.identity.size),
        )

    def _count(self, fault: Fault) -> None:
        match fault:
            case LocalFault() | Fault(failure=FailureClass.RECORDING):
                self.looked.left_out += 1
            case Fault(failure=FailureClass.CONFLICT):
                self.looked.missing += 1  # at both of its keys there is something else
            case _:
                self._give_up(fault)

    def _give_up(self, fault: Fault) -> None:
        if not self.looked.problem:
            self.looked.problem = fault.message + (f"; {fault.hint}" if fault.hint else "")


def _begun(tx: Transaction, aside: str | None) -> None:
    tx.event(Event("rebuild-begun", detail={"aside": aside}))


def _ended(tx: Transaction, result: Rebuilt) -> None:
    for name, looked in result.providers.items():
        detail = {
            "adopted": looked.adopted,
            "missing": looked.missing,
            "left_out": looked.left_out,
            "problem": looked.problem,
        }
        tx.event(Event("rebuilt", provider=name, detail=detail))
    for name, problem in result.sources.items():
        tx.event(Event("rebuilt", source=name, detail={"problem": problem}))
