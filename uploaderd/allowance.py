"""How fast bytes may leave: the operator's limits, over all providers and for each, by time of day.

Limits outlive a reload: a new one holds from the next window on, also for parts that are under way.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from uploaderd.clock import Clock
from uploaderd.config import Bandwidth
from uploaderd.reader import WINDOW

BURST_SECONDS: Final = 0.25
"""What was not used for so long may be caught up with: a wait that lasts a little too long costs nothing,
and a minute's sum is less than half a percent too high."""

SHORTEST_WAIT: Final = 0.001
"""Seconds: what a timer is good for."""

SMALLEST_WINDOW: Final = 16 * 1024
"""Bytes: what TLS makes one record of."""

LANE_RATE: Final = 256 * 1024
"""Bytes per second that a request should have for itself. Below it more at once would only make each of
them slow: servers give up on a body that trickles, and a crash would cost more to send again."""


class Limit:
    """A token bucket. Whoever takes more than is there owes it, and the next one waits: the average is kept
    exactly, whatever the windows' sizes.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bandwidth = Bandwidth()
        self._turn = asyncio.Lock()
        self._level = 0.0
        self._at = clock.monotonic()

    def set(self, bandwidth: Bandwidth) -> None:
        self._bandwidth = bandwidth

    @property
    def rate(self) -> int | None:
        """Bytes per second that hold now; None is unlimited."""
        if not self._bandwidth.windows:
            return self._bandwidth.rate
        return self._bandwidth.rate_at(datetime.fromtimestamp(self._clock.now() / 1000))  # noqa: DTZ006

    async def take(self, size: int) -> None:
        """Wait until so many bytes may be sent; first come, first served."""
        if self.rate is None and not self._turn.locked():
            return
        async with self._turn:
            while (rate := self.rate) is not None:
                now = self._clock.monotonic()
                self._level = min(self._level + (now - self._at) * rate, rate * BURST_SECONDS)
                self._at = now
                if self._level >= 0:
                    self._level -= size
                    return
                # In short steps: a reload, or another time of day, may bring another rate.
                await self._clock.sleep(min(max(-self._level / rate, SHORTEST_WAIT), 1.0))


class Allowance:
    """What one provider may use: its own limit's, and its share of the one over all."""

    def __init__(self, *limits: Limit) -> None:
        self._limits = limits

    @property
    def rate(self) -> int | None:
        """Bytes per second at most; None is unlimited."""
        return min((rate for limit in self._limits if (rate := limit.rate) is not None), default=None)

    @property
    def window(self) -> int:
        """Bytes to take at once: a small part of a second's."""
        rate = self.rate
        return WINDOW if rate is None else min(max(int(rate * BURST_SECONDS), SMALLEST_WINDOW), WINDOW)

    @property
    def lanes(self) -> int:
        """Requests among which it should be shared, at most."""
        rate = self.rate
        return sys.maxsize if rate is None else max(1, rate // LANE_RATE)

    async def take(self, size: int) -> None:
        """Wait until so many bytes may be sent."""
        for limit in self._limits:
            await limit.take(size)


UNLIMITED: Final = Allowance()


class Allowances:
    """All limits of a daemon, by provider."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._overall = Limit(clock)
        self._own: dict[str, Limit] = {}

    def set(self, overall: Bandwidth, own: Mapping[str, Bandwidth]) -> None:
        """Take these limits from now on; `own` by the providers' names."""
        self._overall.set(overall)
        for name in self._own.keys() | own.keys():
            self._limit(name).set(own.get(name, Bandwidth()))

    def of(self, provider: str) -> Allowance:
        return Allowance(self._limit(provider), self._overall)

    def _limit(self, provider: str) -> Limit:
        return self._own.setdefault(provider, Limit(self._clock))
