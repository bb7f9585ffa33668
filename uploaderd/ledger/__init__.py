"""The ledger: one SQLite file that knows every recording, upload, attempt and event.

`Ledger` is the daemon's: it holds the file's lock and the only writing connection of the system.
Everything else reads through `connect_readonly`, beside a running daemon or without one. SQLite's
WAL-reset bug (3.7.0 to 3.51.2) needs two writing connections; there never are two.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from sqlite_utils import Database

from uploaderd.errors import LedgerError, LedgerTooNew
from uploaderd.ledger.chain import Attempt, Event
from uploaderd.ledger.lock import LedgerLock
from uploaderd.ledger.schema import APPLICATION_ID, migrations
from uploaderd.ledger.writer import Transaction, Writer, trouble
from uploaderd.model import Milliseconds

__all__ = ["Attempt", "Event", "Ledger", "Transaction", "connect_readonly"]

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT_MS: Final = 30_000


class Ledger:
    """The ledger, held and writable. `run` is the only way to change anything."""

    def __init__(self, path: Path, clock: Callable[[], Milliseconds], version: str) -> None:
        self.path = path
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
            self._lock = LedgerLock.take(self.path, self._version, self._clock())
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


def connect_readonly(path: Path) -> sqlite3.Connection:
    """A reading connection; sees only what is durable.

    Raises:
        LedgerError: there is no ledger, or it may not be read.
        LedgerTooNew: a newer version wrote it.
    """
    if not path.exists():
        raise LedgerError(f"there is no ledger at {path}", "has the daemon run yet? `uploaderd run` makes it")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        conn = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        conn.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        _look(conn, path)
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error
    return conn


def _connect(path: Path) -> sqlite3.Connection:
    """The writing connection, with the schema up to date. On the thread that will use it."""
    # SQLite gives -wal and -shm the mode of the database file.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        conn = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        conn.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        fresh = _look(conn, path)
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
        raise _unreadable(path, error) from error
    return conn


def _look(conn: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is still empty; refuses what is not a ledger, or a newer one."""
    tables = {row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return True
    (application_id,) = conn.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID or migrations.migrations_table not in tables:
        raise LedgerError(f"{path} is an SQLite file, but no ledger", "set [ledger] path to another file")
    ours = {migration.name for migration in migrations.pending(Database(memory=True, execute_plugins=False))}
    applied = {
        row[0]
        for row in conn.execute(
            f"SELECT name FROM {migrations.migrations_table} WHERE migration_set = ?", (migrations.name,)
        )
    }
    if unknown := applied - ours:
        raise LedgerTooNew(
            f"the ledger {path} was written by a newer uploaderd (it has {', '.join(sorted(unknown))});"
            " it was left untouched",
            "upgrade this uploaderd, or go back to the backup that the newer one made beside the ledger",
        )
    return False


def _backup(conn: sqlite3.Connection, path: Path, before: str) -> None:
    target = path.with_name(f"{path.name}.before-{before}")
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
    copy = sqlite3.connect(target)
    try:
        conn.backup(copy)
    finally:
        copy.close()


def _unreadable(path: Path, error: sqlite3.Error) -> LedgerError:
    refused = trouble(error)
    if isinstance(refused, LedgerError):
        refused.args = (f"{path}: {refused.message}",)
        refused.message = f"{path}: {refused.message}"
        return refused
    return LedgerError(f"{path} cannot be used: {error}")
