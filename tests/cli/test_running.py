"""The daemon as a process: quickstart, `--until-safe`, live values, stopping, and a second one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.process import COMMAND, environment, uploaderd
from uploaderd.ledger.lock import Holder, holder
from uploaderd.report import ask

DEADLINE = 30.0


@contextmanager
def running(folder: Path, *arguments: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """`uploaderd run`; killed if the test did not end it."""
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "run", *arguments], cwd=folder, env=environment(**env), stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(what: Callable[[], Any]) -> Any:
    """What `what` says once it says something."""
    ends = time.monotonic() + DEADLINE
    while not (found := what()):
        assert time.monotonic() < ends, "it did not come to pass"
        time.sleep(0.05)
    return found


def test_quickstart_sends_what_is_there_and_status_finds_its_ledger(tmp_path: Path) -> None:
    with running(tmp_path, "--quickstart") as daemon:
        until(lambda: holder(tmp_path / "uploaderd.db") is not None and (tmp_path / "recordings").is_dir())
        (tmp_path / "recordings" / "a.mp4").write_bytes(b"content")
        (line,) = until(lambda: _safe(tmp_path))
        assert Path(line["uploads"]["uploaded"]["url"].removeprefix("file://")).read_bytes() == b"content"
        status = json.loads(uploaderd("status", "--json", cwd=tmp_path).out)
        assert (status["state"], status["daemon"]["pid"]) == ("SAFE", daemon.pid)
        assert status["providers"][0]["rate_bytes_per_second"] is not None  # so the socket answers
        assert uploaderd("status", "--alive", cwd=tmp_path).code == 0
        held = uploaderd("run", "--quickstart", cwd=tmp_path)
        assert held.code == 75
        assert f"(process {daemon.pid})" in held.err
        daemon.terminate()
        assert daemon.wait(DEADLINE) == 0
    assert uploaderd("status", "--check", cwd=tmp_path).code == 3


def _safe(folder: Path) -> list[Any]:
    ended = uploaderd("list", "--state", "safe", "--json", cwd=folder)
    return [json.loads(line) for line in ended.out.splitlines()]


def test_until_safe_waits_for_as_many_as_are_expected(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "first.mp4").write_bytes(b"1")
    with running(tmp_path, "--quickstart", "--until-safe", "--expect", "2") as daemon:
        until(lambda: _safe(tmp_path))
        assert daemon.poll() is None
        (tmp_path / "recordings" / "second.mp4").write_bytes(b"2")
        assert daemon.wait(DEADLINE) == 0
    assert len(_safe(tmp_path)) == 2


def test_until_safe_with_nothing_to_send_ends_at_once(tmp_path: Path) -> None:
    with running(tmp_path, "--quickstart", "--until-safe") as daemon:
        assert daemon.wait(DEADLINE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, "--quickstart") as daemon:
        until(lambda: uploaderd("status", "--alive", cwd=tmp_path).code == 0)
        daemon.send_signal(number)
        assert daemon.wait(DEADLINE) == 0
    assert "Traceback" not in (tmp_path / "daemon.log").read_text(encoding="utf-8")


def test_the_daemon_is_found_where_its_service_manager_put_its_socket(tmp_path: Path) -> None:
    """The person who asks has no $RUNTIME_DIRECTORY: the ledger's lock tells."""
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "config.toml").write_text(
        '[ledger]\npath = "ledger.db"\n[sources.a]\npath = "in"\n'
        '[providers.p]\ntype = "directory"\npath = "out"\n',
        encoding="utf-8",
    )
    config = {"UPLOADERD_CONFIG": str(tmp_path / "config.toml")}
    with running(tmp_path, RUNTIME_DIRECTORY=str(runtime), **config):
        until((runtime / "control.sock").exists)
        alive = uploaderd("status", "--alive", cwd=tmp_path, env=config)
        assert (alive.code, alive.err) == (0, "")


# --- a daemon that does not answer -------------------------------------------------------------------


def test_a_socket_that_does_not_answer_in_time_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        began = time.monotonic()
        assert ask.live(path, Holder(os.getpid(), "0.1.0", 0)) is None
        assert time.monotonic() - began < 1
    moves, told = ask.alive(path, Holder(412, "0.1.0", 0))
    assert (moves, "(process 412) holds the ledger, but does not answer" in told) == (False, True)
