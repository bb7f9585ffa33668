"""What systemd is told of the daemon, over the socket that it names (sd_notify(3)).

Ready, reloading, stopping; one line of how things stand, for `systemctl status`; and the watchdog's
sign of life, given only while the event loop and the ledger's thread both move. All of it are datagrams
and looks at the ledger: an idle daemon writes nothing to a disk for it. Without $NOTIFY_SOCKET nothing
is told.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from typing import Final, Self

from uploaderd.clock import Clock
from uploaderd.config import Config
from uploaderd.errors import LedgerError
from uploaderd.ledger import connect_readonly
from uploaderd.ledger.lock import Holder
from uploaderd.ledger.reading import unreadable
from uploaderd.logs.setup import get_logger
from uploaderd.model import Word
from uploaderd.report import status
from uploaderd.report.lines import count
from uploaderd.report.model import Status

log = get_logger(__name__)

STATUS_SECONDS: Final = 3.0
"""How often the line is made anew; it is sent only when it changed."""

WATCHDOG_SHARE: Final = 3
"""Signs of life in the time that the watchdog allows: one may come late, and one be lost."""

STOP_SECONDS: Final = 30.0
"""By how much a stop that still moves is prolonged, again and again: a drain may take longer than the
unit's TimeoutStopSec, and a daemon that hangs in it is killed that soon."""

LONGEST: Final = 300
"""Characters of the line: the first fault's reason may be long."""


class ServiceManager:
    """The service manager, if there is one that wants to be told.

    `address` is that of its socket, None without one; a leading @ stands for the abstract name space.
    `watchdog` is the time in seconds within which it wants signs of life; None if it wants none.
    """

    def __init__(self, address: str | None, watchdog: float | None = None) -> None:
        self._address = "\0" + address[1:] if address is not None and address.startswith("@") else address
        self.watchdog = watchdog
        self._ready = asyncio.Event()
        self._stopping = False
        self._said: str | None = None

    @classmethod
    def found_in(cls, environ: Mapping[str, str]) -> Self:
        """The one that the environment names."""
        address = environ.get("NOTIFY_SOCKET") or None
        if address is not None and not address.startswith(("/", "@")):
            log.warning("the service manager is not told anything: no such socket", socket=address)
            address = None
        # Set for another process of the service, it is none of ours (sd_watchdog_enabled(3)).
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        wanted = environ.get("WATCHDOG_USEC", "")
        watchdog = int(wanted) / 1e6 if ours and wanted.isdecimal() and int(wanted) > 0 else None
        return cls(address, watchdog)

    def ready(self) -> None:
        """The daemon works, with the configuration that it last took."""
        self._tell("READY=1")
        self._ready.set()

    def reloading(self) -> None:
        """The configuration is read again; `ready` follows, whichever one is in effect then."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The daemon was told to stop. From now on `keep_telling` asks for the time that this takes."""
        self._stopping = True
        self._tell("STOPPING=1", _more_time())

    async def keep_telling(
        self, alive: Callable[[], Awaitable[bool]], line: Callable[[], Awaitable[str]], clock: Clock
    ) -> None:
        """Give the signs of life and the line, until cancelled.

        Args:
            alive: whether the daemon moves; asked on the event loop, which thereby moves too.
            line: how things stand.
            clock: decides when.
        """
        if self._address is None:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_alive(alive, clock))
            group.create_task(self._keep_line(line, clock))

    async def _keep_alive(self, alive: Callable[[], Awaitable[bool]], clock: Clock) -> None:
        if self.watchdog is None:
            return
        while True:
            if await alive():
                self._tell("WATCHDOG=1")
            else:
                log.error("the ledger does not move; the watchdog gets no sign of life")
            await clock.sleep(self.watchdog / WATCHDOG_SHARE)

    async def _keep_line(self, line: Callable[[], Awaitable[str]], clock: Clock) -> None:
        await self._ready.wait()
        self._tell("STATUS=started; looking at the sources")  # what they hold is not known yet
        while True:
            await clock.sleep(STATUS_SECONDS)
            if self._stopping:
                self._tell(_more_time())
            try:
                found = await line()
            except Exception:
                log.exception("the service manager's line could not be made")
            else:
                text = ("stopping; " if self._stopping else "") + " ".join(found.split())[:LONGEST]
                if text != self._said and self._tell(f"STATUS={text}"):
                    self._said = text

    def _tell(self, *lines: str) -> bool:
        """Send the lines, without waiting for anything; whether they went out."""
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)
                out.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("the service manager cannot be told", what=lines[0], reason=error.strerror)
            return False
        return True


def standing(config: Config, holder: Holder, live: Mapping[str, object], now: int) -> str:
    """How things stand, in one line, as `status` would say it: `SAFE, 412 recordings`. Blocks."""
    return summary(found(config, holder, live, now))


def summary(told: Status) -> str:
    """The word, and the figure or the reason that belongs to it."""
    counts, word = told["recordings"], told["state"]
    waiting = f"{counts['waiting']:,} waiting"
    match word:
        case Word.SAFE:
            safe = f"{word}, {count(counts['safe'], 'recording')}"
            return f"{safe}, {waiting}" if counts["waiting"] else safe
        case Word.BEHIND:
            return f"{word}, {waiting}"
        case _:
            return f"{word}: {told['reasons'][0]}"


def found(config: Config, holder: Holder, live: Mapping[str, object], now: int) -> Status:
    """The status, without a look at the disks. Blocks. A ledger that cannot be read is part of it."""
    path = config.ledger.path
    try:
        with closing(connect_readonly(path)) as conn:
            try:
                return status.status(conn, config, holder, live, now, look=False)
            except sqlite3.Error as error:
                raise unreadable(path, error) from error
    except LedgerError as fault:
        return status.status(None, config, holder, live, now, fault=fault, look=False)


def _more_time() -> str:
    return f"EXTEND_TIMEOUT_USEC={int(STOP_SECONDS * 1e6)}"
