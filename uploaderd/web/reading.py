"""Questions to the ledger from over HTTP: on threads of their own, so that no upload waits for a reader.

Each question has its own read-only connection. The status is made at most once a second, however many
ask.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from uploaderd import __version__
from uploaderd.config import Config
from uploaderd.errors import LedgerError
from uploaderd.ledger import samples, tally
from uploaderd.ledger.lock import Holder
from uploaderd.ledger.reading import connect_readonly, unreadable
from uploaderd.live import Live
from uploaderd.report import status as statuses
from uploaderd.report.model import Status
from uploaderd.web.disks import Disks

T = TypeVar("T")

THREADS: Final = 2
"""Questions that are answered at once; the others wait their turn."""

FRESH_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Now:
    """How things stand: all from one moment.

    `tallies` and `lately` are None where the ledger cannot be read, which is said in `status`.
    """

    status: Status
    tallies: tally.Tallies | None
    lately: samples.Lately | None
    at: int
    ledger_free: int | None


class Reading:
    """What handlers ask the ledger through. `close` it at the end."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="web")
        self._disks = Disks()
        self._lock = asyncio.Lock()
        self._now: tuple[float, Now] | None = None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: Callable[[sqlite3.Connection, Config], T]) -> T:
        """Put a question to the ledger, with the configuration in effect.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        config = self._live.config

        def answer() -> T:
            return _answer(config, question)

        return await asyncio.get_running_loop().run_in_executor(self._threads, answer)

    async def now(self) -> Now:
        """How things stand, at most a second ago."""
        async with self._lock:
            at = self._live.clock.monotonic()
            if self._now is None or at - self._now[0] >= FRESH_SECONDS:
                live = self._live.values()
                found = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._look, self._live.config, live, at
                )
                self._now = at, found
            return self._now[1]

    def _look(self, config: Config, live: Mapping[str, Any], monotonic: float) -> Now:
        """Blocks."""
        at = self._live.clock.now()
        holder = Holder(os.getpid(), __version__, self._live.started_at)
        folders = {name: Path(source.path) for name, source in config.sources.items()}
        folders[""] = config.ledger.path.parent
        disks = self._disks.look(folders, monotonic)

        def look(conn: sqlite3.Connection, config: Config) -> Now:
            status = statuses.status(conn, config, holder, live, at, disks=disks)
            return Now(status, tally.read(conn), samples.read(conn, at), at, disks[""].free)

        try:
            return _answer(config, look)
        except LedgerError as fault:
            status = statuses.status(None, config, holder, live, at, fault=fault, disks=disks)
            return Now(status, None, None, at, disks[""].free)


def _answer(config: Config, question: Callable[[sqlite3.Connection, Config], T]) -> T:
    path = config.ledger.path
    with closing(connect_readonly(path)) as conn:
        try:
            return question(conn, config)
        except sqlite3.Error as error:
            raise unreadable(path, error) from error
