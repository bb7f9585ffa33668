"""A copy of a ledger, whole and of one moment, made beside a running daemon."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from uploaderd.errors import LedgerBroken, LedgerError
from uploaderd.ledger.integrity import examine

STEP: Final = 1_000
"""Pages copied at once (4 MB): between two steps the copying can be broken off."""


def copy(
    conn: sqlite3.Connection,
    target: Path,
    *,
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Copy the ledger to `target`, readable by its owner alone; its size in bytes.

    It appears under its name only once it is whole, was examined and is on the disk. It is a plain file
    without a write-ahead log, so that it can be read from a medium that cannot be written.

    Args:
        conn: a reading connection.
        target: a file that is not there yet.
        replace: it may be there, and is replaced.
        progress: is told the pages that are done and how many there are.

    Raises:
        FileExistsError: `target` is there.
        OSError: it cannot be written.
        LedgerBroken: the copy is damaged, which the ledger then is too.
    """
    if not replace and os.path.lexists(target):
        raise FileExistsError(target)
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _fill(conn, partial, progress)
        os.fsync(fd)
        # A hard link would not replace what came there meanwhile; but media for backups have none (FAT).
        if not replace and os.path.lexists(target):
            raise FileExistsError(target)
        partial.replace(target)
        _sync_folder(target.absolute().parent)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)
        partial.unlink(missing_ok=True)  # half a copy is worse than none


def _fill(conn: sqlite3.Connection, partial: Path, progress: Callable[[int, int], None] | None) -> None:
    def told(_: int, left: int, pages: int) -> None:
        if progress is not None:
            progress(pages - left, pages)

    # A reading transaction of our own, or each commit of the daemon would make the copying begin anew.
    conn.execute("BEGIN")
    try:
        conn.execute("SELECT 1 FROM meta").fetchone()
        made = sqlite3.connect(partial)
        try:
            conn.backup(made, pages=STEP, progress=told)
            made.execute("PRAGMA journal_mode = DELETE")
            wrong = [f"{one.what}: {fault}" for one in examine(made) for fault in one.wrong]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise LedgerError(f"there is no room for the copy in {partial.parent}") from error
            raise
        finally:
            made.close()
    finally:
        conn.execute("ROLLBACK")
    if wrong:
        raise LedgerBroken(
            f"the copy was not kept, for what it was made from is damaged: {wrong[0]}",
            "see `uploaderd ledger check`; keep the backups that are there",
        )


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
