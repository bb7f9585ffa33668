"""Bytes of the ledger flip while nobody looks, and a daemon that removes what is safe starts on it.

SQLite finds damaged pages, not damaged values: what is removed must be proven by the providers all the same.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.end_to_end.box import ROOT, UPLOADERD, Box
from tests.end_to_end.places import content_of
from tests.kill.figures import Record

ROUNDS: Final = 100 if os.environ.get("TESTS_EVERY") else 4
SEED: Final = int(os.environ.get("TESTS_SEED", "1"))
SECONDS: Final = 6.0
"""After which a daemon that did not end by itself is killed: some damage keeps it waiting."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ud-") as made:
        yield Path(made)


@pytest.mark.timeout(60 + 20 * ROUNDS)
async def test_nothing_is_removed_that_its_provider_does_not_have(folder: Path, record: Record) -> None:
    chance = random.Random(SEED)
    box = Box(folder, folder)
    source = box.source(quiet_for="10ms", key="{path}", cleanup={"policy": "keep"})
    target = folder / "target"
    target.mkdir()
    box.providers["nas"] = {"type": "directory", "path": str(target), "same_device_counts": True}
    contents = {f"{number}.mp4": content_of(20_000, number) for number in range(6)}
    for name in [*contents][:3]:
        (source / name).write_bytes(contents[name])
    with box.run("--until-safe") as daemon:
        assert await daemon.ended() == 0
    for name in [*contents][3:]:
        (source / name).write_bytes(contents[name])
    kept = folder / "kept"
    kept.mkdir()
    shutil.copy2(box.ledger, kept)
    for tree in (source, target):
        shutil.copytree(tree, kept / tree.name)

    box.sources["hall"]["cleanup"] = {"policy": "delete-when-safe", "keep_for": "0s"}
    met: Counter[str] = Counter()
    for _ in range(ROUNDS):
        met[await asyncio.to_thread(run, box)] += 1
        here = {path.read_bytes() for path in source.rglob("*") if path.is_file()}
        there = {path.read_bytes() for path in target.rglob("*.mp4")}
        assert set(contents.values()) <= here | there, "the only copy was removed"
        met["removed"] += len(set(contents.values()) - here)
        restore(box, kept, source, target)
        flip(box.ledger, chance)
    record("rounds", ROUNDS)
    for what, count in met.items():
        record(what, count)
    record("removed without a copy", 0)


def run(box: Box) -> str:
    """How a daemon on that ledger ends."""
    box.write()
    command = [*UPLOADERD, "run", "--until-safe", "--config", str(box.config)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return "killed, since it waited"
    if done.returncode == 0:
        return "ended well"
    said = done.stdout + done.stderr
    assert "an error that nothing expected" not in said, said
    return "said that the ledger is damaged" if "the ledger is damaged" in said else "said something else"


def restore(box: Box, kept: Path, source: Path, target: Path) -> None:
    for file in box.folder.glob("ledger.db*"):
        file.unlink()
    shutil.copy2(kept / "ledger.db", box.ledger)
    for folder in (source, target):
        shutil.rmtree(folder)
        shutil.copytree(kept / folder.name, folder)


def flip(path: Path, chance: random.Random) -> None:
    """Some bits anywhere but in the header, without which it is no database at all."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        for _ in range(chance.choice((1, 10, 200))):
            file.seek(at := chance.randrange(100, size))
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))
