"""The ledger as the daemon holds it: locked for others, brought up to date, writable."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlite_utils import Database

from uploaderd.errors import LedgerError
from uploaderd.ledger.lock import LedgerLock
from uploaderd.ledger.reading import BUSY_TIMEOUT_MS, look, unreadable
from uploaderd.ledger.schema import migrations
from uploaderd.ledger.writer import Transaction, Writer
from uploaderd.model import Milliseconds

P = ParamSpec("P")
T = TypeVar("T")


class Ledger:
    """The ledger, held and writable. `run` is the only way to change anything.

    `socket` is where its daemon answers, for whoever finds the ledger held.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], Milliseconds],
        version: str,
        *,
        socket: Path | None = None,
    ) -> None:
        self.path = path
        self._socket = socket
        self._clock = clock
        self._version = version
        self._lock: LedgerLock | None = None
        self._writer = Writer(lambda: _connect(path), clock)

    async def open(self) -> None:
        """Take the lock, open, bring the schema up to date (after a backup).

        Raises:
            LedgerHeld: another daemon has it.
            LedgerTooNew: a newer version wrote it; nothing was touched.
            LedgerError: it cannot be used.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = LedgerLock.take(self.path, self._version, self._clock(), self._socket)
        except OSError as error:
            raise LedgerError(
                f"cannot write in {self.path.parent}: {error.strerror}",
                "give the daemon's user that folder, or set [ledger] path",
            ) from error
        try:
            await self._writer.start()
        except BaseException:
            self._lock.close()
            raise

    async def run(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(transaction, ...)` on the ledger's thread; its result once it is durable."""
        return await self._writer.run(work, *args, **kwargs)

    @property
    def turns(self) -> int:
        """Requests answered so far, for the watchdog."""
        return self._writer.turns

    async def close(self) -> None:
        """Answer what waits, close, give the lock back. Idempotent."""
        await self._writer.stop()
        if self._lock is not None:
            self._lock.close()


def _connect(path: Path) -> sqlite3.Connection:
    """The writing connection, with the schema up to date. On the thread that will use it."""
    # SQLite gives -wal and -shm the mode of the database file.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        conn = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        conn.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        fresh = look(conn, path)
        conn.execute("PRAGMA foreign_keys = ON")
        conn.execute("PRAGMA synchronous = FULL")
        db = Database(conn, execute_plugins=False)
        if pending := migrations.pending(db):
            if not fresh:
                _backup(conn, path, pending[0].name)
            migrations.apply(db)
        db.enable_wal()
        conn.execute("PRAGMA journal_size_limit = 67108864")
    except sqlite3.Error as error:
        raise unreadable(path, error) from error
    return conn


def _backup(conn: sqlite3.Connection, path: Path, before: str) -> None:
    target = path.with_name(f"{path.name}.before-{before}")
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
    copy = sqlite3.connect(target)
    try:
        conn.backup(copy)
    finally:
        copy.close()
