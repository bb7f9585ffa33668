"""A file system that others write to unseen, such as FUSE: it is polled, and quiet time alone has to tell."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.needs import lacking
from tests.watch import fuse
from tests.watch.conftest import Site, until
from uploaderd import root
from uploaderd.clock import SystemClock
from uploaderd.config.source import QUIET_ON_NETWORK

FASTER = 200.0


class FastClock(SystemClock):
    """Waiting takes a fraction of its time; the wall's clock, by which files are dated, is the true one."""

    def monotonic(self) -> float:
        return time.monotonic() * FASTER

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / FASTER)


@contextmanager
def mounted(folder: Path, mountpoint: Path) -> Iterator[subprocess.Popen[str]]:
    """A FUSE mount of the folder; its server."""
    server = subprocess.Popen(
        [sys.executable, fuse.__file__, str(folder), str(mountpoint)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        if server.stdout.readline() != "ready\n":
            *_, refusal = ["", *server.communicate()[1].splitlines()]
            lacking(f"no FUSE can be mounted here: {refusal}")
        yield server
    finally:
        subprocess.run(["umount", "-l", str(mountpoint)], check=False, stderr=subprocess.DEVNULL)
        server.kill()
        server.communicate()


async def test_what_another_host_writes_is_found_and_waited_for_five_minutes(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    await site.open({"cameras": {"quiet_for": "auto"}})
    site.clock = clock = FastClock()
    elsewhere = site.tmp / "elsewhere"
    elsewhere.mkdir()
    watcher = site.watcher()
    with mounted(elsewhere, site.root):
        task = asyncio.create_task(watcher.run())
        try:
            await until(lambda: task.done() or watcher.settled, "the first sweep")
            began = clock.monotonic()
            for name in ("a.mp4", "b.mp4"):
                path = elsewhere / name
                path.write_bytes(name.encode())
                os.utime(path, (time.time() - 1000,) * 2)  # a file server's clock is not believed for an hour
            await until(lambda: task.done() or site.count() == 2, "both files")
            assert clock.monotonic() - began >= QUIET_ON_NETWORK
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert set(site.rows("SELECT found_by, finished_by FROM recordings")) == {("sweep", "quiet")}
    state = watcher.state
    assert (state["lease"], state["listening"]) == (False, False)
    assert "network file system" in str(state["polling"])
    site.figures(record_property, {b"a.mp4": 5, b"b.mp4": 5})


async def test_a_mount_that_hangs_is_missing_until_it_answers_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root, "ANSWER_SECONDS", 0.2)
    await site.open()
    site.clock = FastClock()
    elsewhere = site.tmp / "elsewhere"
    elsewhere.mkdir()
    watcher = site.watcher()

    def state() -> str:
        return str(site.rows("SELECT state FROM sources")[0][0])

    with mounted(elsewhere, site.root) as server:
        task = asyncio.create_task(watcher.run())
        try:
            await until(lambda: task.done() or watcher.settled, "the first sweep")
            server.send_signal(signal.SIGSTOP)
            await until(lambda: task.done() or watcher.state["missing"] is not None, "the alarm")
            assert "does not answer" in str(watcher.state["missing"])
            assert state() == "missing"
            server.send_signal(signal.SIGCONT)
            await until(lambda: task.done() or state() == "ok", "the answer")
            (elsewhere / "a.mp4").write_bytes(b"recorded meanwhile")
            await until(lambda: task.done() or site.count() == 1, "what was recorded meanwhile")
        finally:
            server.send_signal(signal.SIGCONT)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
