"""Nothing unfinished, nothing missed, nothing twice."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.needs import lacking
from tests.watch.conftest import QUIET, Site, until
from uploaderd import beneath, finished
from uploaderd.clock import SystemClock
from uploaderd.errors import LocalFault, SourceMissing
from uploaderd.finished import Verdict
from uploaderd.hints import Hints
from uploaderd.listener import PAUSES, Listener
from uploaderd.model import FoundBy, SourceState
from uploaderd.root import look_at_root
from uploaderd.watcher import ROOT_SECONDS


async def test_what_is_there_at_the_start_is_found_by_the_sweep(site: Site) -> None:
    await site.open()
    site.write("old/a.mp4", age=3600)
    site.write("b.mp4")
    async with site.watching():
        await until(lambda: len(site.queued()) == 2)
    assert site.queued() == {b"old/a.mp4": "sweep", b"b.mp4": "sweep"}
    assert site.rows("SELECT DISTINCT finished_by FROM recordings") == [("lease",)]


async def test_a_closed_file_is_found_by_its_event(site: Site) -> None:
    await site.open()
    async with site.watching() as watcher:
        site.write("a.mp4")
        await until(site.queued)
        await until(lambda: watcher.settled)
    assert site.queued() == {b"a.mp4": "event"}
    assert site.wakes == 1


async def test_a_file_that_is_written_to_is_left_alone(site: Site) -> None:
    """A recorder that pauses for longer than the quiet time with the file open, and writes on."""
    await site.open()
    async with site.watching() as watcher:
        with (site.root / "a.mp4").open("wb", buffering=0) as recorder:
            recorder.write(b"one")
            await until(lambda: watcher.state["lease"] is True, "a look at the file")
            # Looked at many times while it is open and quiet.
            seen = time.monotonic()
            await until(lambda: time.monotonic() > seen + 3 * QUIET)
            assert site.count() == 0
            recorder.write(b"two")
        closed = time.monotonic()
        await until(site.queued)
        assert time.monotonic() - closed >= QUIET
    assert site.rows("SELECT size, finished_by FROM recordings") == [(6, "lease")]


async def test_a_recorder_that_closes_and_opens_again_is_one_recording(site: Site) -> None:
    await site.open()
    async with site.watching():
        for round_ in range(6):
            with (site.root / "a.mp4").open("ab") as recorder:
                recorder.write(b"more")
            at = time.monotonic()
            await until(lambda at=at: time.monotonic() > at + QUIET / 2)  # type: ignore[misc]
            assert site.count() == 0, round_
        await until(site.queued)
    assert site.rows("SELECT size FROM recordings") == [(24,)]


async def test_a_killed_recorder_leaves_a_recording(site: Site) -> None:
    await site.open()
    program = (
        "import sys,time; f=open(sys.argv[1],'wb',0); f.write(b'half'); print(1,flush=True); time.sleep(60)"
    )
    async with site.watching() as watcher:
        with subprocess.Popen(
            [sys.executable, "-c", program, str(site.root / "a.mp4")], stdout=subprocess.PIPE
        ) as recorder:
            assert recorder.stdout is not None
            recorder.stdout.readline()
            await until(lambda: watcher.state["lease"] is True)
            assert site.count() == 0
            recorder.send_signal(signal.SIGKILL)
        await until(site.queued)
    assert site.rows("SELECT size FROM recordings") == [(4,)]


async def test_a_remux_within_the_quiet_time_leaves_one_recording(site: Site) -> None:
    await site.open()
    async with site.watching() as watcher:
        site.write("a.mp4", b"raw")
        site.write("a.mp4.tmp", b"remuxed")
        os.replace(site.root / "a.mp4.tmp", site.root / "a.mp4")
        await until(site.queued)
        await until(lambda: watcher.settled)
    assert site.rows("SELECT path, size FROM recordings") == [(b"a.mp4", 7)]


async def test_files_in_new_folders_are_found(site: Site) -> None:
    """watchfiles does not report what is written into a folder before it is watched."""
    await site.open()
    async with site.watching():
        for number in range(200):
            site.write(f"day{number // 20}/hour{number % 20}/a.mp4")
        await until(lambda: site.count() == 200)


async def test_folders_that_are_moved_in_whole_are_found(site: Site) -> None:
    await site.open()
    await_outside = site.tmp / "outside" / "deep"
    await_outside.mkdir(parents=True)
    for number in range(100):
        (await_outside / f"{number}.mp4").write_bytes(b"x")
    async with site.watching():
        os.rename(site.tmp / "outside", site.root / "inside")
        await until(lambda: site.count() == 100)
    assert b"inside/deep/7.mp4" in site.queued()


async def test_renamed_folders_take_their_recordings_along(site: Site) -> None:
    await site.open()
    site.write("before/a.mp4", age=60)
    site.write("before/b.mp4", age=60)
    async with site.watching():
        await until(lambda: site.count() == 2)
        os.rename(site.root / "before", site.root / "after")
        await until(lambda: b"after/a.mp4" in site.queued() and b"after/b.mp4" in site.queued())
    assert site.count() == 2


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.mp4", b"new\nline.mp4", b" .mp4", b"-a.mp4", b"x" * 251 + b".mp4"]
)
async def test_odd_names_are_found(site: Site, name: bytes) -> None:
    """A name that is not UTF-8 ends watchfiles; its neighbours are found all the same."""
    await site.open()
    async with site.watching():
        site.write(name)
        await until(lambda: name in site.queued())
        site.write("neighbour.mp4")
        await until(lambda: b"neighbour.mp4" in site.queued())
    assert site.count() == 2


class Ahead(SystemClock):
    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Hurried(SystemClock):
    """Keeps how long it was asked to sleep, and does not."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


async def test_a_recorder_of_names_that_are_not_utf_8_does_not_cost_its_neighbours_their_events(
    site: Site,
) -> None:
    """Each event of such a name ends watchfiles: it is begun anew after a second, however often."""
    await site.open()
    clock = Hurried()
    root = look_at_root(bytes(site.root), None)

    async def heard(batch: Hints) -> None:
        raise AssertionError(batch)

    def doubt() -> None:
        if listener.listening:
            site.write(b"caf\xe9.mp4")

    listener = Listener("cameras", bytes(site.root), clock, lambda: root, heard, doubt)
    task = asyncio.create_task(listener.run())
    await until(lambda: task.done() or len(clock.slept) >= 4)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert max(clock.slept) < PAUSES[2]


async def test_a_disk_that_was_away_for_a_moment_is_listened_to_anew(site: Site) -> None:
    """Mounted again it has the numbers that it had; the watches of before hear nothing of it."""
    await site.open()
    root = look_at_root(bytes(site.root), None)
    doubts: list[bool] = []

    async def heard(_batch: Hints) -> None: ...

    def doubt() -> None:
        doubts.append(listener.listening)

    listener = Listener("cameras", bytes(site.root), SystemClock(), lambda: root, heard, doubt)
    task = asyncio.create_task(listener.run())
    await until(lambda: task.done() or listener.listening)
    root = replace(root)
    await until(lambda: task.done() or doubts == [True, False, True], "another watch")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_links_are_not_followed(site: Site) -> None:
    await site.open()
    outside = site.tmp / "outside"
    outside.mkdir()
    (outside / "secret.mp4").write_bytes(b"x")
    (site.root / "folder").symlink_to(outside)
    (site.root / "link.mp4").symlink_to(outside / "secret.mp4")
    async with site.watching() as watcher:
        (site.root / "later").symlink_to(outside)
        (outside / "new.mp4").write_bytes(b"x")
        (outside / "below").mkdir()
        (outside / "below" / "new.mp4").write_bytes(b"x")
        site.write("a.mp4")
        await until(site.queued)
        await until(lambda: watcher.settled)
        await watcher.sweep()
        await until(lambda: watcher.settled)
    assert site.queued().keys() == {b"a.mp4"}


async def test_hard_links_are_one_recording_and_not_read_again(site: Site) -> None:
    await site.open()
    site.write("a.mp4", age=60)
    os.link(site.root / "a.mp4", site.root / "b.mp4")
    async with site.watching() as watcher:
        await watcher.sweep()
        await watcher.sweep()
        assert site.count() == 1
        os.unlink(site.root / next(iter(site.queued())).decode())
        await watcher.sweep()
    assert site.count() == 1
    assert os.path.lexists(site.root / next(iter(site.queued())).decode())


async def test_second_names_are_looked_at_once(site: Site) -> None:
    await site.open()
    site.write("a.mp4", age=60)
    os.link(site.root / "a.mp4", site.root / "b.mp4")
    watcher = site.watcher()
    await watcher.sweep()
    accessed = os.stat(site.root / "b.mp4").st_atime_ns
    looks = 0
    look = watcher._judge.look

    def counted(*args: Any, **kwargs: Any) -> Verdict:
        nonlocal looks
        looks += 1
        return look(*args, **kwargs)

    watcher._judge.look = counted  # type: ignore[method-assign]
    await watcher.sweep()
    assert (looks, os.stat(site.root / "b.mp4").st_atime_ns) == (0, accessed)


async def test_a_sweep_does_not_cut_the_quiet_time_after_a_close_short(site: Site) -> None:
    """Its mtime is old, but it was open for writing a moment ago."""
    await site.open({"cameras": {"quiet_for": "30s"}})
    site.write("a.mp4", age=3600)
    watcher = site.watcher()
    with (site.root / "a.mp4").open("r+b"):
        await watcher.sweep()
        assert watcher.state["candidates"] == 1
    await watcher.sweep()
    assert site.count() == 0
    # Another daemon has not seen the writer, and goes by what there is.
    await site.watcher().sweep()
    assert site.count() == 1


async def test_a_change_while_it_is_judged_is_not_lost(site: Site) -> None:
    await site.open()
    async with site.watching() as watcher:
        look = watcher._judge.look
        changed = False

        def meddled(*args: Any, **kwargs: Any) -> Verdict:
            nonlocal changed
            verdict = look(*args, **kwargs)
            if verdict.finished_by is not None and not changed:
                changed = True
                now = watcher._clock.monotonic()
                watcher._settling.candidates.changed(
                    verdict.identity, b"a.mp4", FoundBy.EVENT, now, 2 * QUIET
                )
            return verdict

        watcher._judge.look = meddled  # type: ignore[method-assign]
        began = time.monotonic()
        site.write("a.mp4")
        await until(site.queued)
        assert time.monotonic() - began >= 2 * QUIET


async def test_a_source_that_is_paused_in_mid_look_forgets_no_file(site: Site) -> None:
    await site.open()
    watcher = site.watcher()
    look = watcher._judge.look
    looking, go_on = threading.Event(), threading.Event()

    def held_up(*args: Any, **kwargs: Any) -> Verdict:
        if kwargs.get("written") and not go_on.is_set():
            looking.set()
            go_on.wait(20)
        return look(*args, **kwargs)

    watcher._judge.look = held_up  # type: ignore[method-assign]
    with (site.root / "a.mp4").open("wb", buffering=0) as recorder:
        recorder.write(b"one")
        paused = asyncio.create_task(watcher.run())
        assert await asyncio.to_thread(looking.wait, 20)
        paused.cancel()
        await asyncio.gather(paused, return_exceptions=True)
        go_on.set()
    resumed = asyncio.create_task(watcher.run())
    await until(lambda: resumed.done() or site.queued(), "the file")
    resumed.cancel()
    await asyncio.gather(resumed, return_exceptions=True)
    assert site.queued().keys() == {b"a.mp4"}


async def test_a_sweep_that_finds_nothing_new_leaves_the_disk_alone(site: Site) -> None:
    await site.open()
    site.write("a.mp4", age=3_600)
    site.clock = clock = Ahead()
    watcher = site.watcher()
    await watcher.sweep()
    log = Path(f"{site.ledger.path}-wal")
    written, first = log.read_bytes(), watcher.state["last_sweep"]
    await watcher.sweep()
    assert log.read_bytes() == written
    assert watcher.state["last_sweep"] != first
    clock.ahead = 3_601
    await watcher.sweep()
    assert log.read_bytes() != written


async def test_who_watches_no_more_leaves_the_time_of_the_last_sweep(site: Site) -> None:
    await site.open()
    async with site.watching() as watcher:
        last = await watcher.sweep()
    assert site.rows("SELECT last_sweep_at FROM sources") == [(last.at,)]


async def test_only_what_the_patterns_take(site: Site) -> None:
    await site.open({"cameras": {"include": ["**/*.mp4"], "exclude": ["**/raw/**"]}})
    async with site.watching() as watcher:
        for name in ("a.mp4", "a.MP4", "a.txt", "raw/b.mp4", "x/raw/c.mp4", "x/d.mp4", ".uploaderd-q.mp4"):
            site.write(name)
        await until(lambda: site.count() == 2)
        await until(lambda: watcher.settled)
    assert site.queued().keys() == {b"a.mp4", b"x/d.mp4"}


async def test_the_first_source_that_takes_a_file_has_it(site: Site) -> None:
    await site.open({"debug": {"include": ["**/debug_*.mp4"]}, "bot": {"include": ["**/*.mp4"]}})
    site.write("debug_1.mp4", age=60)
    site.write("meeting.mp4", age=60)
    async with site.watching("bot"), site.watching("debug"):
        await until(lambda: site.count() == 2)
    owners = site.rows("SELECT s.name, r.path FROM recordings r JOIN sources s ON s.id = r.source_id")
    assert set(owners) == {("debug", b"debug_1.mp4"), ("bot", b"meeting.mp4")}


async def test_a_root_that_is_made_anew_is_heard_again(site: Site) -> None:
    await site.open()
    site.write("a.mp4", age=60)
    async with site.watching() as watcher:
        await until(lambda: site.count() == 1)
        shutil.rmtree(site.root)
        await until(lambda: watcher.state["missing"], "missing")
        assert site.rows("SELECT state FROM sources") == [(SourceState.MISSING,)]
        with pytest.raises(SourceMissing):
            await watcher.sweep()
        site.root.mkdir()
        site.write("b.mp4")
        await until(lambda: b"b.mp4" in site.queued())
        await until(lambda: watcher.settled and watcher.state["listening"])
        site.write("c.mp4")
        await until(lambda: site.queued().get(b"c.mp4") == "event")
    assert site.rows("SELECT path, state, local FROM recordings WHERE path = x'612e6d7034'") == [
        (b"a.mp4", "waiting", "present")
    ]
    assert site.rows("SELECT kind FROM events WHERE kind LIKE 'source-%'") == [
        ("source-missing",),
        ("source-ok",),
    ]


async def test_a_disk_that_is_unplugged_and_comes_back(site: Site) -> None:
    """What is left is an empty folder: nothing of it counts as deleted, and nothing is sent again."""
    await site.open()
    disk = site.tmp / "disk.img"
    disk.write_bytes(b"")
    os.truncate(disk, 16 << 20)
    if not await said("mkfs.ext4", "-q", disk) or not await said("mount", "-o", "loop", disk, site.root):
        lacking("no disk image can be made and mounted here")
    try:
        site.write("a.mp4", age=60)
        async with site.watching() as watcher:
            await until(lambda: site.count() == 1)
            assert await said("umount", "-l", site.root)
            await until(lambda: watcher.state["missing"], "missing")
            with pytest.raises(SourceMissing):
                await watcher.sweep()
            assert site.rows("SELECT state, local FROM recordings") == [("waiting", "present")]
            assert await said("mount", "-o", "loop", disk, site.root)
            await until(lambda: not watcher.state["missing"], "the disk")
            site.write("b.mp4")
            await until(lambda: b"b.mp4" in site.queued())
        assert site.count() == 2
    finally:
        await said("umount", "-l", site.root)


async def said(*command: str | Path) -> bool:
    """Whether the command succeeded."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return await process.wait() == 0


async def test_a_root_that_comes_later(site: Site) -> None:
    await site.open()
    site.root.rmdir()
    watcher = site.watcher()
    task = asyncio.create_task(watcher.run())
    await until(lambda: watcher.state["missing"], "missing")
    site.write("a.mp4")
    await until(site.queued)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_missing_root_costs_next_to_nothing(site: Site) -> None:
    await site.open()
    site.root.rmdir()
    clock = site.clock = Hurried()
    watcher = site.watcher()
    task = asyncio.create_task(watcher.run())
    await until(lambda: task.done() or len(clock.slept) > 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert min(clock.slept[3:]) >= ROOT_SECONDS


async def test_a_file_that_cannot_be_read_is_held_until_it_can(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector, say: modes do not bind root, under whom this may run (tests/end_to_end has these)."""
    broken = set[bytes]()

    def open_beneath(root: bytes, path: bytes) -> int:
        if path in broken:
            raise LocalFault("reading it failed: Input/output error", code="EIO")
        return beneath.open_beneath(root, path)

    monkeypatch.setattr(finished, "open_beneath", open_beneath)
    await site.open({"cameras": {"sweep_every": "1s"}})
    site.write("a.mp4", age=60)
    site.write("b.mp4", age=60)
    broken.add(b"a.mp4")
    async with site.watching() as watcher:
        await until(lambda: site.count() == 2)
        states = "SELECT path, state FROM recordings ORDER BY path"
        assert site.rows(states) == [(b"a.mp4", "held"), (b"b.mp4", "waiting")]
        await watcher.sweep()
        broken.clear()
        await until(lambda: site.rows(states) == [(b"a.mp4", "waiting"), (b"b.mp4", "waiting")])
        assert site.rows("SELECT length(fingerprint) FROM recordings") == [(16,), (16,)]


async def test_a_changed_file_is_looked_at_when_asked(site: Site) -> None:
    await site.open({"cameras": {"polling": True, "sweep_every": "1h"}})
    site.write("a.mp4", age=60)
    watcher = site.watcher()
    await watcher.sweep()
    task = asyncio.create_task(watcher.run())
    await until(lambda: watcher.settled)
    site.write("a.mp4", b"another content", age=30)
    watcher.look_at(b"a.mp4")
    await until(lambda: site.count() == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert site.rows("SELECT state FROM recordings ORDER BY id") == [("superseded",), ("waiting",)]


async def test_a_sweep_finds_what_was_renamed_before_its_quiet_time_is_over(site: Site) -> None:
    """Whoever finds the file gone asks for a sweep, and must not call it lost after that."""
    await site.open({"cameras": {"quiet_for": "30s"}})
    site.write("a.mp4", age=60)
    async with site.watching() as watcher:
        os.rename(site.root / "a.mp4", site.root / "b.mp4")
        await until(lambda: watcher.state["candidates"] == 1)
        await watcher.sweep()
        assert site.queued().keys() == {b"b.mp4"}


async def test_many_at_once(site: Site) -> None:
    await site.open()
    async with site.watching() as watcher:
        for number in range(3_000):
            site.write(f"{number % 7}/{number}.mp4", b"%d" % number)
        await until(lambda: site.count() == 3_000)
        await until(lambda: watcher.settled)
    assert site.count() == 3_000


async def test_a_stop_in_mid_sweep_ends_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping waits for the thread that walks, which ends at the next entry; it is no failure."""
    await site.open()
    for number in range(20):
        site.write(f"{number}.mp4", age=3600)
    walking, go_on = threading.Event(), threading.Event()
    looked: list[str] = []

    def takes(path: bytes) -> bool:
        looked.append(os.fsdecode(path))
        walking.set()
        go_on.wait(20)
        return True

    watcher = site.watcher()
    monkeypatch.setattr(watcher._sweep, "_takes", takes)
    sweeping = asyncio.create_task(watcher.sweep())
    await asyncio.to_thread(walking.wait, 20)
    sweeping.cancel()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await sweeping
    assert len(looked) == 1
