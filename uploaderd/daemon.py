"""The daemon: start, work, stop. What it wires together is in `generation`.

It ends with 0 after a clean stop, 1 if its ledger failed, and otherwise with what `--until-safe` or
draining found: 0 if all is safe, 1 if something needs a person, 75 if the time ran out.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp.web import Application

from uploaderd import __version__
from uploaderd.allowance import Allowances
from uploaderd.clock import Clock, SystemClock
from uploaderd.config import Config
from uploaderd.draining import drain, last_words, left
from uploaderd.errors import LedgerBroken, LedgerError, LedgerFull
from uploaderd.finished import ignore_lease_signals
from uploaderd.generation import Generation, Registered, register
from uploaderd.heartbeat import beat
from uploaderd.ledger import Event, Ledger, Transaction, read, work
from uploaderd.ledger.lock import Holder
from uploaderd.ledger.wanted import EVERYTHING
from uploaderd.live import Live
from uploaderd.logs import register_secret
from uploaderd.logs.setup import configure as configure_logs
from uploaderd.logs.setup import get_logger
from uploaderd.notice import effective_lines, switched
from uploaderd.notify import ServiceManager, found, standing
from uploaderd.reloading import Reloading
from uploaderd.serving import Serving

log = get_logger(__name__)

COLLECT_AFTER: Final = (7_000, 10, 10)
"""Thresholds (gc.set_threshold); ten times Python's own first one, for libraries are loaded later, too."""

SETTLED_LOOK_SECONDS: Final = 0.25
"""How often `--until-safe` looks whether it may end."""

HUNG_SECONDS: Final = 5.0
"""How long work that was cut off may take to end: a thread in the kernel, on a dead mount, never does."""

OK: Final = 0
PROBLEMS: Final = 1
TRY_AGAIN: Final = 75

Errand = Callable[[Generation, Ledger, Clock], Awaitable[int]]
"""Something to be done with all at work; the exit status. With a new configuration it begins anew."""


class Daemon:
    """One daemon on one ledger.

    `application` is what is served on the control socket and where `[web] listen` says. `reload` gives
    the configuration anew, or raises ConfigError; None where there is no file to read. `until_safe` is
    the number of recordings that must at least be there and safe before it ends by itself; None: it
    never does. An `errand` is what it is started for: it ends once that is done, with the status that it
    gives.
    """

    def __init__(
        self,
        config: Config,
        *,
        application: Callable[[Live], Application],
        reload: Callable[[], Config] | None = None,
        until_safe: int | None = None,
        errand: Errand | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._reloading = Reloading(reload, lambda: self._config, self._take) if reload is not None else None
        self._until_safe = until_safe
        self._errand = errand
        self._clock = clock if clock is not None else SystemClock()
        self._allowances = Allowances(self._clock)
        self._ledger = Ledger(config.ledger.path, self._clock.now, __version__, socket=config.web.socket)
        self._stop = asyncio.Event()
        self._again: Config | None = None
        self._before: Config | None = None
        self._changed = asyncio.Event()
        self._drains = False
        """Told to stop, but to drain before."""
        self._status = OK
        self._work: asyncio.Task[None] | None = None
        self._manager = ServiceManager.found_in(os.environ)
        self.live = Live(self._clock, self._ledger, config)
        self._serving = Serving(application(self.live), config.web, self._clock)

    async def run(self) -> int:
        """Start, work until told to stop, stop; the exit status.

        Raises:
            LedgerError: the ledger cannot be used (held by another, too new, not writable).
            Refused: by the errand.
        """
        await self._start()
        beside = [asyncio.create_task(self._keep_telling())]
        if self._reloading is not None:
            secrets = self._reloading.look_at_secrets(self._clock, self._secrets_changed)
            beside += [asyncio.create_task(self._reloading.run()), asyncio.create_task(secrets)]
        try:
            while self._drains or not self._stop.is_set():
                await self._generation()
        except* LedgerBroken as group:
            broken = _first(group)
            log.critical(
                "the ledger failed; ending so that a new start can recover",
                reason=str(broken),
                hint=getattr(broken, "hint", ""),
            )
            self._status = PROBLEMS
        finally:
            for task in beside:
                task.cancel()
            await self._end()
        return self._status

    # --- start -------------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._log_configuration()
        await self._ledger.open()
        try:
            ignore_lease_signals()
            self._listen_to_signals()
            await self._serving.begin()
            await self._ledger.insist_in_need(_note, "started", {"version": __version__})
        except BaseException:
            await self._serving.close()
            await self._ledger.close()
            raise
        # What start-up made stays for good: the collector need not walk it again and again.
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)

    def _log_configuration(self) -> None:
        for secret in self._config.secrets():
            register_secret(secret)
        configure_logs(level=self._config.daemon.log_level, levels=self._config.daemon.log_levels)
        log.info("uploaderd starts", version=__version__, configuration=str(self._config.file or "no file"))
        log.info("providers", **switched(self._config))
        for line in effective_lines(self._config):
            log.info("configuration", **line)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload)

    # --- work --------------------------------------------------------------------------------------

    async def _generation(self) -> None:
        """Work with one configuration, until told to stop or to take another."""
        if not self._stop.is_set():
            self._changed.clear()
        if interrupted := await self._ledger.insist_in_need(work.recover):
            log.warning("uploads were cut off; they go on", uploads=interrupted)
        registered = await self._registered()
        self._limit(self._config)
        generation = Generation(self._config, registered, self._ledger, self._clock, self._allowances)
        self.live.config, self.live.generation = self._config, generation
        self._work = asyncio.create_task(generation.run(), name="generation")
        watching = asyncio.create_task(self._until_done(generation), name="until-done")
        changed = asyncio.create_task(self._changed.wait())
        beating = asyncio.create_task(self._beat(self._config), name="heartbeat")
        self._manager.ready()
        if self._stop.is_set():
            self._manager.stopping()
        try:
            await asyncio.wait((self._work, changed, watching), return_when=asyncio.FIRST_COMPLETED)
            if self._drains:
                await self._drain(generation, self._work)
            generation.stop()
            await self._within_grace(self._work)
        finally:
            watching.cancel()
            changed.cancel()
            beating.cancel()
        if watching.done():
            watching.result()
        if self._again is not None:
            self._before, self._config, self._again = self._config, self._again, None
            self._log_configuration()

    def _limit(self, config: Config) -> None:
        self._allowances.set(
            config.daemon.bandwidth, {name: one.bandwidth for name, one in config.providers.items()}
        )

    async def _registered(self) -> Registered:
        """What the ledger calls the configuration's sources and providers.

        A reloaded configuration in which a provider's name stands for another place is given back.
        """
        try:
            return await register(self._config, self._ledger)
        except LedgerError as error:
            if self._before is None:
                raise
            log.error("the new configuration is refused; the old one comes back", reason=str(error))
            self._config, self._before = self._before, None
            return await register(self._config, self._ledger)

    async def _within_grace(self, running: asyncio.Task[None]) -> None:
        """Let parts in flight finish; past the grace, or at a second signal, cut them off."""
        grace = self._config.daemon.shutdown_grace
        done, _ = await asyncio.wait((running,), timeout=grace)
        if not done:
            log.warning("parts in flight did not finish in time; they are sent again", grace_seconds=grace)
            running.cancel()
            done, _ = await asyncio.wait((running,), timeout=HUNG_SECONDS)
            if not done:
                # What it was about is found at the next start, as after a crash.
                log.error("a disk or mount does not answer; ending without it")
                self._status = PROBLEMS
                return
        try:
            await running
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise

    async def _until_done(self, generation: Generation) -> None:
        """Return once what the daemon was started for is done; never, if that is to run."""
        try:
            if self._errand is not None:
                self._status = await self._errand(generation, self._ledger, self._clock)
            elif self._until_safe is not None:
                with generation.asked(lambda: EVERYTHING):
                    await self._until_settled(generation, self._until_safe)
            else:
                await asyncio.Event().wait()
        finally:
            # A cancellation ends one generation only.
            if (task := asyncio.current_task()) is None or not task.cancelling():
                self._stop.set()

    async def _until_settled(self, generation: Generation, enough: int) -> None:
        """Return once everything is settled, nothing is on its way."""
        while True:
            try:
                totals = await self._ledger.run(lambda tx: read.totals(tx.conn))
            except LedgerFull:
                await self._ledger.mended()
                continue
            quiet = all(watcher.settled for watcher in generation.watched.values())
            if quiet and totals.waiting == 0 and totals.safe + totals.troubled >= enough:
                log.info("everything is settled", safe=totals.safe, in_trouble=totals.troubled)
                unseen = {name: one.state["unseen"] for name, one in generation.watched.items()}
                if unseen := {name: folders for name, folders in unseen.items() if folders}:
                    log.error("not all folders could be looked into; their files are unknown", folders=unseen)
                if totals.alarming or unseen:
                    self._status = PROBLEMS
                return
            await self._clock.sleep(SETTLED_LOOK_SECONDS)

    async def _keep_telling(self) -> None:
        """Tell the service manager that the daemon moves, and how things stand."""
        holder = Holder(os.getpid(), __version__, self._clock.now())

        async def line() -> str:
            live = self.live.values()
            return await asyncio.to_thread(standing, self._config, holder, live, self._clock.now())

        await self._manager.keep_telling(self.live.alive, line, self._clock)

    async def _beat(self, config: Config) -> None:
        holder = Holder(os.getpid(), __version__, self._clock.now())

        async def word() -> str:
            live, now = self.live.values(), self._clock.now()
            return (await asyncio.to_thread(found, config, holder, live, now))["state"]

        await beat(config.heartbeat, word, self._clock)

    def _secrets_changed(self) -> None:
        if not self._stop.is_set():
            log.info("secret files have changed")
            self._asked_to_reload()

    # --- stop --------------------------------------------------------------------------------------

    def _asked_to_stop(self, number: int) -> None:
        name, settings = signal.Signals(number).name, self._config.daemon
        if self._stop.is_set():
            log.warning("told to stop again: stopping now", signal=name)
            if self._work is not None:
                self._work.cancel()
            return
        if settings.on_stop == "drain":
            log.info("told to stop; draining first", signal=name, at_most_seconds=settings.drain_timeout)
            self._drains = True
        else:
            grace = settings.shutdown_grace
            log.info("told to stop; parts in flight finish", signal=name, grace_seconds=grace)
        self._manager.stopping()
        self._stop.set()
        self._changed.set()
        if not self._drains:
            self._ledger.hurry()

    def _asked_to_reload(self) -> None:
        if self._reloading is None:
            log.warning("there is no configuration file to read again")
            return
        if self._stop.is_set():
            log.warning("the configuration is not read again: the daemon is stopping")
            return
        self._manager.reloading()
        self._reloading.ask()

    def _take(self, config: Config | None) -> None:
        if self._stop.is_set():
            log.warning("no new configuration is taken: the daemon is stopping")
            return
        if config is None:
            self._manager.ready()
            return
        log.info("taking the new configuration")
        if config.secret_files.fixed:
            log.warning(
                "secrets that systemd hands over (LoadCredential) are still those of the start",
                hint="systemctl restart, if one of them has changed",
            )
        self._limit(config)  # what is under way keeps to it at once
        self._again = config
        self._changed.set()

    async def _drain(self, generation: Generation, running: asyncio.Task[None]) -> None:
        """Bring everything to safety before the generation ends, unless it ends by itself: told twice."""
        draining = asyncio.create_task(
            drain(generation, self._ledger, self._clock, self._config.daemon.drain_timeout)
        )
        try:
            await asyncio.wait((running, draining), return_when=asyncio.FIRST_COMPLETED)
            what = draining.result() if draining.done() else await left(generation, self._ledger)
        finally:
            draining.cancel()
            self._drains = False
            self._ledger.hurry()
        if what:
            log.error("not everything is safe; ending all the same", left=what.lines)
            last_words(what)
            self._status = TRY_AGAIN if what.late else PROBLEMS
        elif self._until_safe is not None and not await self._enough():
            log.error("everything is safe, but less came than was expected", expected=self._until_safe)
            self._status = TRY_AGAIN
        else:
            log.info("everything is safe")

    async def _enough(self) -> bool:
        totals = await self._ledger.run(lambda tx: read.totals(tx.conn))
        return totals.safe + totals.troubled >= (self._until_safe or 0)

    async def _end(self) -> None:
        await self._serving.close()
        try:
            await self._ledger.run(_note, "stopped", {"status": self._status})
        except LedgerError as error:
            log.error("the end could not be written to the ledger", reason=str(error))
        await self._ledger.close()
        log.info("uploaderd has stopped", status=self._status)


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group


def _note(tx: Transaction, kind: str, detail: dict[str, object]) -> None:
    tx.event(Event(kind, detail=detail))
