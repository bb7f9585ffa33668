"""The two clocks that everything asks: the wall's for the record, the machine's for waiting."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Protocol

from uploaderd.model import Milliseconds


class Clock(Protocol):
    """Handed to whatever looks at the time, so that a test can turn it."""

    def now(self) -> Milliseconds:
        """Wall clock. It may jump either way: never measure a duration with it."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> Milliseconds:
        return Milliseconds(time.time_ns() // 1_000_000)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def since_boot() -> float:
    """Seconds of the machine's own clock, which nobody sets and sleep does not stop (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def boot() -> str:
    """Tells one start of the machine, since which its clock goes, from another; random(4), boot_id.

    Where the system does not say it, each call is taken for another start.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.urandom(16).hex()


async def wait_for(event: asyncio.Event, clock: Clock, seconds: float | None) -> None:
    """Wait for the event, at most so long (None: without end); the event is cleared."""
    waits: list[asyncio.Future[object]] = [asyncio.ensure_future(event.wait())]
    if seconds is not None:
        waits.append(asyncio.ensure_future(clock.sleep(max(0.0, seconds))))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    event.clear()
