"""A ledger put aside: renamed with all that belongs to it, never removed."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from uploaderd.model import Milliseconds


def put_aside(ledger: Path, now: Milliseconds) -> Path | None:
    """Rename the ledger to `<ledger>.damaged-<time>`; its new path, or None if there was none.

    Its lock must be held.

    Raises:
        OSError: it could not be renamed.
    """
    stamp = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = ledger.with_name(f"{ledger.name}.damaged-{stamp}")
    there = False
    # The file itself last: a new ledger beside an old write-ahead log would take that for its own.
    for ending in ("-wal", "-shm", ""):
        source = ledger.with_name(ledger.name + ending)
        if os.path.lexists(source):
            source.rename(aside.with_name(aside.name + ending))
            there = True
    fd = os.open(ledger.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return aside if there else None
