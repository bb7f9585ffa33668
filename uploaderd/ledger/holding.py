"""The ledger as the daemon holds it: locked for others, brought up to date, writable."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from uploaderd.clock import boot, since_boot
from uploaderd.errors import LedgerBroken, LedgerError, LedgerFull
from uploaderd.ledger import outbox
from uploaderd.ledger.chain import Event
from uploaderd.ledger.lock import LedgerLock
from uploaderd.ledger.passage import Passage
from uploaderd.ledger.reading import BUSY_TIMEOUT_MS, is_current, look, unreadable
from uploaderd.ledger.reserve import Reserve
from uploaderd.ledger.writer import Transaction, Trouble, Writer
from uploaderd.logs.setup import get_logger
from uploaderd.model import Milliseconds

P = ParamSpec("P")
T = TypeVar("T")

log = get_logger(__name__)

MEND_SECONDS: Final = 1.0
"""How often a ledger that could not be written is tried again."""


class Ledger:
    """The ledger, held and writable. `run`, `insist` and their `..._in_need` are the only ways to
    change anything.

    `socket` is where its daemon answers, for whoever finds the ledger held. `clock` is the wall's,
    `machine` the machine's (see `clock`).
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], Milliseconds],
        version: str,
        *,
        socket: Path | None = None,
        machine: Callable[[], float] = since_boot,
    ) -> None:
        self.path = path
        self._socket = socket
        self._clock = clock
        self._version = version
        self._lock: LedgerLock | None = None
        self.passage = Passage(machine, boot())
        self._writer = Writer(lambda: _connect(path), clock, Reserve(path), self.passage.look, outbox.settle)
        self._failed = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._mending: asyncio.Task[None] | None = None

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
            raise _unwritable(self.path, error) from error
        try:
            await self._writer.start()
        except BaseException as error:
            self._lock.close()
            if isinstance(error, LedgerFull):
                error.hint = "free some space, and start it again; a service manager does the latter"
            raise

    async def run(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(transaction, ...)` on the ledger's thread; its result once it is durable.

        Raises:
            LedgerFull: nothing was written, and cannot be for now; `mended` tells when.
            LedgerBroken: the ledger's storage failed; `failure` raises the same.
        """
        return await self._watched(self._writer.run(work, *args, **kwargs))

    async def run_in_need(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`run`, and on a full disk with the room that is kept back: for what frees space, and for it alone.

        Raises:
            LedgerFull, LedgerBroken: as `run`; the former only once that is used up, too.
        """
        return await self._watched(self._writer.run_in_need(work, *args, **kwargs))

    async def _watched(self, request: Awaitable[T]) -> T:
        try:
            return await request
        except LedgerFull as full:
            self._begin_to_mend(full)
            raise
        except LedgerBroken:
            self._failed.set()
            raise

    async def insist(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`run`, as often as it takes: for what happened, and must not be forgotten for a full disk.

        Raises:
            LedgerFull: only after `hurry`.
            LedgerBroken: the ledger's storage failed.
        """
        return await self._until_written(lambda: self.run(work, *args, **kwargs))

    async def insist_in_need(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`insist`, but as `run_in_need`: for what must be written before anything can free space.

        Raises:
            LedgerFull, LedgerBroken: as `insist`.
        """
        return await self._until_written(lambda: self.run_in_need(work, *args, **kwargs))

    async def _until_written(self, request: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await request()
            except LedgerFull:
                if self._hurrying.is_set():
                    raise
                await self.mended()

    async def mended(self) -> None:
        """Return once the ledger takes writes again, or `hurry` was called."""
        mending = self._mending
        if mending is None or self._hurrying.is_set():
            return
        hurrying = asyncio.ensure_future(self._hurrying.wait())
        try:
            await asyncio.wait((mending, hurrying), return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurrying.cancel()

    def hurry(self) -> None:
        """Let nobody wait for a full disk any more: the daemon is ending.

        What could not be written is found at the next start, as after a crash.
        """
        self._hurrying.set()

    async def failure(self) -> None:
        """Wait until the ledger's storage fails.

        Raises:
            LedgerBroken: that is when.
        """
        await self._failed.wait()
        assert self.trouble is not None
        raise self.trouble.error

    @property
    def trouble(self) -> Trouble | None:
        """Why the ledger cannot be written; None while it can."""
        return self._writer.trouble

    def _begin_to_mend(self, full: LedgerFull) -> None:
        if self._mending is None or self._mending.done():
            log.error("the ledger cannot be written; nothing new is begun", reason=str(full), hint=full.hint)
            self._mending = asyncio.create_task(self._mend(str(full)), name="ledger-mending")

    async def _mend(self, reason: str) -> None:
        """Try until the ledger can be written, and write down that it could not."""
        since = self._clock()
        while True:
            await asyncio.sleep(MEND_SECONDS)
            try:
                await self._writer.run(_mended, reason, since)
            except LedgerFull:
                continue
            except LedgerBroken:
                self._failed.set()
                return
            log.info("the ledger can be written again", seconds=(self._clock() - since) / 1000)
            return

    @property
    def turns(self) -> int:
        """Requests answered so far, for the watchdog."""
        return self._writer.turns

    async def close(self) -> None:
        """Answer what waits, close, give the lock back. Idempotent."""
        if self._mending is not None:
            self._mending.cancel()
        await self._writer.stop()
        if self._lock is not None:
            self._lock.close()


def _mended(tx: Transaction, reason: str, since: Milliseconds) -> None:
    tx.event(Event("ledger-mended", detail={"reason": reason, "since": since}))


def _connect(path: Path) -> sqlite3.Connection:
    """The writing connection, with the schema up to date. On the thread that will use it."""
    # SQLite gives -wal and -shm the mode of the database file.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with ExitStack() as refused:
        try:
            conn = sqlite3.connect(path, isolation_level=None, cached_statements=256)
            # A ledger that is refused gets its -wal and -shm taken away here, and not by chance.
            refused.callback(conn.close)
            conn.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            fresh = look(conn, path)
            conn.execute("PRAGMA foreign_keys = ON")
            conn.execute("PRAGMA synchronous = FULL")
            # Otherwise a savepoint that changes many pages keeps the old ones in a temporary file, and
            # where the root is read-only there is no place for one (SQLITE_IOERR_GETTEMPPATH).
            conn.execute("PRAGMA temp_store = MEMORY")
            if fresh or not is_current(conn):
                _bring_up_to_date(conn, path, fresh=fresh)
            conn.execute("PRAGMA journal_mode = WAL")
            conn.execute("PRAGMA journal_size_limit = 67108864")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise unreadable(path, error) from error
        refused.pop_all()
    return conn


def _bring_up_to_date(conn: sqlite3.Connection, path: Path, *, fresh: bool) -> None:
    # Most starts have no migration to apply, and loading what keeps their list would be a twentieth of one.
    from sqlite_utils import Database

    from uploaderd.ledger.schema import migrations

    db = Database(conn, execute_plugins=False)
    if not fresh:
        _backup(conn, path, migrations.pending(db)[0].name)
    # As one transaction: half a schema would be taken for somebody else's file at the next start.
    with db.atomic():
        migrations.apply(db)


def _unwritable(ledger: Path, error: OSError) -> LedgerError:
    """What to tell of a folder or lock file that cannot be written: on a volume, mostly another user's."""
    if error.errno == errno.EROFS:
        return LedgerError(
            f"cannot write in {ledger.parent}: {error.strerror}",
            "mount a volume there that can be written, or set [ledger] path",
        )
    us = os.geteuid()
    for path in (Path(error.filename or ledger), ledger.parent):
        with suppress(OSError):
            if error.errno == errno.EACCES and (owner := path.stat().st_uid) != us:
                as_owner = f"run it as uid {owner}, or " if owner else ""
                all_of_it = f"chown -R {us} {ledger.parent}"
                return LedgerError(
                    f"cannot write {path}: it belongs to uid {owner}, and this is uid {us}",
                    f"{as_owner}give uid {us} the folder with all that is in it: {all_of_it}",
                )
    return LedgerError(
        f"cannot write in {ledger.parent}: {error.strerror}",
        "give the daemon's user that folder, or set [ledger] path",
    )


def _backup(conn: sqlite3.Connection, path: Path, before: str) -> None:
    target = path.with_name(f"{path.name}.before-{before}")
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
    copy = sqlite3.connect(target)
    try:
        conn.backup(copy)
    finally:
        copy.close()
