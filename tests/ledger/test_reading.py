"""Reading a ledger without what its writer needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from uploaderd.errors import LedgerError
from uploaderd.ledger import connect_readonly, reading
from uploaderd.ledger.lock import LedgerLock, holder
from uploaderd.ledger.schema import migrations


def test_the_reader_knows_the_migrations_that_the_writer_makes() -> None:
    pending = migrations.pending(Database(memory=True, execute_plugins=False))
    assert tuple(one.name for one in pending) == reading.KNOWN_MIGRATIONS
    assert (Migrations.migrations_table, migrations.name) == (reading.MIGRATIONS_TABLE, reading.MIGRATION_SET)


def test_a_ledger_that_is_just_being_made_is_told_from_one_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    with pytest.raises(LedgerError, match="is still empty"):
        connect_readonly(path)


def test_the_lock_of_a_process_that_ended_tells_nobody(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    assert holder(path) is None
    LedgerLock.take(path, "0.1.0", 1, tmp_path / "control.sock").close()
    assert holder(path) is None
