"""What is found at a start: removals that were cut off, and files aside that no ledger knows of."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.cleanup.conftest import Yard
from tests.watch.test_network import mounted
from uploaderd import root
from uploaderd.ledger import removal
from uploaderd.ledger.passage import Ripe
from uploaderd.model import Milliseconds
from uploaderd.quarantine import name_aside, name_before

pytestmark = pytest.mark.at("directory")


async def begun(yard: Yard, name: str = "cam1/a.mp4") -> tuple[int, Path, Path]:
    """A removal that was begun and then cut off before anything was done: recording, file, name aside."""
    recording = await yard.safe(name)
    path = yard.rig.folder / name
    aside = name_aside(os.fsencode(path.name))
    now = Milliseconds(yard.rig.clock.now() + 1)
    (due,) = await yard.rig.ledger.run(removal.due, yard.rig.source, Ripe(now, 0), 64)
    assert await yard.rig.ledger.run(removal.begin, due, aside)
    return recording, path, path.with_name(os.fsdecode(aside))


async def settled(yard: Yard) -> None:
    await yard.cleaner(policy="keep").settle()
    assert await yard.rig.ledger.run(removal.begun, yard.rig.source) == []


async def test_cut_off_before_it_was_put_aside(yard: Yard) -> None:
    recording, path, _ = await begun(yard)
    await settled(yard)
    assert path.exists()
    assert await yard.kinds(recording) == ["removing", "put-back"]


async def test_cut_off_while_it_was_aside(yard: Yard) -> None:
    recording, path, aside = await begun(yard)
    path.rename(aside)
    await settled(yard)
    assert yard.left() == ["cam1/a.mp4"]
    assert path.read_bytes() == b"a recording"
    assert await yard.kinds(recording) == ["removing", "put-back"]
    row = await yard.row(recording)
    assert (row.state, row.local) == ("safe", "present")


async def test_cut_off_after_it_was_unlinked(yard: Yard) -> None:
    recording, path, _ = await begun(yard)
    path.unlink()
    await settled(yard)
    assert await yard.kinds(recording) == ["removing", "removed"]
    assert (await yard.row(recording)).local == "removed"


async def test_cut_off_while_it_was_aside_on_a_disk_that_is_not_mounted_now(yard: Yard) -> None:
    recording, path, aside = await begun(yard)
    path.rename(aside)
    disk = path.parent.rename(yard.rig.folder.with_name("disk"))
    path.parent.mkdir()  # where it is mounted
    other = await yard.safe("b.mp4")
    await yard.rig.ledger.run(
        lambda tx: tx.conn.execute("UPDATE recordings SET device = device + 1 WHERE id = ?", (recording,))
    )
    async with yard.cleaning(keep_for="0s"):
        await yard.event("removed", other)
        assert await yard.kinds(recording) == ["removing"]
        path.parent.rmdir()
        disk.rename(path.parent)
        await yard.event("put-back", recording)
        await yard.event("removed", recording)


async def test_cut_off_after_it_was_unlinked_before_the_devices_got_other_numbers(yard: Yard) -> None:
    recording, path, _ = await begun(yard)
    path.unlink()
    await yard.rig.ledger.run(lambda tx: tx.conn.execute("UPDATE sources SET device = 4711"))
    await yard.rig.ledger.run(lambda tx: tx.conn.execute("UPDATE recordings SET device = 4711"))
    await settled(yard)
    assert (await yard.row(recording)).local == "removed"


async def test_cut_off_after_its_folder_went_as_well(yard: Yard) -> None:
    recording, path, _ = await begun(yard)
    path.unlink()
    path.parent.rmdir()
    await settled(yard)
    assert (await yard.row(recording)).local == "removed"


async def test_cut_off_after_another_file_took_the_path(yard: Yard) -> None:
    recording, path, aside = await begun(yard)
    path.rename(aside)
    path.write_bytes(b"the next one")
    await settled(yard)
    assert path.read_bytes() == b"the next one"
    (beside,) = [file for file in path.parent.iterdir() if file != path]
    assert beside.name.startswith("a.kept-")
    assert beside.read_bytes() == b"a recording"
    assert await yard.kinds(recording) == ["removing", "put-back"]


async def test_cut_off_between_link_and_unlink(yard: Yard) -> None:
    """As it may be on NFS, where hard links stand in for the renaming."""
    _, path, aside = await begun(yard)
    path.rename(aside)
    os.link(aside, path)
    await settled(yard)
    assert yard.left() == ["cam1/a.mp4"]


async def test_a_missing_source_settles_nothing_until_it_is_back(yard: Yard) -> None:
    recording, path, aside = await begun(yard)
    path.rename(aside)
    away = yard.rig.folder.with_name("away")
    yard.rig.folder.rename(away)
    cleaner = yard.cleaner(policy="keep")
    await cleaner.settle()
    assert await yard.kinds(recording) == ["removing"]
    running = asyncio.create_task(cleaner.run())
    await asyncio.sleep(0)
    away.rename(yard.rig.folder)
    await yard.event("put-back", recording)
    await asyncio.wait_for(running, 20)
    assert yard.left() == ["cam1/a.mp4"]


async def test_a_mount_that_hangs_settles_nothing_and_keeps_nobody_waiting(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at a start: the watcher, which tells of such a mount, begins only then."""
    monkeypatch.setattr(root, "ANSWER_SECONDS", 0.2)
    recording, *_ = await begun(yard)
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, yard.rig.folder) as server:
        server.send_signal(signal.SIGSTOP)
        settling = asyncio.create_task(yard.cleaner(policy="keep").settle())
        done, _ = await asyncio.wait((settling,), timeout=20)
        server.send_signal(signal.SIGCONT)
        await settling
    assert done
    assert await yard.kinds(recording) == ["removing"]


async def test_what_no_ledger_knows_of_is_put_back(yard: Yard) -> None:
    folder = yard.rig.folder / "cam1"
    folder.mkdir()
    (folder / os.fsdecode(name_aside(b"a.mp4"))).write_bytes(b"of a ledger that was lost")
    (folder / ".uploaderd-mine").write_bytes(b"not a name of ours")
    await asyncio.wait_for(yard.cleaner(policy="keep").run(), 20)
    assert yard.left() == ["cam1/.uploaderd-mine", "cam1/a.mp4"]
    (event,) = [row for row in await yard.events(None) if row["kind"] == "put-back"]
    assert "cam1/a.mp4" in event["detail"]
    assert yard.looked_at == [b"cam1/a.mp4"]


async def test_what_is_under_way_is_left_alone(yard: Yard) -> None:
    recording, path, aside = await begun(yard)
    cleaner = yard.cleaner(policy="keep")
    await cleaner.settle()
    path.rename(aside)  # begun anew, by a cleaner of another source that lies inside of this one
    await yard.rig.ledger.run(
        lambda tx: tx.conn.execute(
            "INSERT INTO removals VALUES (?, ?, ?, ?, 0)",
            (recording, yard.rig.source, b"cam1/a.mp4", os.fsencode(aside.name)),
        )
    )
    await asyncio.wait_for(cleaner.run(), 20)
    assert aside.exists()


@pytest.mark.parametrize("name", [b"a.mp4", b"\xff\xfe.ts", b"-", b"x" * 255, b"a-b-c", b".hidden"])
def test_the_name_aside_leads_back(name: bytes) -> None:
    aside = name_aside(name)
    assert len(aside) <= 255
    assert aside != name_aside(name)
    before = name_before(aside)
    assert before is not None
    assert name.endswith(before)
    assert len(before) == len(name) or len(aside) == 255


@pytest.mark.parametrize("name", [b"a.mp4", b".uploaderd-x.part", b".uploaderd-0123456789abcdef-.removing"])
def test_other_names_lead_nowhere(name: bytes) -> None:
    assert name_before(name) is None
