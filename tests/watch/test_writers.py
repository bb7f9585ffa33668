"""Recorders as they are: each file is queued once, with its final content, and never while it is written."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.needs import lacking
from tests.recorder import ffmpeg_binary
from tests.watch.conftest import QUIET, Site, until
from uploaderd import containers

Record = Callable[[str, object], None]

RECORDING = (
    *("-hide_banner", "-nostats", "-loglevel", "error", "-y"),
    *("-re", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=15"),
    *("-re", "-f", "lavfi", "-i", "sine=sample_rate=48000"),
    *("-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-pix_fmt", "yuv420p", "-c:a", "aac"),
)


@contextmanager
def program(text: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A writer in a process of its own, that says a line when it is ready; then one line is one cue."""
    process = subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def cue(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


async def stays_away(site: Site, seconds: float) -> None:
    """For so long nothing is queued. Only time can tell."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        assert site.count() == 0
        await asyncio.sleep(0.02)


def sizes(root: Path, pattern: str = "*") -> dict[bytes, int]:
    return {
        os.fsencode(path.relative_to(root)): path.stat().st_size
        for path in root.rglob(pattern)
        if path.is_file()
    }


async def test_ffmpeg_with_a_segment_each_second(site: Site, record_property: Record) -> None:
    await site.open({"cameras": {"container_check": "require"}})
    command = [ffmpeg_binary(), *RECORDING, "-t", "6", "-force_key_frames", "expr:gte(t,n_forced)"]
    command += ["-f", "segment", "-segment_time", "1", "-segment_format", "mpegts"]
    async with site.watching() as watcher:
        recorder = await asyncio.create_subprocess_exec(*command, str(site.root / "%03d.ts"))
        assert await recorder.wait() == 0
        await until(lambda: watcher.settled and site.count() >= 6)
    made = sizes(site.root)
    assert len(made) >= 6
    site.figures(record_property, made)
    assert set(site.queued().values()) == {"event"}


async def test_ffmpeg_that_dies_half_way(site: Site, record_property: Record) -> None:
    """What it leaves is all there will be; its container tells that it is not whole."""
    await site.open({"cameras": {"container_check": "warn"}})
    command = [ffmpeg_binary(), *RECORDING, str(site.root / "a.mp4")]
    async with site.watching() as watcher:
        recorder = await asyncio.create_subprocess_exec(*command)
        path = site.root / "a.mp4"
        await until(lambda: path.exists() and path.stat().st_size > 0, "the recorder")
        await stays_away(site, 3 * QUIET)
        recorder.kill()
        await recorder.wait()
        await until(lambda: watcher.settled and site.count() == 1)
    site.figures(record_property, sizes(site.root))
    ((doubt,),) = site.rows("SELECT doubt FROM recordings")
    assert "moov" in doubt


async def test_ffmpeg_that_moves_its_index_to_the_front(site: Site, record_property: Record) -> None:
    """It writes all, then all anew (`faststart`), with the file open."""
    await site.open({"cameras": {"container_check": "require"}})
    command = [ffmpeg_binary(), *RECORDING, "-t", "2", "-movflags", "faststart", str(site.root / "a.mp4")]
    async with site.watching() as watcher:
        recorder = await asyncio.create_subprocess_exec(*command)
        assert await recorder.wait() == 0
        await until(lambda: watcher.settled and site.count() == 1)
    site.figures(record_property, sizes(site.root))


PAUSES = """
import sys
with open(sys.argv[1], "wb", 0) as file:
    file.write(b"one")
    print("ready", flush=True)
    input()
    file.write(b"two")
"""

PREALLOCATES = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.posix_fallocate(fd, 0, 1 << 20)
os.write(fd, b"one")
print("ready", flush=True)
input()
os.write(fd, b"two")
os.ftruncate(fd, 6)
"""

MAPS = """
import mmap, os, sys
with open(sys.argv[1], "w+b") as file:
    file.truncate(6)
    view = mmap.mmap(file.fileno(), 0)
view[:3] = b"one"
print("ready", flush=True)
input()
view[3:] = b"two"
"""


@pytest.mark.parametrize("writer", [PAUSES, PREALLOCATES, MAPS], ids=["pauses", "preallocates", "maps"])
async def test_quiet_for_long_but_not_closed(site: Site, record_property: Record, writer: str) -> None:
    await site.open()
    async with site.watching() as watcher:
        with program(writer, site.root / "a.mp4") as process:
            await stays_away(site, 4 * QUIET)
            await watcher.sweep()
            assert site.count() == 0
            cue(process)
            process.wait()
        await until(lambda: watcher.settled and site.count() == 1)
    assert (site.root / "a.mp4").read_bytes() == b"onetwo"
    site.figures(record_property, {b"a.mp4": 6})
    assert site.rows("SELECT finished_by FROM recordings") == [("lease",)]


async def test_a_thousand_new_folders_each_with_a_file(site: Site, record_property: Record) -> None:
    await site.open()
    async with site.watching() as watcher:
        for number in range(1_000):
            site.write(f"{number % 10}/{number}/a.mp4", b"%d" % number)
        await until(lambda: site.count() == 1_000)
        await until(lambda: watcher.settled)
    site.figures(record_property, sizes(site.root))


# --- another user -----------------------------------------------------------------------------------

LOOKS = """
import json, os, sys
from uploaderd.clock import SystemClock
from uploaderd.config import Source
from uploaderd.finished import Judge
root = os.fsencode(sys.argv[1])
judge = Judge(root, Source.model_validate({"path": sys.argv[1]}), SystemClock())
def told():
    verdict = judge.look(b"a.mp4")
    return [verdict.finished_by, verdict.obstacle, judge.lease]
print("ready", flush=True)
while input() != "end":
    print(json.dumps(told()), flush=True)
"""

NOBODY = "65534"


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A folder that every user may look into."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o055 != 0o055:
            folder.chmod(folder.stat().st_mode | 0o055)
    return tmp_path


@pytest.mark.parametrize("capable", [True, False], ids=["with CAP_LEASE", "without"])
def test_a_daemon_of_another_user(reachable: Path, record_property: Record, capable: bool) -> None:
    """With the capability it knows of writers; without it, quiet time is all it has: a minute of it."""
    recording = reachable / "a.mp4"
    recording.write_bytes(b"content")
    aged(recording, 30)
    caps = ["--inh-caps=+lease", "--ambient-caps=+lease"] if capable else ["--inh-caps=-all"]
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *caps]
    command += [sys.executable, "-c", LOOKS, str(reachable)]
    looker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert looker.stdin is not None
    assert looker.stdout is not None

    def look() -> list[object]:
        assert looker.stdin is not None
        assert looker.stdout is not None
        looker.stdin.write("\n")
        looker.stdin.flush()
        told: list[object] = json.loads(looker.stdout.readline())
        return told

    try:
        ready = looker.stdout.readline()
        if ready != "ready\n":
            lacking(f"cannot become {NOBODY} here: {looker.communicate()[1]}")
        with recording.open("r+b"):
            written = look()
        aged(recording, 30)
        closed = look()
        aged(recording, 61)
        later = look()
    finally:
        looker.kill()
        looker.communicate()
    if capable:
        assert (written, closed) == ([None, "writer", True], ["lease", "", True])
        assert later == ["lease", "", True]
    else:
        assert (written, closed) == ([None, "quiet", False], [None, "quiet", False])
        assert later == ["quiet", "", False]
    sent = later[0] is not None
    for name, count in {"in": 1, "sent": sent, "missed": not sent, "early": written[0] is not None}.items():
        record_property(name, int(count))


def aged(path: Path, seconds: float) -> None:
    at = time.time_ns() - int(seconds * 1e9)
    os.utime(path, ns=(at, at))


# --- who tells that it is finished ------------------------------------------------------------------


async def test_markers_as_they_come_and_go(site: Site, record_property: Record) -> None:
    await site.open({"cameras": {"finished": "marker"}})
    async with site.watching() as watcher:
        for name in ("done.mp4", "lock.mp4", "quick.mp4", "none.mp4"):
            if name != "done.mp4":
                site.write(f"{name}.lock")
            site.write(name, name.encode())
        (site.root / "quick.mp4.lock").unlink()
        await until(lambda: b"quick.mp4" in site.queued())
        await asyncio.sleep(3 * QUIET)
        assert site.queued().keys() == {b"quick.mp4"}
        site.write("done.mp4.done")
        (site.root / "lock.mp4.lock").unlink()
        await until(lambda: site.count() == 3)
        await watcher.sweep()
    assert set(site.rows("SELECT finished_by, found_by FROM recordings")) == {("marker", "event")}
    site.figures(record_property, {name: len(name) for name in (b"done.mp4", b"lock.mp4", b"quick.mp4")})


async def test_markers_are_found_by_the_sweep_as_well(site: Site) -> None:
    await site.open({"cameras": {"finished": "marker"}})
    site.write("a.mp4")
    site.write("a.mp4.done")
    site.write("b.mp4")
    site.write("c.mp4", age=7200)
    watcher = site.watcher()
    await watcher.sweep()
    found = site.rows("SELECT path, finished_by FROM recordings ORDER BY path")
    assert found == [(b"a.mp4", "marker"), (b"c.mp4", "lease")]


async def test_files_that_arrive_by_a_rename(site: Site, record_property: Record) -> None:
    await site.open({"cameras": {"finished": "rename", "quiet_for": "1h"}})
    async with site.watching():
        site.write("a.mp4.tmp", b"whole", age=1)
        os.rename(site.root / "a.mp4.tmp", site.root / "a.mp4")
        await until(site.queued)
    assert site.rows("SELECT finished_by FROM recordings") == [("rename",)]
    site.figures(record_property, {b"a.mp4": 5})


async def test_who_vouches_does_not_wait(site: Site, record_property: Record) -> None:
    await site.open({"cameras": {"quiet_for": "1h"}})
    async with site.watching() as watcher:
        for name in ("day/a.mp4", "day/b.mp4", "c.mp4"):
            site.write(name)
        told = await watcher.ensure([b"day", b"c.mp4"])
        assert (told.rows, set(told.others)) == ({}, {b"day/a.mp4", b"day/b.mp4", b"c.mp4"})
        with (site.root / "day" / "b.mp4").open("r+b"):
            told = await watcher.ensure([b"day", b"none.mp4"], vouched=True)
            assert told.others == {
                b"day/b.mp4": "it is open for writing",
                b"none.mp4": "No such file or directory",
            }
            assert told.rows == {b"day/a.mp4": 1}
            assert site.queued() == {b"day/a.mp4": "ensure"}
        # Vouched for: once the writer is gone, nothing is waited for.
        await until(lambda: site.count() == 2)
        assert (await watcher.ensure([b"day"])).rows == {b"day/a.mp4": 1, b"day/b.mp4": 2}
    assert site.rows("SELECT DISTINCT finished_by FROM recordings") == [("vouched",)]
    site.figures(record_property, {b"day/a.mp4": 7, b"day/b.mp4": 7})


async def test_what_is_asked_for_and_is_none_of_ours(site: Site) -> None:
    await site.open({"cameras": {"include": ["**/*.mp4"]}})
    site.write("a.txt", age=60)
    site.write("a.mp4", age=60)
    os.link(site.root / "a.mp4", site.root / "b.mp4")
    (site.root / "c.mp4").symlink_to("a.mp4")
    watcher = site.watcher()
    await watcher.sweep()
    told = await watcher.ensure([b"a.txt", b"a.mp4", b"b.mp4", b"c.mp4", b"c.mp4/x", b""])
    assert told.rows == {b"a.mp4": 1, b"b.mp4": 1}
    assert set(told.others) == {b"a.txt", b"c.mp4", b"c.mp4/x"}


# --- containers -------------------------------------------------------------------------------------


async def test_a_truncated_recording_waits_for_the_rest(site: Site) -> None:
    await site.open({"cameras": {"container_check": "require"}})
    whole = b"\x47" * 188 * 3
    site.write("a.ts", whole[:-1], age=60)
    async with site.watching() as watcher:
        await watcher.sweep()
        assert site.rows("SELECT state FROM recordings") == [("held",)]
        site.write("a.ts", whole)
        assert containers.flaw(lambda at, size: whole[at : at + size], len(whole), b"a.ts") is None
        await until(lambda: site.count() == 2)
    assert site.rows("SELECT state FROM recordings") == [("superseded",), ("waiting",)]


async def test_before_the_end_held_ones_go_out(site: Site) -> None:
    await site.open({"cameras": {"container_check": "require"}})
    site.write("a.ts", b"\x47" * 100, age=60)
    watcher = site.watcher()
    await watcher.sweep()
    await watcher.sweep()
    assert site.rows("SELECT state FROM recordings") == [("held",)]
    site.intake.lenient = True
    await watcher.sweep()
    assert site.rows("SELECT state FROM recordings") == [("waiting",)]
