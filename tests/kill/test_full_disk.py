"""The disk that the ledger and the recordings share is full when the daemon starts.

What frees it is the cleanup, and the cleanup needs a daemon that has started: the room that is kept back
must carry both. On a disk of 16 MiB.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.box import Box
from tests.end_to_end.places import content_of
from tests.kill.figures import Record
from tests.ledger.small_disk import SmallDisk, small_disk_or_skip


@dataclass
class SmallBox(Box):
    """A recorder's machine whose ledger and recordings lie on one small disk."""

    @property
    def ledger(self) -> Path:
        return self.folder / "recordings" / "ledger.db"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk_or_skip(tmp_path / "recordings") as made:
        yield made


@pytest.fixture
def box(tmp_path: Path, disk: SmallDisk) -> Iterator[SmallBox]:
    with tempfile.TemporaryDirectory(prefix="ud-") as sockets:
        box = SmallBox(tmp_path, Path(sockets))
        (tmp_path / "nas").mkdir()
        box.providers["nas"] = {"type": "directory", "path": str(tmp_path / "nas")}
        yield box


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_started_on_a_full_disk_it_frees_it_and_goes_on(
    box: SmallBox, disk: SmallDisk, end: signal.Signals, record: Record
) -> None:
    folder = box.source(cleanup={"policy": "keep"})
    for number in range(3):
        (folder / f"{number}.mp4").write_bytes(content_of(800_000, number))
    with box.run() as daemon:
        await box.until_safe(3)
        daemon.signal(end)
        assert await daemon.ended() == (0 if end == signal.SIGTERM else -end)
    disk.fill()
    assert len([*folder.iterdir()]) == 3

    box.sources["hall"]["cleanup"] = {"policy": "delete-when-safe", "keep_for": "0s"}
    with box.run() as daemon:
        await box.until(lambda: len(daemon.said("local file removed")) == 3)
        (folder / "later.mp4").write_bytes(b"there is room again")
        await box.until_safe(4)
        await box.until(lambda: not [*folder.iterdir()])
        status = await box.status()
        assert (status["state"], status["ledger"]["problem"]) == ("SAFE", None)
    assert len([*(box.folder / "nas").rglob("*.mp4")]) == 4
    record("removed on a full disk", 3)


async def test_started_on_a_full_disk_with_nothing_to_remove_it_says_so_and_waits(
    box: SmallBox, disk: SmallDisk
) -> None:
    folder = box.source()
    (folder / "first.mp4").write_bytes(b"first")
    with box.run() as daemon:
        await box.until_safe(1)
        daemon.kill()
    disk.fill()
    with box.run() as daemon:
        await daemon.says("the ledger cannot be written; nothing new is begun")
        status = await box.status()
        assert status["state"] == "FAILING"
        assert "full" in status["ledger"]["problem"]["message"]
        assert "space" in status["ledger"]["problem"]["hint"]
        assert (await box.uploaderd("status", "--alive")).code == 0
        disk.free()
        (folder / "second.mp4").write_bytes(b"second")
        await box.until_safe(2)
        assert (await box.status())["state"] == "SAFE"


async def test_without_any_room_it_ends_and_says_what_to_do(box: SmallBox, disk: SmallDisk) -> None:
    """The reserve is used up, so that the ledger cannot even be opened; a service manager tries again."""
    folder = box.source()
    (folder / "first.mp4").write_bytes(b"first")
    with box.run():
        await box.until_safe(1)
    box.ledger.with_name("ledger.db.reserve").unlink()
    disk.fill()
    with box.run() as daemon:
        assert await daemon.ended() == 1
    assert "is full" in daemon.text()
    assert "free some space, and start it again" in daemon.text()
    status = await box.uploaderd("status")
    assert status.out.startswith("STOPPED")
    assert "the disk that holds the ledger is full" in status.out
    disk.free()
    with box.run():
        (folder / "second.mp4").write_bytes(b"second")
        await box.until_safe(2)
