"""`[ledger] keep_for`: what is old leaves the ledger, a little at a time, exported first.

A pass looks at old rows in their order. Of recordings whose file the ledger believes to be there, it
looks at the disk: with `policy = "keep"` somebody else removes them, and tells nobody.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from uploaderd.clock import Clock
from uploaderd.ledger import Event, Ledger, Transaction, connect_readonly, export, pruning
from uploaderd.ledger.archive import Archive, folder_of
from uploaderd.ledger.chain import Chain
from uploaderd.ledger.reading import unreadable
from uploaderd.logs.setup import get_logger
from uploaderd.model import Milliseconds
from uploaderd.root import look_at_root

T = TypeVar("T")

log = get_logger(__name__)

EVERY_SECONDS: Final = 6 * 3600.0
"""From the end of a pass to the next one."""

PAUSE_SECONDS: Final = 0.2
"""Between two batches: uploads have the ledger to themselves for most of the time."""


@dataclass(slots=True)
class Pruned:
    """What a pass took out of the ledger."""

    recordings: int = 0
    attempts: int = 0
    events: int = 0

    def __bool__(self) -> bool:
        return bool(self.recordings or self.attempts or self.events)


class Retention:
    """Keeps the ledger from growing for ever. `keep_for` in seconds; None keeps everything."""

    def __init__(self, keep_for: float | None, ledger: Ledger, clock: Clock) -> None:
        self._keep_for = keep_for
        self._ledger = ledger
        self._clock = clock
        self._threads = _thread()

    async def run(self) -> None:
        """Pass after pass, until cancelled.

        Raises:
            LedgerFull: nothing can be pruned from a ledger that cannot be written; begin again later.
            LedgerBroken: the ledger's storage failed.
        """
        if self._keep_for is None:
            return
        self._threads = _thread()
        try:
            while True:
                try:
                    await self.once()
                except OSError as error:
                    log.warning(
                        "the ledger's old rows cannot be exported, so they stay",
                        archive=error.filename,
                        reason=error.strerror,
                    )
                await self._clock.sleep(EVERY_SECONDS)
        finally:
            self._threads.shutdown(wait=False)

    async def once(self) -> Pruned:
        """One pass.

        Raises:
            OSError: the archive cannot be written.
            LedgerError: the ledger cannot be read or written.
        """
        assert self._keep_for is not None
        before = Milliseconds(self._clock.now() - int(self._keep_for * 1000))
        archive = Archive(await self._ledger.run(folder_of, self._ledger.path))
        pruned = Pruned(
            recordings=await self._prune_recordings(archive, before),
            attempts=await self._prune_history(archive, "attempts", before),
            events=await self._prune_history(archive, "events", before),
        )
        if pruned:
            told = {"recordings": pruned.recordings, "attempts": pruned.attempts, "events": pruned.events}
            await self._ledger.run(_note, told, before)
            log.info("old rows left the ledger", archive=str(archive.folder), **told)
        return pruned

    async def _prune_recordings(self, archive: Archive, before: Milliseconds) -> int:
        last: int | None = 0
        pruned = 0
        while last is not None:
            rows, last = await self._on_thread(partial(self._export_recordings, archive, last, before))
            if rows:
                pruned += await self._ledger.run(pruning.prune_recordings, rows, before)
            await self._clock.sleep(PAUSE_SECONDS)
        return pruned

    async def _prune_history(self, archive: Archive, which: Chain, before: Milliseconds) -> int:
        pruned = 0
        while (
            last := await self._on_thread(partial(self._export_history, archive, which, before))
        ) is not None:
            pruned += await self._ledger.run(pruning.prune_history, which, last)
            await self._clock.sleep(PAUSE_SECONDS)
        return pruned

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    # --- on the thread ---------------------------------------------------------------------------

    def _export_recordings(
        self, archive: Archive, last: int, before: Milliseconds
    ) -> tuple[list[int], int | None]:
        """The next rows that may go, exported; and where to go on."""
        with self._reading() as conn:
            page = pruning.over_after(conn, last, before)
            there = [one for one in page.over if one.present]
            gone = _gone(conn, there) if there else frozenset()
            rows = [one.row for one in page.over if not one.present or one.row in gone]
            if rows:
                archive.append(export.recording_lines(conn, rows))
            return rows, page.last

    def _export_history(
        self, archive: Archive, which: Chain, before: Milliseconds
    ) -> tuple[object, ...] | None:
        """The last of the next rows that may go, exported; None if none may."""
        with self._reading() as conn:
            rows = pruning.old_history(conn, which, before)
            archive.append(export.history_line(which, row) for row in rows)
            return rows[-1] if rows else None

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        conn = connect_readonly(self._ledger.path)
        try:
            yield conn
        except sqlite3.Error as error:
            raise unreadable(self._ledger.path, error) from error
        finally:
            conn.close()


def _thread() -> ThreadPoolExecutor:
    """Of its own: a look at a mount that hangs must hold up nothing else."""
    return ThreadPoolExecutor(1, thread_name_prefix="retention")


def _gone(conn: sqlite3.Connection, present: list[pruning.Over]) -> frozenset[int]:
    """Which of these have no file any more. Below a root that is missing, every file counts as there."""
    roots = {id_: root for id_, (root, device) in pruning.roots(conn).items() if _is_there(root, device)}
    return frozenset(
        one.row
        for one in present
        if one.source_id in roots and not _is_at(os.path.join(roots[one.source_id], one.path))
    )


def _is_there(root: bytes, device: int | None) -> bool:
    return not look_at_root(root, device).missing


def _is_at(path: bytes) -> bool:
    """Whether anything is at the path; where that cannot be told, something is."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _note(tx: Transaction, told: dict[str, int], before: Milliseconds) -> None:
    tx.event(Event("pruned", detail={**told, "before": before}))
