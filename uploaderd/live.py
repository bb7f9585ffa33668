"""What only the running daemon knows: rates, progress, and whether it moves. Never written down."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from uploaderd.clock import Clock
from uploaderd.errors import LedgerFull
from uploaderd.keys import text_of
from uploaderd.ledger import Ledger, Transaction
from uploaderd.logs.setup import get_logger
from uploaderd.model import FailureClass
from uploaderd.report.model import iso

if TYPE_CHECKING:
    from uploaderd.generation import Generation

log = get_logger(__name__)

SOCKET_PATH_BYTES: Final = 107
"""Longest path of a Unix socket (unix(7): 108 with the closing zero)."""


GOODBYE_SECONDS: Final = 1.0
"""How long answers that are under way may take when the daemon ends."""

_HINT: Final = "set [web] socket"


class Live:
    """The daemon's live values, and the socket that tells them."""

    def __init__(self, clock: Clock, ledger: Ledger) -> None:
        self.clock = clock
        self.ledger = ledger
        self._runner: web.AppRunner | None = None
        self._socket: Path | None = None
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

    async def serve(self, application: web.Application, socket: Path) -> None:
        """Answer on the control socket. A socket that cannot be had is said, and lived without."""
        if len(os.fsencode(socket)) > SOCKET_PATH_BYTES:
            log.warning("no control socket: its path is too long", socket=str(socket), hint=_HINT)
            return
        # Who waits for something long hears no more once the daemon ends; it does not wait for them.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=GOODBYE_SECONDS)
        await self._runner.setup()
        before = os.umask(0o177)
        try:
            _make_way(socket)
            await web.UnixSite(self._runner, str(socket)).start()
            self._socket = socket
        except OSError as error:
            log.warning("no control socket", socket=str(socket), reason=error.strerror, hint=_HINT)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop answering. Idempotent."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
            self._socket = None

    @property
    def now(self) -> int:
        return self.clock.now()


def _make_way(socket: Path) -> None:
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)  # the ledger's lock says that nobody else serves it


def _nothing(tx: Transaction) -> float:
    tx.conn.execute("SELECT 1")
    return time.monotonic()
