"""Beginning a part of the daemon again if it fails: one part's bug must not stop the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from uploaderd.clock import Clock
from uploaderd.errors import LedgerBroken, LedgerFull
from uploaderd.logs.setup import get_logger

log = get_logger(__name__)

RESTART_SECONDS: Final = (1.0, 5.0, 15.0, 60.0)
"""Pauses before a part that failed unexpectedly is begun again."""

_HINT: Final = (
    "the ledger knows what is to be done; if this comes again, restart the daemon, and report its traceback"
)


async def supervise(
    what: str, run: Callable[[], Awaitable[None]], clock: Clock, stopping: asyncio.Event
) -> None:
    """Run it until it returns, or fails while the daemon is stopping.

    Raises:
        LedgerBroken: which no part can go on without.
    """
    failures = 0
    while True:
        try:
            await run()
            return
        except LedgerBroken:
            raise
        except LedgerFull:
            pass  # which the ledger has said; it goes on where it was
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            # A TaskGroup takes it for an end in good order, and nobody would ever hear of it.
            log.exception(
                "a part of the daemon was cut off by a mistake; it begins again", part=what, hint=_HINT
            )
        except Exception:
            log.exception("a part of the daemon failed; it begins again", part=what, hint=_HINT)
        if stopping.is_set():
            return
        pause = RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)]
        failures += 1
        await clock.sleep(pause)
