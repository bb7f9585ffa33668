"""The one writer: a thread that owns the only writing connection, and commits in groups.

Whatever waits when the thread looks becomes one transaction (BEGIN IMMEDIATE), with a savepoint a
request, so that one refused request spoils no other. A caller hears of success only after COMMIT,
which with `synchronous = FULL` is after the fsync.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from uploaderd.errors import LedgerBroken, LedgerError, LedgerFull
from uploaderd.ledger.chain import Event, History
from uploaderd.ledger.reserve import Reserve
from uploaderd.model import Milliseconds

P = ParamSpec("P")
T = TypeVar("T")

GROUP: Final = 256
"""Requests in one transaction at most: bounds how long the first of them waits."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """What a request works with: the open transaction, its time, and the history to append to."""

    conn: sqlite3.Connection
    history: History
    now: Milliseconds

    def event(self, row: Event) -> None:
        self.history.event(self.now, row)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why nothing could be written, and since when."""

    error: LedgerError
    since: Milliseconds


@dataclass(frozen=True, slots=True)
class _Request:
    """`reply` belongs to the loop that asks, and is touched there only (`_answer`)."""

    work: Callable[[Transaction], object]
    reply: asyncio.Future[Any]
    in_need: bool


_Answer = tuple[_Request, object, Exception | None]
"""A request, its result, or why it was refused."""


class Writer:
    """Runs requests, in the order they came, on its own thread.

    `connect` opens the connection, on the thread that will use it; `clock` gives milliseconds. `reserve`
    is what a full disk leaves to requests `in_need`, and to no others. `begin` is the first in each
    transaction, and `settle` the last: it sees what all of its requests together have come to.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        clock: Callable[[], Milliseconds],
        reserve: Reserve,
        begin: Callable[[Transaction], None],
        settle: Callable[[Transaction], None],
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._reserve = reserve
        self._begin = begin
        self._settle = settle
        self._requests: SimpleQueue[_Request | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._turns = 0
        self.trouble: Trouble | None = None
        """Set when the storage refuses a write, cleared by the next one that it takes."""

    @property
    def turns(self) -> int:
        """Requests answered so far: a watchdog sees from it that the thread moves."""
        return self._turns

    async def start(self) -> None:
        """Open the ledger.

        Raises:
            LedgerError: it cannot be used, with the reason.
        """
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="ledger", daemon=True)
        self._thread.start()
        await asyncio.wrap_future(opened)

    async def run(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(transaction, ...)` and return its result once it is durable.

        A caller that is cancelled does not undo what it asked for: the request is carried out.

        Raises:
            LedgerFull: the disk is full; nothing was written, later requests may succeed.
            LedgerBroken: the ledger's storage failed, now or earlier; the daemon must stop and recover.
        """
        return await self._asked(lambda tx: work(tx, *args, **kwargs), in_need=False)

    async def run_in_need(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`run`; but what a full disk refuses is tried again with the reserve given up."""
        return await self._asked(lambda tx: work(tx, *args, **kwargs), in_need=True)

    async def _asked(self, work: Callable[[Transaction], T], *, in_need: bool) -> T:
        reply: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._requests.put(_Request(work, reply, in_need))
        return await reply

    async def stop(self) -> None:
        """Answer what waits, close the connection, end the thread. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._requests.put(None)
            await asyncio.to_thread(thread.join)

    def _run(self, opened: Future[None]) -> None:
        try:
            conn = self._open()
        except BaseException as error:  # noqa: BLE001 -- handed to the caller of start
            opened.set_exception(error)
            return
        history = History(conn)
        opened.set_result(None)
        try:
            while (group := self._next_group()) is not None:
                self._commit(conn, history, group)
                self._turns += len(group)
        finally:
            conn.close()

    def _open(self) -> sqlite3.Connection:
        """The connection; on a full disk with the reserve given up: what would free space needs it."""
        try:
            return self._connect()
        except LedgerFull:
            if not (self._reserve.take() and self._reserve.give_up()):
                raise
            return self._connect()

    def _next_group(self) -> list[_Request] | None:
        """What waits, at least one; None when asked to stop and nothing waits before that."""
        first = self._requests.get()
        if first is None:
            return None
        group = [first]
        while len(group) < GROUP:
            try:
                request = self._requests.get_nowait()
            except Empty:
                break
            if request is None:
                self._requests.put(None)
                break
            group.append(request)
        return group

    def _commit(self, conn: sqlite3.Connection, history: History, group: list[_Request]) -> None:
        if self.trouble is not None and isinstance(self.trouble.error, LedgerBroken):
            # A later write might seem to succeed; what it builds upon may not be on the disk.
            _refuse(group, self.trouble.error)
            return
        error = self._write(conn, history, group, room=self._reserve.take())
        needy = [request for request in group if request.in_need]
        if error is not None and needy and _is_full(error) and self._reserve.give_up():
            _refuse([request for request in group if not request.in_need], trouble(error))
            group = needy
            error = self._write(conn, history, group, room=False)
        if error is not None:
            _refuse(group, trouble(error))

    def _write(
        self, conn: sqlite3.Connection, history: History, group: list[_Request], *, room: bool
    ) -> Exception | None:
        """One transaction for the group. Answers all of it, or none, and says why."""
        results: list[_Answer] = []
        before = conn.total_changes
        try:
            conn.execute("BEGIN IMMEDIATE")
            transaction = Transaction(conn, history, self._clock())
            self._begin(transaction)
            for request in group:
                conn.execute("SAVEPOINT request")
                try:
                    results.append((request, _carry_out(request, transaction, room=room), None))
                except Exception as error:
                    if _of_storage(error):
                        raise
                    conn.execute("ROLLBACK TO request")
                    history.forget()
                    self._note(error)
                    results.append((request, None, error))
                conn.execute("RELEASE request")
            self._settle(transaction)
            conn.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 -- every caller must hear that nothing was written
            history.forget()
            self._note(trouble(error))
            try:
                if conn.in_transaction:
                    conn.execute("ROLLBACK")
            except sqlite3.Error:
                pass  # on failing storage that fails too; the next BEGIN tells
            return error
        if room and conn.total_changes != before:
            self.trouble = None
        _answer(results)
        return None

    def _note(self, refused: Exception) -> None:
        if isinstance(refused, LedgerFull | LedgerBroken):
            since = self.trouble.since if self.trouble is not None else self._clock()
            self.trouble = Trouble(refused, since)


def _is_full(error: Exception) -> bool:
    """Whether SQLite found no room on the disk, for its file or for the index of its write-ahead log."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code == sqlite3.SQLITE_IOERR_SHMSIZE or code & 0xFF == sqlite3.SQLITE_FULL


def _disk_full() -> LedgerFull:
    return LedgerFull(
        "the disk that holds the ledger is full", "free some space; the daemon goes on by itself"
    )


def _damaged(how: str) -> LedgerBroken:
    return LedgerBroken(f"the ledger is damaged ({how})", "see `uploaderd ledger check` and `ledger rebuild`")


def _carry_out(request: _Request, transaction: Transaction, *, room: bool) -> object:
    """Do what is asked. Where there is no `room`, that is for requests in need, and for those that only read.

    Raises:
        LedgerFull: what it wrote must be undone.
    """
    before = transaction.conn.total_changes
    result = request.work(transaction)
    if not room and not request.in_need and transaction.conn.total_changes != before:
        raise _disk_full()
    return result


def _refuse(group: list[_Request], error: Exception) -> None:
    _answer([(request, None, error) for request in group])


def _answer(answers: list[_Answer]) -> None:
    """From the thread to the loop that asked: woken once for all of a group."""
    if not answers:
        return
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        answers[0][0].reply.get_loop().call_soon_threadsafe(_deliver, answers)


def _deliver(answers: list[_Answer]) -> None:
    for request, result, failure in answers:
        if request.reply.done():
            continue  # whoever asked was cancelled; it was carried out all the same
        if failure is None:
            request.reply.set_result(result)
        else:
            request.reply.set_exception(failure)


def _of_storage(error: Exception) -> bool:
    """Whether it is the file or the disk that refused, and not the one request that was wrong."""
    # Damage is reported as a plain DatabaseError.
    return isinstance(error, sqlite3.OperationalError) or isinstance(trouble(error), LedgerBroken)


def trouble(error: Exception) -> Exception:
    """What an error of SQLite means for the daemon; https://sqlite.org/rescode.html."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Python's own, of text that SQLite took as it was; the second is met in telling of the first.
        if str(error).startswith("Could not decode to UTF-8") or isinstance(error, UnicodeDecodeError):
            return _damaged("a text is not UTF-8")
        return error
    name = getattr(error, "sqlite_errorname", "")
    if _is_full(error):
        return _disk_full()
    match code & 0xFF:
        case sqlite3.SQLITE_IOERR:
            # After a failed fsync the kernel may have dropped what it could not write, and a second
            # one would lie (Rebello et al., USENIX ATC 2020): only a new process knows the truth.
            return LedgerBroken(f"writing the ledger failed ({name})", "check the disk and its mount")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return _damaged(name)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN:
            return LedgerBroken(
                f"the ledger may not be written ({name})", "check owner, mode and mount of its folder"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LedgerFull(
                "another program holds the ledger locked", "end it; the daemon goes on by itself"
            )
    return LedgerError(f"the ledger refused ({name}): {error}")
