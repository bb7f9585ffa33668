"""`uploaderd demo`: a simulated recorder, two local providers and the real daemon, in ten seconds.

The daemon is `uploaderd run` in a process of its own, on a ledger of its own. What is shown of it is
read from that ledger; what is shown of the recorder, from the files that it writes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from uploaderd.config import Config, load
from uploaderd.errors import LedgerError
from uploaderd.ledger import read
from uploaderd.ledger.lock import holder
from uploaderd.ledger.reading import connect_readonly
from uploaderd.model import LocalState, RecordingState, UploadState, Word
from uploaderd.report import ask
from uploaderd.report.lines import Line, Tone, count, size
from uploaderd.report.status import status

CAMERAS: Final = ("cam1", "cam2")
SEGMENTS: Final = 3
SEGMENT_SECONDS: Final = 1.5
CAMERA_RATE: Final = 4 * 2**20
"""Bytes per second of one camera: 4K at a good quality."""
FRAME_SECONDS: Final = 0.05

LOOK_SECONDS: Final = 0.1
LONGEST: Final = 90.0
"""Seconds after which something must be wrong."""
STOP_SECONDS: Final = 30.0

_CONFIG: Final = """\
[ledger]
path = "ledger.db"
[sources.cameras]
path = "recordings"
quiet_for = "1s"
[providers.main]
type = "directory"
path = "main"
[providers.spare]
type = "directory"
path = "spare"
"""


@dataclass(slots=True)
class Segment:
    """A file of the recorder. Times in milliseconds since the epoch; 0: not yet."""

    path: str
    began_at: int = 0
    closed_at: int = 0
    written: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """How it ended, and what there is to say about it."""

    well: bool
    lines: list[Line]


class Recorder:
    """Cameras that write segment after segment, each in its own thread, at a camera's speed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self.failure: OSError | None = None
        self._cameras = {
            camera: [Segment(f"{camera}/{number:02d}.mp4") for number in range(1, SEGMENTS + 1)]
            for camera in CAMERAS
        }
        self._threads = [
            threading.Thread(target=self._record, args=(segments,), name=camera)
            for camera, segments in self._cameras.items()
        ]

    @property
    def segments(self) -> list[Segment]:
        """All, in the order in which they end."""
        return [segment for row in zip(*self._cameras.values(), strict=True) for segment in row]

    @property
    def done(self) -> bool:
        return all(segment.closed_at for segment in self.segments)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, in the middle of a file if need be. Idempotent."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _record(self, segments: list[Segment]) -> None:
        try:
            self._write(segments)
        except OSError as error:
            self.failure = error

    def _write(self, segments: list[Segment]) -> None:
        for segment in segments:
            digest = hashlib.sha256()
            path = self._folder / segment.path
            path.parent.mkdir(exist_ok=True)
            segment.began_at = _now()
            with path.open("wb", buffering=0) as file:
                ends = time.monotonic() + SEGMENT_SECONDS
                while time.monotonic() < ends and not self._stop.is_set():
                    frame = os.urandom(int(CAMERA_RATE * FRAME_SECONDS))
                    digest.update(frame)
                    segment.written += file.write(frame)
                    self._stop.wait(FRAME_SECONDS)
            if self._stop.is_set():
                return
            segment.digest = digest.hexdigest()
            segment.closed_at = _now()


@dataclass(slots=True)
class Seen:
    """What the ledger says, at one look."""

    word: str = Word.STOPPED
    rows: dict[str, read.RecordingRow] = field(default_factory=dict)
    attempts: list[tuple[int, int]] = field(default_factory=list)
    """Row and start of each attempt."""


class Demo:
    """One demonstration. `draw` shows a changing picture, on a terminal; `say` single lines, elsewhere."""

    def __init__(
        self, *, draw: Callable[[list[Line]], None] | None, say: Callable[[Line], None] | None
    ) -> None:
        self._draw = draw
        self._say = say
        self._said: set[str] = set()
        self._started = time.monotonic()

    def run(self) -> Done:
        """From nothing to safe, and away with it. KeyboardInterrupt too leaves nothing behind."""
        folder = Path(tempfile.mkdtemp(prefix="uploaderd-demo-"))
        with _interrupted_by(signal.SIGTERM, signal.SIGHUP):
            try:
                return self._in(folder)
            finally:
                shutil.rmtree(folder)

    def _in(self, folder: Path) -> Done:
        for name in ("recordings", "main", "spare"):
            (folder / name).mkdir()
        (folder / "config.toml").write_text(_CONFIG, encoding="utf-8")
        config = load(folder / "config.toml", env={})
        recorder = Recorder(folder / "recordings")
        daemon = _start(folder)
        try:
            recorder.start()
            while True:
                seen = _look(config)
                self._show(recorder, seen)
                if recorder.done and _all_safe(recorder, seen):
                    return self._summary(folder, recorder, seen, config)
                if recorder.failure is not None:
                    return _gone_wrong(folder, f"the recorder cannot write: {recorder.failure}")
                if daemon.poll() is not None:
                    return _gone_wrong(folder, f"the daemon ended with {daemon.returncode}")
                if time.monotonic() - self._started > LONGEST:
                    return _gone_wrong(folder, f"not everything is safe after {LONGEST:.0f} seconds")
                time.sleep(LOOK_SECONDS)
        finally:
            recorder.stop()
            _stop(daemon)

    # --- while it runs -----------------------------------------------------------------------------

    def _show(self, recorder: Recorder, seen: Seen) -> None:
        if self._draw is not None:
            self._draw(list(self._picture(recorder, seen)))
        if self._say is not None:
            for key, line in _news(recorder, seen):
                if key not in self._said:
                    self._said.add(key)
                    self._say(Line(f"{time.monotonic() - self._started:5.1f} s  {line}"))

    def _picture(self, recorder: Recorder, seen: Seen) -> Iterator[Line]:
        yield Line(f"{seen.word}  {time.monotonic() - self._started:.0f} s", Tone.QUIET)
        for segment in recorder.segments:
            row = seen.rows.get(segment.path)
            if not segment.began_at:
                continue
            if not segment.closed_at:
                state, tone = "being recorded", Tone.LATE
            elif row is None:
                state, tone = "closed; not queued yet", Tone.PLAIN
            else:
                copies = ", ".join(f"{name} {upload.state}" for name, upload in row.uploads.items())
                state, tone = (
                    f"{row.state}: {copies}",
                    Tone.GOOD if row.state == RecordingState.SAFE else Tone.PLAIN,
                )
            yield Line(f"  {segment.path}  {size(segment.written):>8}  {state}", tone)

    # --- at the end --------------------------------------------------------------------------------

    def _summary(self, folder: Path, recorder: Recorder, seen: Seen, config: Config) -> Done:
        """Everything in it is looked up: in the ledger, and in the copies themselves."""
        took = time.monotonic() - self._started
        rows = [seen.rows[segment.path] for segment in recorder.segments]
        uploads = [upload for row in rows for upload in row.uploads.values()]
        kinds = sorted({upload.proof_kind or "none" for upload in uploads})
        closed = {seen.rows[segment.path].row: segment for segment in recorder.segments}
        margins = [(started - closed[row].closed_at) / 1000 for row, started in seen.attempts]
        early = sum(margin < 0 for margin in margins)
        beside = sum(
            any(other.began_at < started < other.closed_at for other in recorder.segments)
            for _, started in seen.attempts
        )
        different = [
            f"{name}: {segment.path}"
            for segment in recorder.segments
            for name, upload in seen.rows[segment.path].uploads.items()
            if _digest(folder / name / upload.key) != segment.digest
        ]
        total = sum(row.size for row in rows)
        sent = sum(upload.bytes_sent for upload in uploads)
        well = seen.word == Word.SAFE and not different and not early
        lines = [
            Line(
                f"{seen.word}  {count(len(rows), 'recording')}, {size(total)},"
                f" at {count(len(config.providers), 'provider')}, {took:.1f} s",
                Tone.GOOD if well else Tone.BAD,
                head=len(seen.word),
            ),
            Line(f"  proven     {len(uploads)} copies: {'; '.join(kinds)}"),
            Line(f"  compared   {len(uploads) - len(different)} copies have what the recorder wrote"),
            Line(
                f"  not early  {early} of {len(margins)} uploads began before the recorder had closed the"
                f" file; the first {min(margins):.1f} s after"
            ),
            Line(f"  meanwhile  {beside} of them began while other files were still being written"),
            Line(f"  sent       {size(sent)} for {size(total * len(config.providers))} of copies"),
            Line(""),
            Line("next: uploaderd run --quickstart   watches ./recordings, copies into ./uploaded"),
            Line("      config.example.toml          has every key, with S3, Azure and GCS"),
        ]
        lines += [Line(f"  DIFFERENT  {which}", Tone.BAD) for which in different]
        return Done(well, lines)


def _news(recorder: Recorder, seen: Seen) -> Iterator[tuple[str, str]]:
    """What has become true so far, each with a key to tell it once."""
    for segment in recorder.segments:
        name = segment.path
        if segment.began_at:
            yield f"{name} began", f"recorder  {name} is being written"
        if segment.closed_at:
            yield f"{name} closed", f"recorder  {name} is closed, {size(segment.written)}"
        row = seen.rows.get(name)
        if row is None:
            continue
        yield f"{name} queued", f"uploaderd {name} is finished ({row.finished_by}), and queued"
        for provider, upload in row.uploads.items():
            if upload.state == UploadState.VERIFIED:
                yield f"{name} {provider}", f"uploaderd {name} is verified at {provider}"
        if row.safe_at is not None:
            seconds = (row.safe_at - segment.closed_at) / 1000
            yield f"{name} safe", f"uploaderd {name} is safe, {seconds:.1f} s after it was closed"


def _look(config: Config) -> Seen:
    """Ask the ledger; nothing is known before the daemon has made it."""
    held_by = holder(config.ledger.path)
    try:
        conn = connect_readonly(config.ledger.path)
    except LedgerError:
        return Seen()
    try:
        word = status(conn, config, held_by, ask.live(config.web.socket, held_by), _now())["state"]
        rows = {os.fsdecode(row.path): row for row in read.recordings(conn)}
        attempts = [(one["recording_id"], one["started_at"]) for one in read.attempts(conn, None, 1000)]
    except sqlite3.OperationalError:
        return Seen()  # its first migration is just being committed
    finally:
        conn.close()
    return Seen(word, rows, attempts)


def _all_safe(recorder: Recorder, seen: Seen) -> bool:
    """Whether the ledger calls every file safe that the recorder wrote, whole, and still there."""
    return all(
        (row := seen.rows.get(segment.path)) is not None
        and (row.state, row.size, row.local) == (RecordingState.SAFE, segment.written, LocalState.PRESENT)
        for segment in recorder.segments
    )


def _start(folder: Path) -> subprocess.Popen[bytes]:
    """The daemon, as anybody would start it; its log goes to a file."""
    # What configures the person's own daemon must not reach this one.
    foreign = ("UPLOADERD_", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    with (folder / "daemon.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "uploaderd", "run", "--config", str(folder / "config.toml")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            process_group=0,  # Ctrl-C is for us; we tell it
        )


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _gone_wrong(folder: Path, what: str) -> Done:
    log = (folder / "daemon.log").read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [Line(f"FAILED  {what}", Tone.BAD, head=6), Line("the end of its log:")]
    return Done(False, [*lines, *(Line(f"  {line}") for line in log[-10:])])


@contextmanager
def _interrupted_by(*numbers: signal.Signals) -> Iterator[None]:
    """Let these signals end the block as Ctrl-C does, so that it can clear up."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "missing"


def _now() -> int:
    return time.time_ns() // 1_000_000
