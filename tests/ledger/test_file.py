"""The file itself: who may hold it, who may read it, what is refused untouched."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.ledger.conftest import Bench, Hand
from uploaderd.errors import LedgerError, LedgerHeld, LedgerTooNew
from uploaderd.ledger import Event, Ledger, Transaction, chain, connect_readonly, intake, reading
from uploaderd.ledger.lock import holder
from uploaderd.ledger.schema import migrations

HOLDER = """
import asyncio, sys
from pathlib import Path
from uploaderd.ledger import Event, Ledger
from uploaderd.model import Milliseconds

async def main():
    ledger = Ledger(Path(sys.argv[1]), lambda: Milliseconds(1), "9.9")
    await ledger.open()
    number = 0
    while True:
        await ledger.run(lambda tx: tx.event(Event("counted", detail={"number": number})))
        number += 1
        print(number, flush=True)

asyncio.run(main())
"""


async def test_only_its_owner_may_read_any_of_its_files(bench: Bench) -> None:
    await bench.queued()
    names = {path.name for path in bench.ledger.path.parent.iterdir()}
    assert {"ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock"} <= names
    for path in bench.ledger.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


async def test_it_needs_no_temporary_files(bench: Bench) -> None:
    """A container's root is read-only. What a savepoint changes would be kept in one: 16 pages suffice."""

    def change(tx: Transaction) -> list[str]:
        tx.conn.execute("UPDATE uploads SET key = key || '.mp4'")
        files = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
        return [file for file in files if "etilqs_" in file]

    await bench.ledger.run(intake.enqueue, [bench.recording() for _ in range(400)])
    assert await bench.ledger.run(change) == []
    with closing(connect_readonly(bench.ledger.path)) as reading:
        assert reading.execute("PRAGMA temp_store").fetchone() == (2,), "in memory"


async def test_a_second_daemon_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        try:
            assert first.stdout.readline() == "1\n"
            held = holder(path)
            assert held is not None
            assert (held.pid, held.version) == (first.pid, "9.9")
            with pytest.raises(LedgerHeld, match=str(first.pid)):
                await Ledger(path, Hand().now, "test").open()
            assert first.poll() is None, "asking must not take the lock away"
        finally:
            first.kill()
    assert holder(path) is None, "the lock dies with its process"


async def test_what_was_answered_survives_kill_minus_nine(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(50):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
    ledger = Ledger(path, Hand().now, "test")
    await ledger.open()
    count, broken = await ledger.run(
        lambda tx: (
            tx.conn.execute("SELECT count(*) FROM events").fetchone()[0],
            chain.broken_at(tx.conn, "events"),
        )
    )
    await ledger.close()
    assert count >= acknowledged >= 50
    assert broken is None


async def test_a_newer_ledger_is_refused_untouched(bench: Bench) -> None:
    path = bench.ledger.path
    await bench.ledger.close()
    with sqlite3.connect(path) as conn:
        conn.execute(
            f"INSERT INTO {migrations.migrations_table} (migration_set, name, applied_at)"
            " VALUES ('uploaderd', 'm999_from_the_future', '')"
        )
    conn.close()
    before = path.read_bytes()
    with pytest.raises(LedgerTooNew, match="m999_from_the_future"):
        await Ledger(path, bench.hand.now, "test").open()
    assert path.read_bytes() == before
    with pytest.raises(LedgerTooNew):
        connect_readonly(path)


async def test_somebody_elses_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with sqlite3.connect(path) as conn:
        conn.execute("CREATE TABLE photos (name TEXT)")
    conn.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="no ledger"):
        await Ledger(path, Hand().now, "test").open()
    assert path.read_bytes() == before


async def test_no_database_at_all_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this was a ledger once" * 100)
    with pytest.raises(LedgerError, match="damaged"):
        await Ledger(path, Hand().now, "test").open()


async def test_a_migration_is_preceded_by_a_backup(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = await bench.queued()
    path = bench.ledger.path
    await bench.ledger.close()
    known = list(migrations._migrations)
    monkeypatch.setattr(migrations, "_migrations", known)
    monkeypatch.setattr(reading, "KNOWN_MIGRATIONS", (*reading.KNOWN_MIGRATIONS, "m777_adds_a_table"))

    @migrations()
    def m777_adds_a_table(db: object) -> None:
        raise RuntimeError("the migration fails half-way")

    ledger = Ledger(path, bench.hand.now, "test")
    with pytest.raises(RuntimeError):
        await ledger.open()
    backup = path.with_name("ledger.db.before-m777_adds_a_table")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    conn = sqlite3.connect(backup)
    assert conn.execute("SELECT id FROM recordings").fetchall() == [(recording,)]
    conn.close()


async def test_one_refused_request_spoils_no_other(bench: Bench) -> None:
    def refused(tx: Transaction) -> None:
        tx.event(Event("never"))
        raise ValueError("no")

    def taken(tx: Transaction, kind: str) -> None:
        tx.event(Event(kind))

    results = await asyncio.gather(
        bench.ledger.run(taken, "before"),
        bench.ledger.run(refused),
        bench.ledger.run(taken, "after"),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), ValueError, type(None)]
    kinds, broken = await bench.ledger.run(
        lambda tx: (
            [row[0] for row in tx.conn.execute("SELECT kind FROM events ORDER BY id DESC LIMIT 2")],
            chain.broken_at(tx.conn, "events"),
        )
    )
    assert kinds == ["after", "before"]
    assert broken is None


async def test_a_cancelled_caller_does_not_undo_what_it_asked_for(bench: Bench) -> None:
    asked = asyncio.ensure_future(bench.ledger.run(lambda tx: tx.event(Event("asked"))))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    (last,) = await bench.ledger.run(
        lambda tx: tx.conn.execute("SELECT kind FROM events ORDER BY id DESC LIMIT 1").fetchone()
    )
    assert last == "asked"


async def test_a_provider_that_points_elsewhere_is_refused(bench: Bench) -> None:
    with pytest.raises(LedgerError, match="now points at s3:"):
        await bench.ledger.run(intake.register_provider, "s3_main", "s3", "s3://other")


@pytest.mark.parametrize("table", ["attempts", "events"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET id = id", "DELETE FROM {}"])
async def test_history_cannot_be_changed(bench: Bench, table: str, statement: str) -> None:
    from uploaderd.ledger import queue, work

    await bench.queued()
    (claim,) = await bench.ledger.run(queue.claim, bench.providers["nas"], 1)
    await bench.ledger.run(work.stopped, claim.upload_id)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        await bench.ledger.run(lambda tx: tx.conn.execute(statement.format(table)))


@pytest.mark.parametrize(
    ("tampering", "broken"),
    [
        ("UPDATE events SET kind = 'x' WHERE id = 3", 3),
        ("DELETE FROM events WHERE id = 3", 4),
        ("DELETE FROM events WHERE id >= 5", 5),
        ("UPDATE events SET hash = (SELECT hash FROM events WHERE id = 1) WHERE id = 2", 2),
    ],
)
async def test_tampering_is_found_where_it_was_done(bench: Bench, tampering: str, broken: int) -> None:
    for number in range(4):
        await bench.ledger.run(lambda tx, n: tx.event(Event("counted", detail={"n": n})), number)

    def tamper(tx: Transaction) -> int | None:
        assert chain.broken_at(tx.conn, "events") is None
        tx.conn.execute("DROP TRIGGER events_update")
        tx.conn.execute("DROP TRIGGER events_delete")
        tx.conn.execute(tampering)
        return chain.broken_at(tx.conn, "events")

    assert await bench.ledger.run(tamper) == broken
