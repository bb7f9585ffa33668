"""What only the running daemon knows: rates, progress, and whether it moves. Never written down."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from uploaderd.clock import Clock
from uploaderd.config import Config
from uploaderd.errors import LedgerFull
from uploaderd.keys import text_of
from uploaderd.ledger import Ledger, Transaction
from uploaderd.model import FailureClass
from uploaderd.report.model import iso

if TYPE_CHECKING:
    from uploaderd.generation import Generation


class Live:
    """The daemon's live values; `config` is the configuration in effect, or about to be."""

    def __init__(self, clock: Clock, ledger: Ledger, config: Config) -> None:
        self.clock = clock
        self.ledger = ledger
        self.config = config
        self.started_at = clock.now()
        self.generation: Generation | None = None

    def values(self) -> Mapping[str, Any]:
        """Rates and running uploads, as JSON has them."""
        generation = self.generation
        if generation is None:
            return {"ledger": self._trouble(), "providers": {}, "uploading": [], "sources": {}}
        uploading = [
            {
                "path": text_of(running.claim.path),
                "source": running.claim.source,
                "provider": name,
                "bytes_sent": running.progress.held + running.progress.sent,
                "size": running.claim.identity.size,
                "resumed_from": running.progress.held,
                "rate_bytes_per_second": running.meter.rate(),
                "attempt": running.claim.attempt,
                "since": running.since,
            }
            for name, pool in generation.pools.items()
            for running in pool.running.values()
        ]
        return {
            "pid": os.getpid(),
            "ledger": self._trouble(),
            "providers": {
                name: {"rate_bytes_per_second": pool.meter.rate()} for name, pool in generation.pools.items()
            },
            "uploading": uploading,
            "sources": {name: watcher.state for name, watcher in generation.watchers.items()},
        }

    def _trouble(self) -> Mapping[str, Any] | None:
        """Why the ledger cannot be written; None while it can."""
        trouble = self.ledger.trouble
        if trouble is None:
            return None
        failure = FailureClass.TRANSIENT if isinstance(trouble.error, LedgerFull) else FailureClass.PROVIDER
        return {
            "class": failure,
            "message": trouble.error.message,
            "hint": trouble.error.hint,
            "since": iso(trouble.since),
        }

    async def alive(self) -> bool:
        """Whether the loop and the ledger's thread move. Says nothing of the clouds."""
        try:
            async with asyncio.timeout(5):
                await self.ledger.run(_nothing)
        except LedgerFull:
            return True  # it answers; a new start would find the disk as full
        except Exception:  # noqa: BLE001 -- whatever it is: a ledger that does not answer is not alive
            return False
        return True

    @property
    def now(self) -> int:
        return self.clock.now()


def _nothing(tx: Transaction) -> float:
    tx.conn.execute("SELECT 1")
    return time.monotonic()
