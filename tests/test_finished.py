"""Is it finished? Real files, real leases, real writers in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clocks import FakeClock
from uploaderd.config import Source
from uploaderd.errors import FileFault, FileVanished, SourceMissing
from uploaderd.finished import IN_PLACE, LOOK_AGAIN, Judge, writer_has
from uploaderd.markers import ABANDONED, REMEMBERED, Markers, Word, marked_by
from uploaderd.model import FinishedBy

MINUTE = 60.0


@contextmanager
def writer(path: Path, program: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `program` with `path` and, each time, a line on stdin as its cue."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
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
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


HOLDS = """
import sys
file = open(sys.argv[1], "r+b", 0)
print("ready", flush=True)
input(); file.close(); print("done", flush=True); input()
"""

MAPS = """
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    view = mmap.mmap(file.fileno(), 0)
print("ready", flush=True)
input(); view.close(); print("done", flush=True); input()
"""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def recording(tmp_path: Path, clock: FakeClock) -> Path:
    """A file that was last changed an hour ago."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"content")
    aged(path, clock, 3600)
    return path


def aged(path: Path, clock: FakeClock, seconds: float) -> None:
    at = clock.wall * 1_000_000 - int(seconds * 1e9)
    os.utime(path, ns=(at, at))


def judge(path: Path, clock: FakeClock, **settings: object) -> Judge:
    return Judge(os.fsencode(path.parent), Source.model_validate({"path": path.parent, **settings}), clock)


@pytest.mark.parametrize("program", [HOLDS, MAPS], ids=["open", "mapped"])
def test_a_writer_is_seen_until_it_closes(recording: Path, clock: FakeClock, program: str) -> None:
    looks = judge(recording, clock)
    with writer(recording, program) as process:
        busy = looks.look(b"a.mp4")
        assert (busy.finished_by, busy.obstacle, busy.wait) == (None, "writer", LOOK_AGAIN)
        cue(process)
        aged(recording, clock, 3600)
        done = looks.look(b"a.mp4")
    assert done.finished_by is FinishedBy.LEASE
    assert len(done.identity.fingerprint) == 16
    assert looks.lease is True


def test_closing_is_a_change_as_well(recording: Path, clock: FakeClock) -> None:
    """A recorder that closes may still want to replace its file: the quiet time begins anew."""
    looks = judge(recording, clock)
    now = clock.monotonic()
    with recording.open("r+b"):
        assert looks.look(b"a.mp4", None, now - MINUTE, written=True).obstacle == "writer"
    aged(recording, clock, 3600)
    closed = looks.look(b"a.mp4", None, now - MINUTE, written=True)
    assert (closed.finished_by, closed.obstacle, closed.wait) == (None, "closed", 2.0)
    assert looks.look(b"a.mp4", closed.identity, now - 2).finished_by is FinishedBy.LEASE


def test_a_writer_that_dies_counts_as_closed(recording: Path, clock: FakeClock) -> None:
    looks = judge(recording, clock)
    with writer(recording, HOLDS) as process:
        assert looks.look(b"a.mp4").obstacle == "writer"
        process.kill()
        process.wait()
        assert looks.look(b"a.mp4").finished_by is FinishedBy.LEASE


def test_the_lease_is_given_back_at_once(recording: Path) -> None:
    fd = os.open(recording, os.O_RDONLY)
    try:
        assert writer_has(fd) is False
        # O_NONBLOCK fails at once while a lease is held.
        os.close(os.open(recording, os.O_WRONLY | os.O_NONBLOCK))
        with recording.open("r+b"):
            assert writer_has(fd) is True
        assert writer_has(fd) is False
    finally:
        os.close(fd)


def test_a_broken_lease_does_not_end_the_process() -> None:
    program = """
import fcntl, os, sys
from uploaderd.finished import ignore_lease_signals
ignore_lease_signals()
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
try: os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)
except BlockingIOError: print("broken", flush=True)
"""
    command = [sys.executable, "-c", program, __file__]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "broken\n"), done.stderr


@pytest.mark.usefixtures("as_root")
def test_without_the_lease_quiet_time_is_all_there_is(recording: Path, clock: FakeClock) -> None:
    """Another owner, no CAP_LEASE: the daemon's user cannot know, and waits a minute."""
    recording.parent.chmod(0o755)
    for parent in recording.parents:
        parent.chmod(parent.stat().st_mode | 0o055)
    recording.chmod(0o644)
    aged(recording, clock, 30)
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(65534, 65534, 65534)
            looks = judge(recording, clock)
            early = looks.look(b"a.mp4")
            late = looks.look(b"a.mp4", early.identity, clock.monotonic() - 61)
            clock.advance(31)
            first_sight = looks.look(b"a.mp4")
            fine = (
                early.obstacle == "quiet"
                and 29 <= early.wait <= 31
                and late.obstacle == "quiet"  # its mtime says 30 s
                and first_sight.finished_by is FinishedBy.QUIET
                and looks.lease is False
            )
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_quiet_time_is_measured_from_the_last_change(recording: Path, clock: FakeClock) -> None:
    looks = judge(recording, clock, quiet_for="2s")
    aged(recording, clock, 0.5)
    first = looks.look(b"a.mp4")
    assert first.obstacle == "quiet"
    assert first.wait == pytest.approx(1.5, abs=0.01)
    clock.advance(1.6)
    assert looks.look(b"a.mp4").finished_by is FinishedBy.LEASE
    # Seen to change a second ago, whatever its mtime says (it was moved here, or its time was set).
    assert looks.look(b"a.mp4", first.identity, clock.monotonic() - 1).obstacle == "quiet"
    assert looks.look(b"a.mp4", first.identity, clock.monotonic() - 2).finished_by is FinishedBy.LEASE


def test_a_change_since_the_last_look_is_seen(recording: Path, clock: FakeClock) -> None:
    looks = judge(recording, clock)
    before = looks.look(b"a.mp4").identity
    recording.write_bytes(b"another content")
    aged(recording, clock, 3600)
    assert looks.look(b"a.mp4", before, clock.monotonic() - MINUTE).obstacle == "changed"


@pytest.mark.parametrize("years", [-55, 1], ids=["1970", "next year"])
def test_an_implausible_mtime_is_no_evidence(recording: Path, clock: FakeClock, years: int) -> None:
    """A machine without a battery clock: only what we watched ourselves counts."""
    aged(recording, clock, -years * 365.25 * 86400)
    looks = judge(recording, clock)
    first = looks.look(b"a.mp4")
    assert first.obstacle == "quiet"
    watched = looks.look(b"a.mp4", first.identity, clock.monotonic() - 2)
    assert watched.finished_by is FinishedBy.LEASE


def test_finished_quiet_asks_for_no_lease(recording: Path, clock: FakeClock) -> None:
    looks = judge(recording, clock, finished="quiet")
    with recording.open("r+b"):
        assert looks.look(b"a.mp4").finished_by is FinishedBy.QUIET
    assert looks.lease is None


@pytest.fixture
def today(clock: FakeClock) -> FakeClock:
    """A clock that agrees with the kernel's, which sets ctime."""
    clock.wall = time.time_ns() // 1_000_000
    return clock


def test_a_rename_needs_no_quiet_time_but_no_writer(recording: Path, today: FakeClock) -> None:
    looks = judge(recording, today, finished="rename")
    arriving = recording.with_name("arriving")
    recording.rename(arriving)
    aged(arriving, today, 0.5)
    arriving.rename(recording)
    with recording.open("r+b"):
        assert looks.look(b"a.mp4").obstacle == "writer"
    assert looks.look(b"a.mp4").finished_by is FinishedBy.RENAME
    # Closed a moment ago, but nobody goes back to what was renamed.
    assert looks.look(b"a.mp4", written=True).finished_by is FinishedBy.RENAME


def test_what_was_written_in_place_has_to_be_quiet_for_a_minute(recording: Path, today: FakeClock) -> None:
    looks = judge(recording, today, finished="rename")
    recording.write_bytes(b"in place")
    today.wall = time.time_ns() // 1_000_000
    first = looks.look(b"a.mp4")
    assert (first.obstacle, IN_PLACE - 2 < first.wait <= IN_PLACE) == ("quiet", True)
    today.advance(IN_PLACE + 0.1)
    assert looks.look(b"a.mp4").finished_by is FinishedBy.LEASE


def test_a_done_marker_counts_at_once(recording: Path, clock: FakeClock) -> None:
    looks = judge(recording, clock, finished="marker")
    aged(recording, clock, 10)
    waits = looks.look(b"a.mp4")
    assert waits.obstacle == "marker"
    assert waits.wait == pytest.approx(ABANDONED - 10, abs=1)
    done = recording.with_name("a.mp4.done")
    done.touch()
    aged(done, clock, 20)
    assert looks.look(b"a.mp4").obstacle == "marker", "it is older: of an earlier content"
    aged(done, clock, 11)
    with recording.open("r+b"):
        assert looks.look(b"a.mp4").obstacle == "writer"
    aged(recording, clock, 10)
    assert looks.look(b"a.mp4").finished_by is FinishedBy.MARKER


@pytest.mark.parametrize("ending", ["lock", "tmp"])
def test_a_lock_counts_when_it_vanishes(recording: Path, clock: FakeClock, ending: str) -> None:
    looks = judge(recording, clock, finished="marker")
    lock = recording.with_name(f"a.mp4.{ending}")
    lock.touch()
    recording.with_name("a.mp4.done").touch()
    aged(recording, clock, 2 * ABANDONED)
    assert looks.look(b"a.mp4").obstacle == "marker", "a lock outweighs everything"
    recording.with_name("a.mp4.done").unlink()
    lock.unlink()
    assert looks.look(b"a.mp4").finished_by is FinishedBy.MARKER
    # It counts once: the next content has markers of its own.
    looks.markers.forget(b"a.mp4")
    aged(recording, clock, 0)
    assert looks.look(b"a.mp4").obstacle == "marker"


def test_what_never_had_a_marker_is_not_left_behind_for_good(recording: Path, clock: FakeClock) -> None:
    """Its recorder died before it left one, or its lock came and went while nobody watched."""
    looks = judge(recording, clock, finished="marker")
    aged(recording, clock, ABANDONED - 1)
    assert looks.look(b"a.mp4").obstacle == "marker"
    aged(recording, clock, ABANDONED + 1)
    assert looks.look(b"a.mp4").finished_by is FinishedBy.LEASE
    long = "x" * 251 + ".mp4"
    recording.rename(recording.with_name(long))
    assert looks.look(long.encode()).finished_by is FinishedBy.LEASE


def test_markers_are_bounded(tmp_path: Path) -> None:
    markers = Markers(os.fsencode(tmp_path))
    for number in range(REMEMBERED + 1):
        markers.was_busy(b"%d" % number)
    assert markers.word(b"0", 0) is Word.NOTHING
    assert markers.word(b"1", 0) is Word.DONE


@pytest.mark.parametrize(
    ("marker", "of"),
    [
        (b"a.mp4.done", b"a.mp4"),
        (b"x/a.mp4.lock", b"x/a.mp4"),
        (b"a.tmp", b"a"),
        (b"a.mp4", None),
        (b".done", None),
        (b"x/.lock", None),
    ],
)
def test_marked_by(marker: bytes, of: bytes | None) -> None:
    assert marked_by(marker) == of


@pytest.mark.parametrize("how", ["auto", "quiet", "marker", "rename"])
def test_who_vouches_need_not_wait(recording: Path, clock: FakeClock, how: str) -> None:
    looks = judge(recording, clock, finished=how, quiet_for="1h")
    aged(recording, clock, 0)
    assert looks.look(b"a.mp4").finished_by is None
    if how != "quiet":
        with recording.open("r+b"):
            assert looks.look(b"a.mp4", vouched=True).obstacle == "writer"
        aged(recording, clock, 0)
    assert looks.look(b"a.mp4", vouched=True).finished_by is FinishedBy.VOUCHED
    assert looks.look(b"a.mp4", written=True, vouched=True).finished_by is FinishedBy.VOUCHED


def test_a_container_is_looked_at_where_that_is_wanted(recording: Path, clock: FakeClock) -> None:
    assert judge(recording, clock).look(b"a.mp4").flaw is None
    for how in ("warn", "require"):
        assert "box" in str(judge(recording, clock, container_check=how).look(b"a.mp4").flaw)
    recording.write_bytes(b"")
    aged(recording, clock, 10)
    assert judge(recording, clock, container_check="require").look(b"a.mp4").flaw is None


def test_what_cannot_be_looked_at(recording: Path, clock: FakeClock, tmp_path: Path) -> None:
    looks = judge(recording, clock)
    (tmp_path / "link.mp4").symlink_to(recording)
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (b"link.mp4", b"pipe.mp4", b"none.mp4", b"a.mp4/b.mp4"):
        with pytest.raises(FileVanished):
            looks.look(path)
    with pytest.raises(FileFault):
        looks.look(b"../a.mp4")
    gone = judge(tmp_path / "gone" / "a.mp4", clock)
    with pytest.raises(SourceMissing):
        gone.look(b"a.mp4")
