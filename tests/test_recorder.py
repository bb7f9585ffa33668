"""The recorder that other tests lean on really records."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.recorder import Recorder, RecorderError, ffmpeg_binary


def decoded_seconds(path: Path) -> float:
    """What ffmpeg finds in the file when it decodes all of it; fails on any complaint of the decoder."""
    command = [
        ffmpeg_binary(),
        "-v",
        "error",
        "-xerror",
        "-i",
        str(path),
        "-progress",
        "-",
        "-f",
        "null",
        "-",
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert told.stderr == ""
    return (
        int(
            [line for line in told.stdout.splitlines() if line.startswith("out_time_us=")][-1].partition("=")[
                2
            ]
        )
        / 1e6
    )


async def test_two_sources_are_recorded_into_dated_folders_at_natural_speed(tmp_path: Path) -> None:
    began = datetime.now(UTC)
    with (
        Recorder(tmp_path / "cam1", container="ts", pitch=440) as one,
        Recorder(tmp_path / "cam2", container="mp4", pitch=660) as two,
    ):
        for recorder in (one, two):
            closed = await recorder.closed_at_least(1)
            assert not set(closed) & set(recorder.writing())
            assert len(recorder.writing()) == 1
            assert closed[0].parent.relative_to(recorder.source) == Path(f"{began:%Y/%m/%d}")
    took = (datetime.now(UTC) - began).total_seconds()
    for recorder in (one, two):
        assert recorder.writing() == []
        lengths = [decoded_seconds(path) for path in recorder.closed()]
        assert lengths[0] == pytest.approx(2.0, abs=0.3)
        assert sum(lengths) <= took + 0.5  # real time: no more picture than the clock allowed
    assert one.closed()[0].read_bytes() != two.closed()[0].read_bytes()


async def test_a_killed_recorder_leaves_a_truncated_file(tmp_path: Path) -> None:
    with Recorder(tmp_path, container="mp4") as recorder:
        (whole, *_) = await recorder.closed_at_least(1)
        (last,) = recorder.writing()
        recorder.kill()
    assert b"moov" in whole.read_bytes()
    assert last in recorder.closed()
    assert b"moov" not in last.read_bytes()


async def test_a_recorder_that_ended_by_itself_says_why(tmp_path: Path) -> None:
    with Recorder(tmp_path / "cam1", pitch=-1) as recorder:
        with pytest.raises(RecorderError, match=r"ffmpeg ended after 0 segments: .*frequency"):
            await recorder.closed_at_least(1)


def test_it_can_be_run_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.recorder", str(tmp_path), "--seconds", "1"]
    told = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    for name in ("cam1", "cam2"):
        assert re.search(rf"/{name}: [12] recordings, \d{{5,}} bytes", told)
