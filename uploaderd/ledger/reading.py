"""Reading a ledger, beside a running daemon or without one.

sqlite-utils is not imported here: it would cost every `uploaderd status` 60 ms.
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

from uploaderd.errors import LedgerError, LedgerTooNew
from uploaderd.ledger.writer import trouble

APPLICATION_ID: Final = 0x75706C64
"""`PRAGMA application_id`: "upld". Tells a ledger from somebody else's SQLite file."""

MIGRATION_SET: Final = "uploaderd"
MIGRATIONS_TABLE: Final = "_sqlite_migrations"
"""Where sqlite-utils records the migrations that a file has had."""

KNOWN_MIGRATIONS: Final = (
    "m001_first",
    "m002_silence",
    "m003_webhooks",
    "m004_unseen",
    "m005_inodes",
)
"""Those that this version has (`schema.migrations`, in order)."""

BUSY_TIMEOUT_MS: Final = 30_000


def connect_readonly(path: Path, *, outdated: bool = False) -> sqlite3.Connection:
    """A reading connection; sees only what is durable.

    `outdated`: of a ledger too that an older version wrote, for who only copies it or looks whether it is
    whole.

    Raises:
        LedgerError: there is no ledger, or it may not be read.
        LedgerTooNew: a newer version wrote it.
    """
    if not path.exists():
        raise LedgerError(f"there is no ledger at {path}", "has the daemon run yet? `uploaderd run` makes it")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with ExitStack() as stack:
        try:
            if not path.with_name(f"{path.name}-wal").exists():
                # Reading makes a -wal and a -shm, which a ledger of a newer version must be spared. Without
                # a -wal all is in the file: it can be looked at as if it never changed.
                # If a daemon begins just now, that look may fail, and the next one tells.
                with (
                    suppress(sqlite3.Error),
                    closing(sqlite3.connect(f"{uri}&immutable=1", uri=True)) as still,
                ):
                    look(still, path)
            conn = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            stack.callback(conn.close)
            conn.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            conn.execute("PRAGMA temp_store = MEMORY")  # as the writing one, and for the same reason
            empty = look(conn, path)
            if not (empty or outdated):
                _must_be_current(conn, path)
        except sqlite3.Error as error:
            raise unreadable(path, error) from error
        if empty:
            raise LedgerError(f"the ledger {path} is still empty", "its daemon is just starting: ask again")
        stack.pop_all()
        return conn


def _must_be_current(conn: sqlite3.Connection, path: Path) -> None:
    if not is_current(conn):
        raise LedgerError(
            f"the ledger {path} is still as an older uploaderd wrote it",
            "restart the daemon: it makes a backup, and brings the ledger up to date",
        )


def is_current(conn: sqlite3.Connection) -> bool:
    """Whether a ledger (see `look`) has had every migration of this version."""
    return len(_applied(conn)) == len(KNOWN_MIGRATIONS)


def _applied(conn: sqlite3.Connection) -> set[str]:
    rows = conn.execute(f"SELECT name FROM {MIGRATIONS_TABLE} WHERE migration_set = ?", (MIGRATION_SET,))
    return {row[0] for row in rows}


def look(conn: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is still empty; refuses what is not a ledger, or a newer one."""
    tables = {row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return True
    (application_id,) = conn.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID or MIGRATIONS_TABLE not in tables:
        raise LedgerError(f"{path} is an SQLite file, but no ledger", "set [ledger] path to another file")
    if unknown := _applied(conn) - set(KNOWN_MIGRATIONS):
        raise LedgerTooNew(
            f"the ledger {path} was written by a newer uploaderd (it has {', '.join(sorted(unknown))});"
            " it was left untouched",
            "upgrade this uploaderd, or go back to the backup that the newer one made beside the ledger",
        )
    return False


def unreadable(path: Path, error: Exception) -> LedgerError:
    """What an error of SQLite means for whoever opens the file at `path`."""
    refused = trouble(error)
    if isinstance(refused, LedgerError):
        refused.args = (f"{path}: {refused.message}",)
        refused.message = f"{path}: {refused.message}"
        return refused
    return LedgerError(f"{path} cannot be used: {error}")
