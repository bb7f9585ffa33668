"""The two clocks that everything asks: the wall's for the record, the machine's for waiting."""

from __future__ import annotations

import asyncio
import time
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
