"""The power is cut, again and again: ledger, recordings and copies lie on ext4 in a loop image.

What the daemon said was verified is so on what the disk holds at that instant; a recording whose file is gone
from it has a committed proof there and a whole copy; and the daemon that starts on it goes on.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.end_to_end.box import Box
from tests.end_to_end.daemon import DaemonProcess
from tests.end_to_end.places import content_of
from tests.kill.figures import Record
from tests.kill.power import Machine, machine
from tests.needs import MissingError, lacking
from uploaderd.ledger.chain import broken_at

CUTS: Final = int(os.environ.get("TESTS_CUTS", "4"))
SEED: Final = int(os.environ.get("TESTS_SEED", "1"))
PER_CUT: Final = 6
"""Recordings that come before each cut."""


@pytest.fixture
def plugged() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ud-") as folder:
        try:
            made = machine(Path(folder))
        except MissingError as error:
            lacking(error)
        yield made


@dataclass
class DiskBox(Box):
    """All that must outlive a power cut is on the machine's disk; configuration and log beside it."""

    disk: Path = Path()

    def __post_init__(self) -> None:
        self.recorded, self.target = self.disk / "recordings", self.disk / "target"
        self.sources["hall"] = {
            "path": str(self.recorded),
            "quiet_for": "10ms",
            "key": "{path}",
            "cleanup": {"policy": "delete-when-safe", "keep_for": "0s"},
        }
        self.providers["nas"] = {
            "type": "directory",
            "path": str(self.target),
            "part_size": "256KiB",
            "same_device_counts": True,
        }

    @property
    def ledger(self) -> Path:
        return self.disk / "ledger.db"


@pytest.mark.timeout(60 + 10 * CUTS)
async def test_nothing_acknowledged_is_lost_and_nothing_unproven_deleted(
    plugged: Machine, record: Record
) -> None:
    chance = random.Random(SEED)
    box = DiskBox(plugged.path.parent, plugged.path.parent, disk=plugged.path)
    contents: dict[str, bytes] = {}
    verified: set[str] = set()
    met: Counter[str] = Counter()
    for cut in range(CUTS):
        with plugged.powered():
            if cut == 0:
                box.recorded.mkdir()
                box.target.mkdir()
            else:
                look_at(box, contents, verified, met)
            for number in range(PER_CUT):
                name = f"{cut:03}-{number}.mp4"
                size = 4_000_000 if number == 0 else chance.choice((1000, 200_000, 600_000))
                contents[name] = content_of(size, name)
                synced(box.recorded / name, contents[name])
            with box.run() as daemon:
                await daemon.says("provider opened")
                said = len(daemon.lines()) + chance.randrange(3 * PER_CUT)
                await (in_mid_file(box) if cut % 2 else reached(box, daemon, said))
                # Not to wait for anything: to fall between two lines.
                await asyncio.sleep(chance.random() * 0.01)
                with plugged.cut(daemon.pid):
                    verified |= {line["recording"] for line in daemon.said("upload verified")}
                    daemon.kill()
        plugged.restore()
    with plugged.powered():
        look_at(box, contents, verified, met)
        with box.run("--until-safe") as daemon:
            assert await daemon.ended() == 0
        assert {path: row.state for path, row in box.recordings().items()} == dict.fromkeys(contents, "safe")
        assert {path.name: path.read_bytes() for path in box.target.rglob("*.mp4")} == contents
        incoming = [*(box.target / ".uploaderd" / "incoming").iterdir()]
        # What was removed right before a cut, unsynced, and costs nothing, is forgotten later.
        assert not [p for p in incoming if p.stat().st_nlink == 1 and not p.name.startswith("probe-")]
    assert met["in the middle of an upload"] + met["in the middle of a removal"] >= CUTS // 4
    record("cuts", CUTS)
    for what in ("in the middle of an upload", "in the middle of a removal", "acknowledged", "removed"):
        record(what, met[what])
    record("missing", 0)


async def in_mid_file(box: DiskBox) -> None:
    """The large file of the round has parts on record, or there is nothing left to be done."""
    await box.until(lambda: box.parts() > 0 or not [*box.recorded.iterdir()])


async def reached(box: DiskBox, daemon: DaemonProcess, said: int) -> None:
    """So much was said, or there is nothing left to be done."""
    await box.until(lambda: len(daemon.lines()) >= said or not [*box.recorded.iterdir()])


def synced(path: Path, content: bytes) -> None:
    """A recorder that knows what a power cut is: what it lost would not be ours."""
    with path.open("wb", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())
    parent = os.open(path.parent, os.O_RDONLY)
    os.fsync(parent)
    os.close(parent)


def look_at(box: DiskBox, contents: dict[str, bytes], verified: set[str], met: Counter[str]) -> None:
    """What is on the disk after a power cut."""
    files = {path.name: path.read_bytes() for path in box.recorded.iterdir()}
    with box.reading() as conn:
        assert conn is not None
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert broken_at(conn, "attempts") is None
        assert broken_at(conn, "events") is None
        begun = conn.execute(
            "SELECT r.path, m.aside FROM removals m JOIN recordings r ON r.id = m.recording_id"
        )
        aside = {os.fsdecode(name): os.fsdecode(path) for path, name in begun}
    rows = box.recordings()
    for path in verified:
        assert rows[path].uploads["nas"].state == "verified", f"{path} was acknowledged, and is not"
    there = {aside.get(name, name): content for name, content in files.items()}
    assert there.items() <= contents.items(), "nobody would look for what is aside"
    gone = contents.keys() - there.keys()
    for path in gone:
        assert rows[path].state == "safe", path
        assert rows[path].uploads["nas"].proof_kind, path
    for path, row in rows.items():
        if row.uploads["nas"].state == "verified":
            assert (box.target / path).read_bytes() == contents[path]
    met["acknowledged"], met["removed"] = len(verified), len(gone)
    states = [row.uploads["nas"].state for row in rows.values()]
    met["in the middle of an upload"] += "uploading" in states or "completing" in states
    met["in the middle of a removal"] += bool(aside)
