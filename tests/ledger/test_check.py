"""`ledger check` and `ledger backup`: what was damaged or changed is found, and a copy is of one moment."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.ledger.conftest import Bench
from tests.ledger.lived import live
from tests.ledger.test_file import HOLDER
from uploaderd.errors import LedgerBroken
from uploaderd.ledger import connect_readonly, copying
from uploaderd.ledger.copying import copy
from uploaderd.ledger.integrity import examine


def wrong(path: Path) -> dict[str, tuple[str, ...]]:
    """What is wrong, by the check that says so."""
    with closing(connect_readonly(path)) as conn:
        return {finding.what: finding.wrong for finding in examine(conn) if finding.wrong}


async def test_a_ledger_that_has_lived_is_sound(bench: Bench) -> None:
    await live(bench)
    with closing(connect_readonly(bench.ledger.path)) as conn:
        findings = list(examine(conn))
    assert [finding.what for finding in findings] == [
        "file",
        "references",
        "attempts",
        "events",
        "counters",
        "states",
    ]
    assert not any(finding.wrong for finding in findings)


@pytest.mark.parametrize(
    ("tampering", "what"),
    [
        ("UPDATE recording_totals SET count = count + 1 WHERE state = 'safe'", "counters"),
        ("UPDATE recording_totals SET bytes = bytes - 1 WHERE state = 'waiting'", "counters"),
        ("UPDATE upload_totals SET count = 0 WHERE state = 'verified'", "counters"),
        ("DELETE FROM upload_totals", "counters"),
        ("UPDATE uploads SET recording_id = 999 WHERE id = 1", "references"),
        ("UPDATE uploads SET proof_kind = NULL WHERE state = 'verified'", "states"),
        ("UPDATE uploads SET attempt_at = 1 WHERE state = 'verified'", "states"),
        ("UPDATE uploads SET attempt_at = NULL WHERE state = 'uploading'", "states"),
        ("UPDATE uploads SET next_attempt_at = NULL WHERE state = 'retrying'", "states"),
        ("UPDATE uploads SET token = x'00'", "states"),
        ("UPDATE uploads SET bytes_sent = -1 WHERE id = 1", "states"),
        ("UPDATE recordings SET verified = 2 WHERE state = 'waiting'", "states"),
        ("UPDATE recordings SET failed = failed + 1 WHERE id = 1", "states"),
        ("UPDATE recordings SET safe_at = NULL", "states"),
        ("UPDATE recordings SET needed = 3 WHERE state = 'waiting'", "states"),
        ("UPDATE recordings SET past = 7 WHERE id = 1", "states"),
        (
            "INSERT INTO parts SELECT id, 1, 3, 5, 0, x'', NULL, '', NULL FROM uploads WHERE id = 1",
            "states",
        ),
        (
            "DROP TRIGGER attempts_update; UPDATE attempts SET bytes_sent = 4 WHERE id = 2",
            "attempts",
        ),
        ("DROP TRIGGER events_delete; DELETE FROM events WHERE id = 1", "events"),
        ("INSERT INTO meta VALUES ('events_exported', 1)", "events"),
    ],
)
async def test_what_does_not_fit_is_found(bench: Bench, tampering: str, what: str) -> None:
    await live(bench)
    await bench.ledger.close()
    with closing(sqlite3.connect(bench.ledger.path)) as conn:
        before = conn.total_changes
        conn.executescript(tampering)
        assert conn.total_changes > before, "nothing was changed"
    assert what in wrong(bench.ledger.path)


async def test_damage_is_reported_by_each_check_that_meets_it(bench: Bench) -> None:
    await live(bench)
    await bench.ledger.close()
    damage(bench.ledger.path, "uploads")
    found = wrong(bench.ledger.path)
    assert {"file", "counters", "states"} <= found.keys()
    assert "attempts" not in found, "and the others go on"


def damage(path: Path, table: str) -> None:
    """Overwrite the table's first page."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)


# --- copies ------------------------------------------------------------------------------------------


def test_a_copy_made_while_somebody_writes_is_of_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps of one page, so that hundreds of commits fall between the first and the last."""
    path, target = tmp_path / "ledger.db", tmp_path / "copy.db"
    monkeypatch.setattr(copying, "STEP", 1)
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told: list[int] = []

        def written(done: int, pages: int) -> None:
            if done % 10 == 0:
                assert writer.stdout is not None
                told.append(int(writer.stdout.readline()))

        first = [int(writer.stdout.readline()) for _ in range(100)][-1]
        with closing(connect_readonly(path)) as conn:
            copy(conn, target, progress=written)
        assert told[-1] > told[0], "nothing was written meanwhile"
        writer.kill()
    assert wrong(target) == {}
    with closing(sqlite3.connect(target)) as made:
        (events,) = made.execute("SELECT count(*) FROM events").fetchone()
    assert events >= first, "nothing that was acknowledged before is missing"


async def test_a_copy_stands_alone_and_is_its_owners(bench: Bench, tmp_path: Path) -> None:
    await live(bench)
    folder = tmp_path / "backup"
    folder.mkdir()
    with closing(connect_readonly(bench.ledger.path)) as conn:
        size = copy(conn, folder / "copy.db")
    assert [path.name for path in folder.iterdir()] == ["copy.db"]
    assert (folder / "copy.db").stat().st_size == size
    assert stat.S_IMODE((folder / "copy.db").stat().st_mode) == 0o600
    os.chmod(folder, 0o500)
    with closing(sqlite3.connect(f"file:{folder / 'copy.db'}?mode=ro&immutable=1", uri=True)) as made:
        assert made.execute("SELECT count(*) FROM recordings").fetchone() == (6,)
        assert made.execute("PRAGMA journal_mode").fetchone() == ("delete",)


async def test_a_copy_replaces_only_when_told(bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_bytes(b"mine")
    with closing(connect_readonly(bench.ledger.path)) as conn:
        with pytest.raises(FileExistsError):
            copy(conn, target)
        assert target.read_bytes() == b"mine"
        copy(conn, target, replace=True)
    assert wrong(target) == {}


async def test_a_copy_of_damage_is_not_kept(bench: Bench, tmp_path: Path) -> None:
    await live(bench)
    await bench.ledger.close()
    damage(bench.ledger.path, "uploads")
    target = tmp_path / "copy.db"
    target.write_bytes(b"yesterday's, which is good")
    with closing(connect_readonly(bench.ledger.path)) as conn:
        with pytest.raises(LedgerBroken, match="damaged"):
            copy(conn, target, replace=True)
    assert target.read_bytes() == b"yesterday's, which is good"
    assert not list(tmp_path.glob("copy.db.*"))
