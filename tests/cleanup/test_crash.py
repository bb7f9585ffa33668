"""kill -9 at every call to the kernel that a removal makes, then a new start.

Between the kill and the start the file is there, or what proves its copy is on record; after it nothing is
left half-done, and the removal is told once.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.cleanup.child import clean
from tests.contract.backends_directory import BACKENDS
from tests.contract.place import Place
from tests.kill.figures import Record
from tests.needs import tool
from tests.pool.conftest import LeapingClock, Rig, WatchedLedger
from uploaderd.ledger import chain, intake

HERE: Final = Path(__file__).parents[2]
MOVING: Final = ("renameat2", "unlinkat")
"""Calls that move the file; a kill before the next call is a kill after this one."""
LOOKING: Final = ("openat", "newfstatat", "fcntl")
"""Those that look at it, or at its folder, and take its lease; of others there are too many."""
WRITING: Final = ("fdatasync", "pwrite64")
"""Those of the ledger."""

EVERY: Final = bool(os.environ.get("TESTS_EVERY"))
TRIES: Final = 10
"""Strace counts the calls of each thread by itself, and two threads share a removal: one may make too few."""
SAMPLE: Final = 4
"""Of calls that SQLite makes by the hundred; all of them with `TESTS_EVERY`."""


@dataclass
class Scene:
    """A ledger that nobody holds, a source, and a target with copies."""

    place: Place
    ledger: Path
    source: Path
    target: Path

    async def make_safe(self, name: str) -> int:
        """A recording that was sent and proven."""
        clock = LeapingClock()
        ledger = WatchedLedger(self.ledger, clock)
        await ledger.open()
        source = await ledger.run(intake.register_source, "cams", os.fsencode(self.source))
        provider = await ledger.run(intake.register_provider, "tested", "directory", "target")
        rig = Rig(self.source, self.place, ledger, clock, source, provider, dict(self.place.settings))
        (self.source / name).parent.mkdir(parents=True, exist_ok=True)
        async with rig.working():
            recording = await rig.queue(name, name.encode() * 100)
            row = await rig.settled(recording)
        assert row.state == "safe"
        await ledger.close()
        return recording

    def remove_under_strace(
        self, calls: tuple[str, ...], inject: str = "", only: tuple[Path, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """A process that removes what is due; on its stderr each of the calls (on `only` these paths)."""
        wrong = ("-e", f"inject={inject}") if inject else ()
        # Without --seccomp-bpf: with it, strace 6.1 injects at the first call only.
        tracing = (tool("strace"), "-f", "-qq", "-e", "signal=none", "-e", f"trace={','.join(calls)}", *wrong)
        tracing += tuple(str(word) for path in only for word in ("-P", path))
        child = (sys.executable, "-m", "tests.cleanup.child", self.ledger, self.source, self.target)
        return subprocess.run(
            (*tracing, *child), capture_output=True, text=True, check=False, cwd=HERE, timeout=60
        )

    def left(self) -> list[Path]:
        return [path for path in self.source.rglob("*") if path.is_file()]

    def on_record(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Asked of a copy of the ledger, so that the looking mends nothing."""
        copy = self.ledger.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in self.ledger.parent.glob("ledger.db*"):
            shutil.copy2(file, copy / file.name)
        conn = sqlite3.connect(copy / self.ledger.name)
        try:
            assert chain.broken_at(conn, "events") is None
            return conn.execute(query, values).fetchall()
        finally:
            conn.close()

    def check_between(self, name: str, recording: int) -> str:
        """What holds whenever the process dies; where the file is."""
        assert (self.target / "cams" / name).read_bytes() == name.encode() * 100
        if files := self.left():
            (file,) = files
            assert file.read_bytes() == name.encode() * 100
            if file == self.source / name:
                return "in its place"
            query = "SELECT 1 FROM removals WHERE recording_id = ? AND aside = ?"
            assert self.on_record(query, recording, file.name.encode()), "nobody would look for it"
            return "aside"
        ((state, proof),) = self.on_record(
            "SELECT r.state, u.proof_kind FROM recordings r JOIN uploads u ON u.recording_id = r.id"
            " WHERE r.id = ?",
            recording,
        )
        assert state == "safe"
        assert proof
        intended = self.on_record(
            "SELECT 1 FROM events WHERE kind = 'removing' AND recording_id = ?", recording
        )
        assert intended
        return "gone"

    async def check_after_a_start(self, name: str, recording: int) -> None:
        await clean(self.ledger, self.source, self.target)
        assert self.left() == []
        assert self.on_record("SELECT * FROM removals") == []
        assert self.on_record("SELECT local FROM recordings WHERE id = ?", recording) == [("removed",)]
        kinds = [
            kind
            for (kind,) in self.on_record(
                "SELECT kind FROM events WHERE recording_id = ? ORDER BY id", recording
            )
        ]
        assert kinds.count("removed") == 1, kinds
        assert kinds[-1] == "removed", kinds
        assert (self.target / "cams" / name).read_bytes() == name.encode() * 100


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "state").mkdir()
    async with BACKENDS[0].arrange(None, tmp_path) as place:
        yield Scene(
            place, tmp_path / "state" / "ledger.db", tmp_path / "recordings", Path(place.settings["path"])
        )


def calls_of(stderr: str, call: str) -> int:
    """How often the thread that makes the most of them made the call: strace counts by thread."""
    threads: Counter[str] = Counter()
    for line in stderr.splitlines():
        thread, _, rest = line.partition("] ") if line.startswith("[pid") else ("", "", line)
        threads[thread] += rest.startswith(f"{call}(")
    return max(threads.values(), default=0)


@pytest.mark.parametrize("call", [*MOVING, *LOOKING, *WRITING])
@pytest.mark.timeout(600)
async def test_killed_at_every_call(scene: Scene, call: str, record: Record) -> None:
    folder = scene.source / "cam1"

    async def removal(point: int | str, inject: str = "") -> tuple[str, int, str, int]:
        name = f"cam1/{point}.mp4"
        recording = await scene.make_safe(name)
        only = (folder, scene.source / name) if call in LOOKING else ()
        ended = scene.remove_under_strace((call,), inject, only)
        return name, recording, ended.stderr, ended.returncode

    *_, told, status = await removal("first")
    assert status == 0, told
    count = calls_of(told, call)
    assert count, f"a removal makes no {call}"
    if count > 20:
        # SQLite's: commits that come together become one, so that a run may make some fewer.
        count = count * 4 // 5
    points = range(1, count + 1, 1 if EVERY else max(1, count // SAMPLE))
    where: Counter[str] = Counter()
    for point in points:
        for again in range(TRIES):
            name, recording, told, status = await removal(
                f"{point}-{again}", f"{call}:signal=KILL:when={point}"
            )
            if status == -signal.SIGKILL:
                break
        else:
            pytest.fail(f"not killed at {call} {point}: {told[-2000:]}")
        where[scene.check_between(name, recording)] += 1
        await scene.check_after_a_start(name, recording)
    record(f"{len(points)} kills at {call}", ", ".join(f"{count} {what}" for what, count in where.items()))


async def test_where_the_flag_is_unknown_hard_links_do(scene: Scene) -> None:
    """As on NFS."""
    name = "cam1/a.mp4"
    recording = await scene.make_safe(name)
    told = scene.remove_under_strace(("renameat2",), "renameat2:error=EINVAL")
    assert "(INJECTED)" in told.stderr
    assert told.returncode == 0
    await scene.check_after_a_start(name, recording)


async def test_where_neither_is_known_the_file_stays(scene: Scene) -> None:
    recording = await scene.make_safe("cam1/a.mp4")
    told = scene.remove_under_strace(("renameat2", "linkat"), "renameat2,linkat:error=EINVAL")
    assert told.returncode == 0
    assert [path.name for path in scene.left()] == ["a.mp4"]
    (detail,) = scene.on_record(
        "SELECT json_extract(detail, '$.why') FROM events WHERE kind = 'kept' AND recording_id = ?", recording
    )
    assert detail == ("file-system",)
