"""How fast bytes go by: a decaying average, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Callable


class Meter:
    """Bytes per second over about the last `horizon` seconds; `monotonic` is the clock."""

    def __init__(self, monotonic: Callable[[], float], horizon: float = 10.0) -> None:
        self._monotonic = monotonic
        self._horizon = horizon
        self._level = 0.0
        self._at = monotonic()
        self.total = 0

    def add(self, size: int) -> None:
        self._decay()
        self._level += size / self._horizon
        self.total += size

    def rate(self) -> float:
        self._decay()
        return self._level if self._level >= 1.0 else 0.0

    def _decay(self) -> None:
        now = self._monotonic()
        if now > self._at:
            self._level *= math.exp((self._at - now) / self._horizon)
            self._at = now
