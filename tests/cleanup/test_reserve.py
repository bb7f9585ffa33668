"""A disk so full that the ledger cannot write does not stop what would free it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.ledger.small_disk import SmallDisk, small_disk_or_skip
from tests.pool.conftest import WatchedLedger
from uploaderd.clock import SystemClock
from uploaderd.errors import LedgerFull
from uploaderd.ledger import Event, Transaction
from uploaderd.ledger.reserve import SIZE, Reserve


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk_or_skip(tmp_path / "disk") as made:
        yield made


@pytest.fixture
async def ledger(disk: SmallDisk) -> AsyncIterator[WatchedLedger]:
    made = WatchedLedger(disk.path / "ledger.db", SystemClock())
    await made.open()
    yield made
    made.hurry()
    await made.close()


def note(tx: Transaction, text: str) -> None:
    tx.event(Event("noted", detail={"text": text * 100}))


def count(tx: Transaction) -> int:
    return int(tx.conn.execute("SELECT count(*) FROM events WHERE kind = 'noted'").fetchone()[0])


async def until_refused(ledger: WatchedLedger) -> int:
    for number in range(10_000):
        try:
            await ledger.run(note, "x" * 20)
        except LedgerFull:
            return number
    raise AssertionError("never full")


async def test_what_frees_space_is_written_when_nothing_else_is(
    ledger: WatchedLedger, disk: SmallDisk
) -> None:
    await ledger.run(note, "first")
    reserve = disk.path / "ledger.db.reserve"
    assert reserve.stat().st_blocks * 512 == SIZE
    assert reserve.stat().st_mode & 0o777 == 0o600
    disk.fill()
    await until_refused(ledger)
    assert reserve.stat().st_blocks * 512 == SIZE, "not for others"
    before = await ledger.run(count)
    for number in range(20):
        await ledger.run_in_need(note, f"in need {number}")
        with pytest.raises(LedgerFull):
            await ledger.run(note, "refused")
    assert await ledger.run(count) == before + 20, "what only reads is let through"
    assert reserve.stat().st_blocks == 0
    assert ledger.trouble is not None
    disk.free()
    await ledger.run(note, "again")
    assert reserve.stat().st_blocks * 512 == SIZE, "taken again"
    assert ledger.trouble is None


async def test_one_group_of_both_kinds_is_parted(ledger: WatchedLedger, disk: SmallDisk) -> None:
    await ledger.run(note, "first")
    disk.fill()
    await until_refused(ledger)
    ends = await asyncio.gather(
        *(ledger.run(note, "y") for _ in range(5)),
        *(ledger.run_in_need(note, "z") for _ in range(5)),
        *(ledger.run(note, "y") for _ in range(5)),
        return_exceptions=True,
    )
    assert [isinstance(end, LedgerFull) for end in ends] == [True] * 5 + [False] * 5 + [True] * 5


async def test_a_full_disk_at_start_leaves_no_reserve_and_lets_no_others_through(
    disk: SmallDisk,
) -> None:
    first = WatchedLedger(disk.path / "ledger.db", SystemClock())
    await first.open()
    await first.run(note, "first")
    await first.close()
    (disk.path / "ledger.db.reserve").unlink()
    disk.fill()
    os.truncate(disk.path / "ballast", (disk.path / "ballast").stat().st_size - SIZE // 2)
    ledger = WatchedLedger(disk.path / "ledger.db", SystemClock())
    await ledger.open()
    with pytest.raises(LedgerFull):
        await ledger.run(note, "refused")
    await ledger.run_in_need(note, "in need")
    disk.free()
    await ledger.run(note, "again")
    await ledger.close()


def test_a_part_of_the_reserve_is_not_kept(disk: SmallDisk) -> None:
    disk.fill()
    ballast = disk.path / "ballast"
    os.truncate(ballast, ballast.stat().st_size - 10 * 4096)
    reserve = Reserve(disk.path / "ledger.db")
    assert not reserve.take()
    assert (disk.path / "ledger.db.reserve").stat().st_blocks == 0
    assert not reserve.give_up()
    disk.free()
    assert reserve.take()
    assert reserve.give_up()
    assert reserve.take()


async def test_a_cleaner_frees_the_disk_that_the_ledger_needs(tmp_path: Path, disk: SmallDisk) -> None:
    """Ledger and recordings on one disk, which the recorder has filled: cleanup is what frees it."""
    from tests.cleanup.conftest import Yard
    from tests.contract.backends_directory import BACKENDS
    from tests.pool.conftest import LeapingClock, Rig
    from uploaderd.ledger import intake

    clock = LeapingClock()
    ledger = WatchedLedger(disk.path / "ledger.db", clock)
    await ledger.open()
    folder = disk.path / "recordings"
    folder.mkdir()
    source = await ledger.run(intake.register_source, "cams", bytes(folder))
    provider = await ledger.run(intake.register_provider, "tested", "directory", "target")
    async with BACKENDS[0].arrange(None, tmp_path) as place:
        rig = Rig(folder, place, ledger, clock, source, provider, dict(place.settings))
        async with rig.working() as pool:
            yard = Yard(rig, pool)
            recordings = [await yard.safe(f"{n}.mp4", bytes(1_000_000)) for n in range(3)]
            disk.fill()
            await until_refused(ledger)
            async with yard.cleaning(keep_for="0s", near=Path(place.settings["path"])):
                for recording in recordings:
                    await yard.event("removed", recording)
            assert [path.name for path in folder.iterdir()] == []
            await ledger.run(note, "again")
            rig.ledger.hurry()
    await ledger.close()
