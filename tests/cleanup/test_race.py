"""A recorder that opens, appends, replaces, renames, links or cuts a file in the instant of its removal.

Whatever it wrote must be in some file afterwards; what was sent may be gone, that is what removal is for.
`TESTS_RACES` says how many tries there are of each way to act.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cleanup.conftest import Yard
from tests.cleanup.recorder import ACTIONS
from tests.kill.figures import Record
from uploaderd.beneath import identity_of
from uploaderd.errors import FileVanished
from uploaderd.quarantine import Doubt, Leaving, name_aside

TRIES = int(os.environ.get("TESTS_RACES", "200"))
CONTENT = b"what was sent " * 10


class Recorder:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def act(self, action: str, wait: int, path: Path) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{action} {wait} {path}\n")
        self._process.stdin.flush()

    def wrote(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n").encode()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    command = [sys.executable, "-m", "tests.cleanup.recorder"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        yield Recorder(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)


def leave(root: Path, path: str, sent: os.stat_result, chance: random.Random) -> str:
    """What a removal does to the file, with a question in the middle that takes a while."""
    leaving = Leaving(os.fsencode(root), os.fsencode(path))
    try:
        leaving.open()
        if not leaving.identity.same_stat(identity_of(sent)) or leaving.changed_ns != sent.st_ctime_ns:
            return "another file"
        leaving.put_aside(name_aside(b"a.mp4"), without_lease=False)
        until = time.perf_counter() + chance.choice((0, 50, 200)) / 1e6
        while time.perf_counter() < until:
            pass
        leaving.remove(without_lease=False)
    except FileVanished:
        return "vanished"
    except Doubt as doubt:
        if leaving.is_aside:
            leaving.put_back()
            return f"{doubt.why}, put back"
        return doubt.why
    finally:
        leaving.close()
    return "removed"


@pytest.mark.parametrize("action", list(ACTIONS))
def test_nothing_that_a_recorder_wrote_is_ever_removed(
    action: str, recorder: Recorder, tmp_path: Path, record: Record
) -> None:
    chance = random.Random(action)
    ends: Counter[str] = Counter()
    for _ in range(TRIES):
        root = tmp_path / "source"
        folder = root / "cam1"
        folder.mkdir(parents=True)
        path = folder / "a.mp4"
        path.write_bytes(CONTENT)
        sent = path.stat()
        recorder.act(action, chance.randrange(250), path)
        until = time.perf_counter() + chance.randrange(200) / 1e6
        while time.perf_counter() < until:
            pass
        end = leave(root, "cam1/a.mp4", sent, chance)
        word = recorder.wrote()
        left = [file.read_bytes() for file in root.rglob("*") if file.is_file()]
        assert not word or any(word in content for content in left), f"{word!r} is lost; it was {end}"
        names = [file.name for file in root.rglob("*") if file.is_file()]
        assert not any(name.startswith(".uploaderd") for name in names), names
        if end != "removed" and action != "start_anew":
            assert word or left, "neither removed nor there"
        ends[end] += 1
        shutil.rmtree(root)
    record(f"{TRIES} tries", ", ".join(f"{end} {count}" for end, count in ends.most_common()))
    assert ends["removed"] or action == "change_secretly", ends
    assert len(ends) > 1, f"there never was a race: {ends}"


@pytest.mark.at("directory")
async def test_a_recorder_that_goes_on_while_the_cleaner_runs(yard: Yard, recorder: Recorder) -> None:
    """The whole of it: from the ledger, past the provider, to the file."""
    chance = random.Random(8)
    ends: Counter[str] = Counter()
    async with yard.cleaning(keep_for="0s") as cleaner:
        for number in range(max(10, TRIES // 2)):
            action = chance.choice([name for name in ACTIONS if name != "move_the_folder"])
            recording = await yard.safe(f"{number}/a.mp4", CONTENT)
            path = yard.rig.folder / str(number) / "a.mp4"
            recorder.act(action, chance.randrange(6_000), path)
            cleaner.wake()
            word = await asyncio.to_thread(recorder.wrote)
            ended = [
                asyncio.ensure_future(yard.event(kind, recording)) for kind in ("removed", "kept", "unlinked")
            ]
            done, pending = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
            for wait in pending:
                wait.cancel()
            ends[f"{done.pop().result()['kind']}"] += 1
            left = [file.read_bytes() for file in path.parent.rglob("*") if file.is_file()]
            assert not word or any(word in content for content in left), (
                action,
                word,
                await yard.kinds(recording),
            )
    assert ends["removed"], ends
    assert ends["kept"], ends
