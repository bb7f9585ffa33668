"""`expect_every`: looks again and again whether a source has been silent for too long (`ledger.silence`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uploaderd.clock import Clock
from uploaderd.errors import LedgerFull
from uploaderd.ledger import Ledger, silence
from uploaderd.logs.setup import get_logger
from uploaderd.model import Milliseconds

log = get_logger(__name__)

LOOK_SECONDS: Final = 10.0

GRACE_SECONDS: Final = 300.0
"""After the start, at most: what the first sweep found has to be quiet before it is a recording, and that
takes longest on network file systems (`config.source.QUIET_ON_NETWORK`)."""


class Expecting:
    """`every`: seconds, by the source's row; sources of which nothing is expected are not in it."""

    def __init__(self, every: Mapping[int, float], ledger: Ledger, clock: Clock) -> None:
        self._every = every
        self._ledger = ledger
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled; without expectations it looks once, so that no old alarm stays."""
        began = self._clock.now()
        expected = {
            source: silence.Expected(
                every=int(every * 1000),
                swept_after=began,
                not_before=Milliseconds(began + int(min(every, GRACE_SECONDS) * 1000)),
            )
            for source, every in self._every.items()
        }
        while True:
            try:
                for name in await self._ledger.run(silence.judge, expected):
                    log.error(
                        "nothing came from a source for longer than expected",
                        source=name,
                        hint="see whether its recorder runs; `uploaderd status` says more",
                    )
            except LedgerFull:
                await self._ledger.mended()
                continue
            if not expected:
                return
            await self._clock.sleep(LOOK_SECONDS)
