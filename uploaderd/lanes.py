"""How many requests with a body a provider is sent at once.

As many as are allowed, until it says that it is too much: then half of them, and again one more each time
that as many as there are now went well (additive increase, multiplicative decrease; Chiu and Jain, 1989).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from uploaderd.errors import Fault

TOO_MUCH: Final = frozenset({429, 503})
"""HTTP statuses that say "slow down" (RFC 6585, 4; RFC 9110, 15.6.4; SlowDown of S3, ServerBusy of Azure)."""


class Lanes:
    """`most` are ever used; `allowed` may ask for fewer at any time."""

    def __init__(self, most: int, allowed: Callable[[], int]) -> None:
        self._most = most
        self._allowed = allowed
        self._limit = float(most)
        self._cuts = 0
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """How many may be used now; at least one."""
        return max(1, min(int(self._limit), self._allowed()))

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Use a lane, once there is one; what becomes of it tells how many there should be."""
        await self._enter()
        began = self._cuts
        try:
            yield
        except Fault as fault:
            # Of those that were on their way together only the first is news.
            if fault.http_status in TOO_MUCH and began == self._cuts:
                self._cuts += 1
                self._limit = max(1.0, min(self._limit, self._used) / 2)
            raise
        else:
            self._limit = min(self._most, self._limit + 1 / self._limit)
        finally:
            self._leave()

    async def _enter(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        self._used -= 1
        self._admit()

    def _admit(self) -> None:
        """Let those in who waited longest, and still do."""
        while self._waiting and self._used < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._used += 1
                turn.set_result(None)
