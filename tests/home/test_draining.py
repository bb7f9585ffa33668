"""`on_stop = "drain"`: everything is brought to safety before the end, or what is not is named."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from tests.end_to_end.box import ROOT, Box
from uploaderd.draining import LONGEST, Left, last_words

MP4 = b"\0\0\0\x10ftypisom\0\0\0\0" + b"\x7f\0\0\0mdat"
"""How one begins: the box of the media would have 2 GB."""
WRITER = (
    f"import sys; f = open(sys.argv[1], 'wb', 0); f.write({MP4!r} + b'v' * 70_000); print(); sys.stdin.read()"
)


@pytest.fixture(autouse=True)
def drains(box: Box) -> None:
    box.daemon |= {"on_stop": "drain", "drain_timeout": "40s"}


@pytest.fixture
def hall(box: Box) -> Path:
    return Path(box.sources["hall"]["path"])


@contextmanager
def recorder(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has written to the file and keeps it open until its standard input is closed."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


async def test_what_came_a_moment_ago_goes_out_first(box: Box, hall: Path) -> None:
    box.sources["hall"]["quiet_for"] = "2s"
    with box.run() as daemon:
        await daemon.says("provider opened")
        for number in range(20):
            (hall / f"{number}.mp4").write_bytes(bytes([number]) * 50_000)
        daemon.terminate()
        assert await daemon.ended() == 0
        assert daemon.said("everything is safe")
    assert [row.state for row in box.recordings().values()] == ["safe"] * 20


@pytest.mark.parametrize("end", ["closes", "is killed"])
async def test_a_file_that_is_still_written_is_waited_for(box: Box, hall: Path, end: str) -> None:
    with recorder(hall / "meeting.mp4") as writing, box.run() as daemon:
        await daemon.says("provider opened")
        daemon.terminate()
        await daemon.says("told to stop; draining first")
        (hall / "late.mp4").write_bytes(b"late")
        await box.until_safe(1)
        assert "meeting.mp4" not in box.recordings()
        if end == "closes":
            assert writing.stdin is not None
            writing.stdin.close()
        else:
            writing.kill()
        assert await daemon.ended() == 0
    rows = box.recordings()
    assert {path: row.state for path, row in rows.items()} == {"late.mp4": "safe", "meeting.mp4": "safe"}
    assert "truncated" in str(rows["meeting.mp4"].doubt), "though nobody asked for a look at containers"


async def test_it_does_not_wait_for_ever_for_a_file_that_stays_open(box: Box, hall: Path) -> None:
    """For half of the time; the other half is for sending, and there is nothing to send."""
    box.daemon["drain_timeout"] = "10s"
    with recorder(hall / "meeting.mp4"), box.run() as daemon:
        (hall / "done.mp4").write_bytes(b"done")
        await daemon.says("provider opened")
        daemon.terminate()
        assert await daemon.ended() == 75
        (begun,) = daemon.said("told to stop; draining first")
        (told,) = daemon.said("not everything is safe; ending all the same")
    begun_at, told_at = (datetime.fromisoformat(line["timestamp"]) for line in (begun, told))
    assert 5 <= (told_at - begun_at).total_seconds() < 10
    assert told["left"] == [f"{hall}/meeting.mp4: somebody still writes it"]
    assert {path: row.state for path, row in box.recordings().items()} == {"done.mp4": "safe"}


async def test_what_a_dead_provider_does_not_have_is_named(box: Box, hall: Path) -> None:
    box.daemon["drain_timeout"] = "2s"
    # A folder that lies on no mount but `/`, wherever temporary files do; nothing is written to it.
    box.providers["nas"] = {"type": "directory", "path": "/etc", "require_mount": True}
    (hall / "a.mp4").write_bytes(b"a")
    with box.run() as daemon:
        await daemon.says("provider paused")
        daemon.terminate()
        assert await daemon.ended() == 75
        (told,) = daemon.said("not everything is safe; ending all the same")
    assert told["left"][0] == f"{hall}/a.mp4: not yet at nas"
    assert told["left"][1].startswith("provider nas: ")


async def test_a_missing_source_is_no_reason_to_wait(box: Box, hall: Path) -> None:
    hall.rmdir()
    with box.run() as daemon:
        await daemon.says("provider opened")
        daemon.terminate()
        assert await daemon.ended() == 1
        (told,) = daemon.said("not everything is safe; ending all the same")
    assert told["left"][0].startswith("source hall: ")


async def test_what_was_held_as_truncated_goes_out_too(box: Box, hall: Path) -> None:
    box.sources["hall"]["container_check"] = "require"
    (hall / "cut.ts").write_bytes(b"\x47" * 100)
    with box.run() as daemon:
        await daemon.says("recording held")
        assert box.recordings()["cut.ts"].state == "held"
        daemon.terminate()
        assert await daemon.ended() == 0
    row = box.recordings()["cut.ts"]
    assert row.state == "safe"
    assert row.doubt is not None and "truncated" in row.doubt


async def test_told_twice_it_stops_now(box: Box, hall: Path) -> None:
    with recorder(hall / "meeting.mp4"), box.run() as daemon:
        await daemon.says("provider opened")
        daemon.terminate()
        await daemon.says("told to stop; draining first")
        began = time.monotonic()
        daemon.terminate()
        assert await daemon.ended() == 75
        assert time.monotonic() - began < 10
        assert daemon.said("told to stop again: stopping now")


def test_told_to_stop_while_it_starts_it_drains_all_the_same(box: Box, hall: Path) -> None:
    (hall / "a.mp4").write_bytes(b"a")
    box.write()
    code = (
        "import asyncio, sys, pathlib\n"
        "from uploaderd import web\n"
        "from uploaderd.config import load\n"
        "from uploaderd.daemon import Daemon\n"
        "daemon = Daemon(load(pathlib.Path(sys.argv[1])), application=web.application)\n"
        f"daemon._asked_to_stop({signal.SIGTERM:d})\n"
        "sys.exit(asyncio.run(daemon.run()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, box.config], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0
    assert box.recordings()["a.mp4"].state == "safe"


async def test_a_job_that_got_less_than_it_expected_is_not_done(box: Box, hall: Path) -> None:
    (hall / "a.mp4").write_bytes(b"a")
    with box.run("--until-safe", "--expect", "2") as daemon:
        await box.until_safe(1)
        daemon.terminate()
        assert await daemon.ended() == 75
        assert daemon.said("everything is safe, but less came than was expected", expected=2)


async def test_nothing_there_yet_is_not_all_safe(box: Box, hall: Path) -> None:
    with box.run("--until-safe", "--expect", "2") as daemon:
        await daemon.says("provider opened")
        (hall / "a.mp4").write_bytes(b"a")
        await box.until_safe(1)
        assert not daemon.has_ended
        (hall / "b.mp4").write_bytes(b"b")
        assert await daemon.ended() == 0
    assert [row.state for row in box.recordings().values()] == ["safe", "safe"]


def test_last_words(tmp_path: Path) -> None:
    words = tmp_path / "termination-log"
    what = Left(("/r/a.mp4: not yet at nas",), 2, ("source hall: it is not there",))
    last_words(what, words)
    assert not words.exists(), "it is there in a container, and made nowhere else"
    words.write_text("from a life before, and longer than what comes now " * 9)
    last_words(what, words)
    assert words.read_text() == (
        "not safe when the daemon had to end: /r/a.mp4: not yet at nas; and 2 recordings more;"
        " source hall: it is not there"
    )
    last_words(Left(("/r/" + "x" * 9000,)), words)
    assert words.stat().st_size == LONGEST
