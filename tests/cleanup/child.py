"""A process that removes what is due and ends: to be killed in the middle.

    python -m tests.cleanup.child LEDGER SOURCE TARGET

Ends with 0 once nothing is due any more.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.pool.conftest import WatchedLedger
from uploaderd.cleanup import Cleaner
from uploaderd.clock import SystemClock
from uploaderd.config import Cleanup, DirectoryProvider, Source
from uploaderd.copies import CleanupProvider
from uploaderd.finished import ignore_lease_signals
from uploaderd.ledger import Ledger, Transaction, intake, removal
from uploaderd.ledger.passage import Ripe
from uploaderd.providers import open_provider


async def clean(path: Path, source: Path, target: Path) -> None:
    clock = SystemClock()
    ledger = WatchedLedger(path, clock)
    await ledger.open()
    row = await ledger.run(intake.register_source, "cams", bytes(source))
    provider = await open_provider("tested", DirectoryProvider(type="directory", path=target))
    rules = Cleanup(policy="delete-when-safe", keep_for="0s", remove_empty_dirs=True)
    cleaner = Cleaner(
        "cams",
        Source(path=source, cleanup=rules),
        row,
        ledger,
        clock,
        {"tested": CleanupProvider(lambda: provider)},
        look_at=lambda _: None,
        queued=lambda: None,
    )
    await cleaner.settle()
    running = asyncio.create_task(cleaner.run())
    ledger.moved.set()
    while await Ledger.run(ledger, _busy, row):
        await ledger.moved.wait()
        ledger.moved.clear()
    running.cancel()
    await asyncio.wait((running,))
    await provider.aclose()
    await ledger.close()


def _busy(tx: Transaction, source: int) -> bool:
    return bool(removal.due(tx, source, Ripe(tx.now, 0), 1) or removal.begun(tx, source))


if __name__ == "__main__":
    ignore_lease_signals()
    asyncio.run(clean(*map(Path, sys.argv[1:])))
