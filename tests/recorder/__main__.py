"""`python -m tests.recorder FOLDER`: two cameras record into FOLDER/cam1 and FOLDER/cam2."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from tests.recorder.ffmpeg import Recorder

parser = argparse.ArgumentParser(prog="python -m tests.recorder", description=__doc__)
parser.add_argument("folder", type=Path)
parser.add_argument("--seconds", type=float, default=20.0, help="how long to record (default: 20)")
parser.add_argument("--segment", type=float, default=2.0, help="how long each file lasts (default: 2)")
arguments = parser.parse_args()

# Blocked before the recorders start, so that Ctrl-C cannot end them before we close them properly.
signals = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
with (
    Recorder(arguments.folder / "cam1", container="ts", segment=arguments.segment, pitch=440) as one,
    Recorder(arguments.folder / "cam2", container="mp4", segment=arguments.segment, pitch=660) as two,
):
    signal.sigtimedwait(signals, arguments.seconds)
for recorder in (one, two):
    closed = recorder.closed()
    print(f"{recorder.source}: {len(closed)} recordings, {sum(path.stat().st_size for path in closed)} bytes")
