"""One ffmpeg process that records a test picture and a tone."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

Container = Literal["ts", "mp4", "mkv"]

_MUXERS: dict[Container, str] = {"ts": "mpegts", "mp4": "mp4", "mkv": "matroska"}
_FOLDER = "%Y/%m/%d"  # below the source; the names repeat the date, so that they are unique without it


class RecorderError(Exception):
    """ffmpeg is missing, ended by itself, or did not close a segment in time; holds what it printed."""


def ffmpeg_binary() -> str:
    """The machine's ffmpeg, else the one that imageio-ffmpeg brings."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise RecorderError(
            "there is no ffmpeg: `pip install imageio-ffmpeg`, or run tests/run.py"
        ) from error


class Recorder:
    """Records into `source` from entering the block until leaving it.

    Args:
        source: the folder of the source; made if missing.
        container: of the segments.
        segment: seconds that each lasts; below 2 two of them might get the same name.
        pitch: Hz of the tone, so that two sources differ in content.
    """

    def __init__(
        self, source: Path, *, container: Container = "ts", segment: float = 2.0, pitch: int = 440
    ) -> None:
        if segment < 2:
            raise ValueError("names have whole seconds: segments must last at least 2 s")
        self.source = source
        self.container = container
        self.segment = segment
        self.pitch = pitch
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # The segment muxer makes no folders: today's, and tomorrow's for a run across midnight.
        for day in (datetime.now(UTC), datetime.now(UTC) + timedelta(days=1)):
            (self.source / day.strftime(_FOLDER)).mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            self._command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "TZ": "UTC"},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()

    def writing(self) -> list[Path]:
        """The segments that ffmpeg has open now, as the kernel says; none once it has ended."""
        if self._process is None or self._process.poll() is not None:
            return []
        source = self.source.resolve()
        opened = []
        for descriptor in Path(f"/proc/{self._process.pid}/fd").iterdir():
            try:
                target = descriptor.readlink()
            except FileNotFoundError:
                continue  # closed between the two looks
            if target.is_relative_to(source):
                opened.append(self.source / target.relative_to(source))
        return sorted(opened)

    def closed(self) -> list[Path]:
        """The segments that are finished, oldest first."""
        written = set(
            self.source.rglob(f"*.{self.container}")
        )  # first: one that begins meanwhile is not in it
        return sorted(written - set(self.writing()))

    async def closed_at_least(self, count: int, *, within: float = 60.0) -> list[Path]:
        """Wait until so many segments are finished; those.

        Raises:
            RecorderError: ffmpeg ended, or `within` seconds were not enough.
        """
        deadline = time.monotonic() + within
        while len(closed := self.closed()) < count:
            if self._process is None or self._process.poll() is not None:
                raise RecorderError(f"ffmpeg ended after {len(closed)} segments: {self._complaint()}")
            if time.monotonic() > deadline:
                raise RecorderError(f"only {len(closed)} of {count} segments were closed within {within} s")
            await asyncio.sleep(0.05)  # between two looks; ffmpeg tells nobody when it closes a file
        return closed

    def stop(self) -> None:
        """End the recording as an operator does; the last segment is closed properly.

        Raises:
            RecorderError: ffmpeg had a complaint.
        """
        process = self._running()
        try:
            process.communicate(b"q", timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RecorderError("ffmpeg did not stop within 20 s") from None
        if process.returncode:
            raise RecorderError(f"ffmpeg ended with {process.returncode}")

    def kill(self) -> None:
        """End it as a power cut does: the last segment stays truncated."""
        process = self._running()
        process.kill()
        process.communicate()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RecorderError("the recorder was not started")
        return self._process

    def _complaint(self) -> str:
        if self._process is None:
            return "it was not started"
        _, printed = self._process.communicate()
        return printed.decode(errors="replace")[-1000:]

    def _command(self) -> list[str]:
        name = f"{_FOLDER}/%Y%m%d-%H%M%S.{self.container}"
        return [
            *(ffmpeg_binary(), "-hide_banner", "-nostats", "-loglevel", "error", "-y"),
            *("-re", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=15"),
            *("-re", "-f", "lavfi", "-i", f"sine=frequency={self.pitch}:sample_rate=48000"),
            *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"),
            # A cut is made at a key frame alone, so there has to be one where a segment is to end.
            *("-force_key_frames", f"expr:gte(t,n_forced*{self.segment})"),
            *(
                "-f",
                "segment",
                "-segment_time",
                str(self.segment),
                "-segment_format",
                _MUXERS[self.container],
            ),
            *("-reset_timestamps", "1", "-strftime", "1", str(self.source / name)),
        ]
