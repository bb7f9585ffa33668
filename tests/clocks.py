"""A clock that a test turns."""

from __future__ import annotations

import asyncio
import heapq

from uploaderd.model import Milliseconds


class FakeClock:
    """Stands still until `advance`; wall and monotonic time go together unless `wall` is moved."""

    def __init__(self, wall: int = 1_800_000_000_000) -> None:
        self.wall = wall
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> Milliseconds:
        return Milliseconds(self.wall)

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._count, future))
        await future

    @property
    def sleeping(self) -> int:
        """How many sleep; whoever was cancelled does not."""
        return sum(not future.done() for *_, future in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Move both clocks on; whoever slept until then wakes."""
        self._monotonic += seconds
        self.wall += round(seconds * 1000)
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
