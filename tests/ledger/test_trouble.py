"""The ledger under fire: what is refused is said, nothing that happened is forgotten, a full disk heals."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.box import Box, until
from tests.ledger.conftest import Hand
from tests.ledger.small_disk import SmallDisk, small_disk_or_skip
from uploaderd.errors import LedgerBroken, LedgerFull
from uploaderd.ledger import Event, Ledger, Transaction, chain, connect_readonly

BIG = "x" * 200_000
"""More than a write-ahead log has room for without growing, once its disk is full."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk_or_skip(tmp_path / "disk") as made:
        yield made


@pytest.fixture
async def ledger(disk: SmallDisk) -> AsyncIterator[Ledger]:
    ledger = Ledger(disk.path / "ledger.db", Hand().now, "test")
    await ledger.open()
    await ledger.run(noted, "the disk has room")
    yield ledger
    await ledger.close()


def noted(tx: Transaction, text: str) -> None:
    tx.event(Event("noted", detail={"text": text}))


def in_trouble(ledger: Ledger) -> bool:
    return ledger.trouble is not None


def kinds(ledger: Ledger) -> list[str]:
    with closing(connect_readonly(ledger.path)) as conn:
        assert chain.broken_at(conn, "events") is None
        return [row[0] for row in conn.execute("SELECT kind FROM events ORDER BY id")]


# --- a full disk -------------------------------------------------------------------------------------


async def test_who_insists_is_answered_once_there_is_room(ledger: Ledger, disk: SmallDisk) -> None:
    disk.fill()
    with pytest.raises(LedgerFull):
        await ledger.run(noted, BIG)
    assert ledger.trouble is not None
    assert "full" in str(ledger.trouble.error)
    insisting = asyncio.ensure_future(ledger.insist(noted, BIG))
    await asyncio.sleep(0)  # it has asked before the next does, so that it was refused when that is
    with pytest.raises(LedgerFull):
        await ledger.run(noted, BIG)
    assert not insisting.done()
    disk.free()
    await asyncio.wait_for(insisting, 30)
    assert not in_trouble(ledger)
    assert kinds(ledger) == ["noted", "ledger-mended", "noted"], (
        "and that it could not be written is on record"
    )


async def test_reading_goes_on_and_does_not_look_like_healing(ledger: Ledger, disk: SmallDisk) -> None:
    disk.fill()
    with pytest.raises(LedgerFull):
        await ledger.run(noted, BIG)
    count = await ledger.run(lambda tx: tx.conn.execute("SELECT count(*) FROM events").fetchone()[0])
    assert count == 1
    assert ledger.trouble is not None


async def test_no_room_for_the_first_transaction_is_a_full_disk_too(disk: SmallDisk) -> None:
    """SQLite calls it an I/O error: the index of the write-ahead log cannot be made."""
    ledger = Ledger(disk.path / "ledger.db", Hand().now, "test")
    await ledger.open()
    disk.fill()
    with pytest.raises(LedgerFull):
        await ledger.run(noted, "first")
    disk.free()
    await asyncio.wait_for(ledger.insist(noted, "first"), 30)
    await ledger.close()


async def test_who_is_told_to_hurry_waits_no_longer(ledger: Ledger, disk: SmallDisk) -> None:
    disk.fill()
    insisting = asyncio.ensure_future(ledger.insist(noted, BIG))
    await until(lambda: ledger.trouble is not None)
    ledger.hurry()
    with pytest.raises(LedgerFull):
        await asyncio.wait_for(insisting, 30)


@dataclass
class SmallBox(Box):
    """A recorder's machine whose ledger lies on a small disk of its own."""

    @property
    def ledger(self) -> Path:
        return self.folder / "disk" / "ledger.db"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[SmallBox]:
    with tempfile.TemporaryDirectory(prefix="ud-") as sockets:
        box = SmallBox(tmp_path, Path(sockets))
        (tmp_path / "nas").mkdir()
        box.providers["nas"] = {"type": "directory", "path": str(tmp_path / "nas")}
        yield box


async def test_a_daemon_on_a_full_disk_says_so_and_goes_on_by_itself(box: SmallBox, disk: SmallDisk) -> None:
    folder = box.source()
    recorded = {f"{number:04}.mp4": os.urandom(1000) for number in range(400)}
    names = iter(recorded)

    def record(count: int) -> None:
        for name in [next(names) for _ in range(count)]:
            (folder / name).write_bytes(recorded[name])

    with box.run() as daemon:
        record(3)
        await box.until_safe(3)
        disk.fill()
        record(300)
        await daemon.says("the ledger cannot be written; nothing new is begun")
        status = await box.status()
        assert status["state"] == "FAILING"
        assert "full" in status["ledger"]["problem"]["message"]
        assert (await box.uploaderd("status", "--alive")).code == 0, "a restart would not help"
        assert all((folder / name).exists() for name in list(recorded)[:303])
        disk.free()
        await daemon.says("the ledger can be written again")
        record(97)
        await box.until_safe(400)
        status = await box.status()
        assert status["ledger"]["problem"] is None
        assert status["state"] == "SAFE"
    nas = box.folder / "nas"
    assert {path.name: path.read_bytes() for path in nas.rglob("*.mp4")} == recorded
    assert all(row.uploads["nas"].bytes_sent == 1000 for row in box.recordings().values())


async def test_a_daemon_can_be_stopped_on_a_full_disk(box: SmallBox, disk: SmallDisk) -> None:
    folder = box.source()
    with box.run() as daemon:
        (folder / "first.mp4").write_bytes(b"first")
        await box.until_safe(1)
        disk.fill()
        for number in range(300):
            (folder / f"{number}.mp4").write_bytes(b"%d" % number)
        await daemon.says("the ledger cannot be written; nothing new is begun")
    disk.free()
    with box.run():
        await box.until_safe(301)


# --- damage ------------------------------------------------------------------------------------------


async def test_once_broken_no_later_write_is_believed(tmp_path: Path) -> None:
    """Though the storage may seem well again: what a write builds upon may not be on the disk."""
    ledger = Ledger(tmp_path / "ledger.db", Hand().now, "test")
    await ledger.open()
    watched = asyncio.ensure_future(ledger.failure())

    def fails(tx: Transaction) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
        raise error

    with pytest.raises(LedgerBroken, match="SQLITE_IOERR_FSYNC"):
        await ledger.run(fails)
    for write in (ledger.run, ledger.insist):
        with pytest.raises(LedgerBroken, match="SQLITE_IOERR_FSYNC"):
            await write(noted, "after the failure")
    with pytest.raises(LedgerBroken):
        await asyncio.wait_for(watched, 10)
    await ledger.close()


async def test_damage_is_reported_to_all_and_not_only_to_who_met_it(tmp_path: Path) -> None:
    ledger = await filled(tmp_path / "ledger.db")
    watched = asyncio.ensure_future(ledger.failure())
    flip(ledger.path)
    with pytest.raises(LedgerBroken, match="damaged"):
        await ledger.run(lambda tx: tx.conn.execute("SELECT sum(length(detail)) FROM events").fetchone())
    with pytest.raises(LedgerBroken, match="damaged"):
        await asyncio.wait_for(watched, 10)
    await ledger.close()


async def test_text_that_is_none_is_damage(tmp_path: Path) -> None:
    """SQLite takes it as it is; Python, where it is read, does not."""
    ledger = Ledger(tmp_path / "ledger.db", Hand().now, "test")
    await ledger.open()
    with pytest.raises(LedgerBroken, match="not UTF-8"):
        await ledger.run(lambda tx: tx.conn.execute("SELECT CAST(x'61a0' AS TEXT) AS name").fetchone())
    await ledger.close()


async def test_a_daemon_on_a_damaged_ledger_ends_and_says_why(box: SmallBox) -> None:
    box.ledger.parent.mkdir()
    ledger = await filled(box.ledger)
    await ledger.close()
    folder = box.source()
    with box.run() as daemon:
        (folder / "first.mp4").write_bytes(b"first")
        await box.until_safe(1)
        flip(box.ledger)
        for number in range(20):
            (folder / f"{number}.mp4").write_bytes(b"%d" % number)
        assert await daemon.ended() == 1
        (said,) = daemon.said("the ledger failed; ending so that a new start can recover")
        assert "damaged" in said["reason"]
        assert "rebuild" in said["hint"]
    assert (await box.status())["state"] in ("FAILING", "STOPPED")
    assert len(list(folder.iterdir())) == 21


async def filled(path: Path) -> Ledger:
    """An open ledger of a few hundred pages, none of which is in the write-ahead log."""
    ledger = Ledger(path, Hand().now, "test")
    await ledger.open()
    for number in range(300):
        await ledger.run(noted, f"{number} {'x' * 3000}")
    await ledger.close()
    ledger = Ledger(path, Hand().now, "test")
    await ledger.open()
    return ledger


def flip(path: Path) -> None:
    """Damage every page but the first, as a dying disk may."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(1, size // 4096):
            file.seek(page * 4096)
            file.write(b"\xa5" * 64)
