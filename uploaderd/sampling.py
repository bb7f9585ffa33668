"""Takes a sample a minute of what waits and what was sent (`ledger.samples`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from uploaderd.clock import Clock
from uploaderd.errors import LedgerFull
from uploaderd.ledger import Ledger, samples


class Sampling:
    """`sent` gives the bytes sent so far, by the provider's row; it only grows."""

    def __init__(self, sent: Callable[[], Mapping[int, int]], ledger: Ledger, clock: Clock) -> None:
        self._sent = sent
        self._ledger = ledger
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        before: Mapping[int, int] = {}
        while True:
            await self._clock.sleep((samples.EVERY - self._clock.now() % samples.EVERY) / 1000)
            now = self._sent()
            since = {provider: count - before.get(provider, 0) for provider, count in now.items()}
            try:
                await self._ledger.run(samples.take, since)
            except LedgerFull:
                continue  # that stretch is told with the next that finds room
            before = now
