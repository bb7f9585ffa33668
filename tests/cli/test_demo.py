"""`uploaderd demo`: it ends by itself, tells the truth, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.process import COMMAND, environment, uploaderd
from uploaderd.demo import CAMERAS, SEGMENTS, Demo
from uploaderd.report.lines import Line


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a short name, which leaves room for a Unix socket's."""
    return tmp_path_factory.mktemp("demo")


def test_it_ends_by_itself_in_time_and_leaves_nothing(folder: Path) -> None:
    began = time.monotonic()
    # What configures the person's own daemon must not reach the demo's.
    env = {"TMPDIR": str(folder), "UPLOADERD_SOURCES__CAMERAS__QUIET_FOR": "1h"}
    ended = uploaderd("demo", cwd=folder, env=env)
    assert ended.code == 0, ended.out + ended.err
    assert time.monotonic() - began < 20
    assert list(folder.iterdir()) == []
    recordings = len(CAMERAS) * SEGMENTS
    assert re.search(rf"^SAFE  {recordings} recordings, .*, at 2 providers, ", ended.out, re.MULTILINE)
    assert f"compared   {2 * recordings} copies have what the recorder wrote" in ended.out
    assert f"0 of {2 * recordings} uploads began before the recorder had closed the file" in ended.out
    assert re.search(
        r"meanwhile  [1-9]\d* of them began while other files were still being written", ended.out
    )
    assert ended.out.count(" is safe, ") == recordings


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "demo"],
        cwd=folder,
        env=environment(TMPDIR=str(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.killpg(process.pid, number)  # as a terminal does: to all that is in the foreground
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(folder.iterdir()) == []


def test_a_daemon_that_does_not_start_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("sys.executable", "/bin/false")
    lines: list[Line] = []
    done = Demo(draw=None, say=lines.append).run()
    assert not done.well
    assert done.lines[0].text == "FAILED  the daemon ended with 1"
    assert list(folder.iterdir()) == []
