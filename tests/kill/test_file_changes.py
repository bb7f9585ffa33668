"""The file is changed, moved or removed at every stage of its upload, at every provider.

The watcher is played by the test, which looks at the file again when it is told to, or when all is done.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.contract.place import Backend, Place
from tests.end_to_end.box import Box
from tests.kill.figures import Record
from tests.kill.test_lost_replies import settled
from tests.pool.conftest import Rig, content_of
from tests.strict import StrictServer
from uploaderd.ledger import Ledger, intake, read

STAGES = ("claim", "intend", "opened", "charge", "part_done", "completing", "verified")
"""Ledger writes of an upload in parts, in order. The change happens after one, before anything else does."""


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"and more")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replace(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(content_of(path.stat().st_size, "new"))
    new.replace(path)


def overwrite(path: Path) -> None:
    """Same size, same inode, another content."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(content_of(before.st_size, "overwritten"))
    # The kernel's own clock ticks every few milliseconds; a recorder is not that quick.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10_000_000))


CHANGES: list[Callable[[Path], None]] = [append, truncate, replace, overwrite]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_changed_at_any_stage(
    rig: Rig, change: Callable[[Path], None], record: Record, backend: Backend
) -> None:
    """Nothing of a mixture is ever completed; the new content arrives as a version of its own."""
    completed = 0
    for stage in STAGES:
        name = f"{stage}.mp4"
        before = content_of(int(1.2 * rig.place.part_size), stage)
        recording = await rig.queue(name, before)
        changed = once(rig, stage, partial(change, rig.folder / name))
        async with rig.working():
            await asyncio.wait_for(changed.wait(), 30)
            await told_or_safe(rig, recording)
            now = (rig.folder / name).read_bytes()
            newer = await rig.queue(name)
            row = await settled(rig, newer)
        assert now != before
        (upload,) = row.uploads.values()
        found = await rig.place.vendor.get(upload.key)
        assert found is not None
        assert found.content == now
        assert found.token == upload.token
        old = await rig.row(recording)
        (old_upload,) = old.uploads.values()
        other = await rig.place.vendor.get(f"cams/{name}") if old_upload.key != upload.key else None
        if old.state == "safe":
            completed += 1
            kept = await rig.place.vendor.get(old_upload.key)
            assert kept is not None
            assert kept.content == before, "whole, as it was queued"
        else:
            assert old.state == "superseded"
            assert other is None
        assert await rig.place.vendor.leftovers() == 0
    assert completed == 2, "only what was whole when it was last looked at, right before its completion"
    record("stages", len(STAGES))


async def test_unlinked_at_any_stage(rig: Rig, record: Record) -> None:
    """Before it is opened it is lost, and that is said; after that it is sent from the open descriptor."""
    for stage in STAGES:
        name = f"{stage}.mp4"
        content = content_of(int(1.2 * rig.place.part_size), stage)
        recording = await rig.queue(name, content)
        unlinked = once(rig, stage, (rig.folder / name).unlink)
        async with rig.working():
            await asyncio.wait_for(unlinked.wait(), 30)
            row = await rig.settled(recording)
        (upload,) = row.uploads.values()
        found = await rig.place.vendor.get(upload.key)
        if stage == "claim":
            assert (row.state, row.local, found) == ("lost", "removed", None)
            continue
        assert row.state == "safe"
        # After the last look, right before the completion, it is the sweep that finds out.
        assert row.local == ("present" if stage in ("completing", "verified") else "removed")
        assert found is not None
        assert found.content == content
        assert upload.bytes_sent == len(content)
    assert await rig.place.vendor.leftovers() == 0
    record("stages", len(STAGES))


async def test_renamed_at_any_stage(rig: Rig, record: Record) -> None:
    """It is followed: nothing is sent twice, and there is one object."""
    for stage in STAGES:
        name = f"{stage}.mp4"
        content = content_of(int(1.2 * rig.place.part_size), stage)
        recording = await rig.queue(name, content)
        new = f"{stage}-renamed.mp4"

        async def resweep(_: str, recording: int = recording, name: str = name, new: str = new) -> None:
            await Ledger.run(rig.ledger, intake.renamed, recording, os.fsencode(new), (name, new))

        rig.resweep = resweep
        renamed = once(rig, stage, partial((rig.folder / name).rename, rig.folder / new))
        async with rig.working():
            await asyncio.wait_for(renamed.wait(), 30)
            row = await settled(rig, recording)
        (upload,) = row.uploads.values()
        found = await rig.place.vendor.get(upload.key)
        assert found is not None
        assert found.content == content
        assert upload.bytes_sent == len(content)
        assert row.path == os.fsencode(new if stage == "claim" else name)
    assert await rig.place.vendor.leftovers() == 0
    assert len(await rig.place.vendor.keys()) == len(STAGES)
    record("stages", len(STAGES))


def once(rig: Rig, stage: str, act: Callable[[], object]) -> asyncio.Event:
    """Act after the first ledger write of that name; the event tells that it happened."""
    done = asyncio.Event()

    async def hook(name: str) -> None:
        if name == stage and not done.is_set():
            act()
            done.set()

    rig.ledger.hook = hook
    return done


async def told_or_safe(rig: Rig, recording: int) -> read.RecordingRow:
    """Wait until the watcher is told to look again, or nothing is left to be told."""
    rig.offered.clear()
    return await rig.until(lambda rig, row: bool(rig.offered) or row.state != "waiting", recording)


async def test_restored_to_a_new_disk_nothing_is_sent_again(
    box: Box, places: dict[str, Place], endpoint: StrictServer, record: Record
) -> None:
    """As rsync -a does it: the same paths, contents and times; other inodes, on another device."""
    folder = box.source()
    for number in range(8):
        path = folder / f"cam{number % 2}" / f"{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content_of(50_000 * number + 1, str(number)))
    box.send_to(places)
    with box.run():
        before = await box.until_safe(8)
    requests = len(endpoint.log.entries())

    with tempfile.TemporaryDirectory(dir="/dev/shm") as disk:
        restored = Path(disk) / "restored"
        shutil.copytree(folder, restored, copy_function=shutil.copy2)
        assert restored.stat().st_dev != folder.stat().st_dev
        inodes = {path.stat().st_ino for path in folder.rglob("*.mp4")}
        folder.rename(folder.with_name("broken disk"))
        folder.symlink_to(restored)
        with box.run("--until-safe") as daemon:
            assert await daemon.ended() == 0
        after = box.recordings()
        with box.reading() as conn:
            assert conn is not None
            moved = {row[0] for row in conn.execute("SELECT inode FROM recordings")}
    assert not moved & inodes, "they were found on the new disk"
    assert {path: row.row for path, row in after.items()} == {path: row.row for path, row in before.items()}
    sent = [entry for entry in endpoint.log.entries()[requests:] if entry.key.startswith("hall/")]
    assert sent == []
    record("sent again", sum(r.uploads[p].bytes_sent - r.size for r in after.values() for p in r.uploads))
