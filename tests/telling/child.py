"""Carries the messages of a ledger until it is killed: `python -m tests.telling.child FOLDER URL`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.telling.conftest import configuration
from uploaderd.clock import SystemClock
from uploaderd.ledger import Ledger, outbox
from uploaderd.telling import Telling


async def main(folder: Path, url: str) -> None:
    clock = SystemClock()
    config = configuration(folder, url)
    ledger = Ledger(config.ledger.path, clock.now, "child")
    await ledger.open()
    rows = await ledger.run(outbox.configured, {"shop": config.webhooks["shop"].events})
    # Messages were made long before this clock's time, or long after it: neither is too old for it.
    await ledger.run(lambda tx: tx.conn.execute("UPDATE messages SET at = ?", (tx.now,)))
    await Telling("shop", rows["shop"], config, ledger, clock).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
