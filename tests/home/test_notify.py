"""What systemd hears: ready, reloading, stopping, how things stand, and signs of life that mean something."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.box import Box
from tests.home.listening import Listening
from uploaderd import notify
from uploaderd.clock import SystemClock
from uploaderd.config import Config
from uploaderd.ledger import Ledger
from uploaderd.live import Live
from uploaderd.model import Word
from uploaderd.notify import ServiceManager, summary


async def test_from_start_to_stop(box: Box, manager: Listening) -> None:
    hall = Path(box.sources["hall"]["path"])
    with box.run(env=manager.env) as daemon:
        told = await manager.hears("READY=1")
        told = await manager.hears("STATUS=started", after=told)
        await manager.hears("STATUS=SAFE, 0 recordings", after=told)
        (hall / "a.mp4").write_bytes(b"a" * 1000)
        told = await manager.hears("STATUS=SAFE, 1 recording")

        daemon.signal(signal.SIGHUP)
        told = await manager.hears("RELOADING=1", after=told)
        assert manager.lines[told].startswith("MONOTONIC_USEC=")
        assert 0 <= time.monotonic() - int(manager.lines[told].partition("=")[2]) / 1e6 < 60
        told = await manager.hears("READY=1", after=told)

        box.config.write_text("[daemon]\nbehind_after = 15\n")
        daemon.signal(signal.SIGHUP)
        told = await manager.hears("RELOADING=1", after=told)
        told = await manager.hears("READY=1", after=told)
        assert daemon.said("the new configuration is refused; the old one stays")

        daemon.terminate()
        told = await manager.hears("STOPPING=1", after=told)
        await manager.hears("EXTEND_TIMEOUT_USEC=", after=told)
        assert await daemon.ended() == 0
    assert "WATCHDOG=1" not in manager.lines


async def test_an_abstract_socket(box: Box) -> None:
    with Listening(f"@uploaderd-test-{os.getpid()}") as manager, box.run(env=manager.env):
        await manager.hears("READY=1")


async def test_what_keeps_it_from_being_safe_is_told(box: Box, manager: Listening) -> None:
    Path(box.sources["hall"]["path"]).rmdir()
    with box.run(env=manager.env):
        await manager.hears("STATUS=FAILING: source hall is missing")


async def test_it_is_silent_while_nothing_changes(box: Box, manager: Listening) -> None:
    """And nothing reaches a disk for it."""
    with box.run(env=manager.env | {"WATCHDOG_USEC": "300000"}) as daemon:
        told = await manager.hears("STATUS=SAFE")
        quiet = False
        for _ in range(6):  # what the start left to do may come after it is ready
            before = _written(daemon.pid)
            for _ in range(45):  # longer than the line stays as it is
                told = await manager.hears("WATCHDOG=1", after=told)
            if quiet := _written(daemon.pid) == before:
                break
        assert quiet, "something is written all the time"
        assert [line for line in manager.lines if line.startswith("STATUS=")] == [
            "STATUS=started; looking at the sources",
            "STATUS=SAFE, 0 recordings",
        ]


async def test_signs_of_life_come_in_time(box: Box, manager: Listening) -> None:
    with box.run(env=manager.env | {"WATCHDOG_USEC": "1500000"}):
        told = await manager.hears("READY=1")
        for _ in range(8):
            told = await manager.hears("WATCHDOG=1", after=told, within=1.5)


async def test_a_watchdog_of_another_process_is_none_of_ours() -> None:
    env = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    assert ServiceManager.found_in(env).watchdog is None
    assert ServiceManager.found_in(env | {"WATCHDOG_PID": str(os.getpid())}).watchdog == 1.0


async def test_a_ledger_that_stands_still_gives_no_sign_of_life(tmp_path: Path, manager: Listening) -> None:
    clock = SystemClock()
    ledger = Ledger(tmp_path / "ledger.db", clock.now, "test")
    await ledger.open()
    told_manager = ServiceManager(manager.env["NOTIFY_SOCKET"], 0.3)

    live = Live(clock, ledger, Config())

    async def line() -> str:
        return "SAFE"

    telling = asyncio.create_task(told_manager.keep_telling(live.alive, line, clock))
    begun, go_on = threading.Event(), threading.Event()

    def stand_still(_: object) -> None:
        begun.set()
        go_on.wait(60)

    try:
        await manager.hears("WATCHDOG=1")
        stuck = asyncio.create_task(ledger.run(stand_still))
        assert await asyncio.to_thread(begun.wait, 60)
        before = len(manager.lines)
        with pytest.raises(AssertionError, match="no 'WATCHDOG=1'"):
            await manager.hears("WATCHDOG=1", after=before, within=7)  # longer than it is asked for
        go_on.set()
        await stuck
        await manager.hears("WATCHDOG=1", after=before)
    finally:
        go_on.set()
        telling.cancel()
        await ledger.close()


async def test_a_manager_that_is_gone_disturbs_nobody(box: Box, tmp_path: Path) -> None:
    with box.run(env={"NOTIFY_SOCKET": str(tmp_path / "gone")}) as daemon:
        await daemon.says("the service manager cannot be told", what="READY=1")
        (Path(box.sources["hall"]["path"]) / "a.mp4").write_bytes(b"a")
        await box.until_safe(1)


@pytest.mark.parametrize(
    ("word", "safe", "waiting", "reasons", "line"),
    [
        (Word.SAFE, 412, 0, [], "SAFE, 412 recordings"),
        (Word.SAFE, 1412, 3, [], "SAFE, 1,412 recordings, 3 waiting"),
        (Word.BEHIND, 412, 8, ["late"], "BEHIND, 8 waiting"),
        (Word.FAILING, 412, 8, ["provider nas is paused", "late"], "FAILING: provider nas is paused"),
    ],
)
def test_the_line(word: Word, safe: int, waiting: int, reasons: list[str], line: str) -> None:
    found: Any = {"state": word, "reasons": reasons, "recordings": {"safe": safe, "waiting": waiting}}
    assert summary(found) == line


def test_a_stop_is_prolonged_before_its_time_is_up() -> None:
    assert notify.STATUS_SECONDS * 2 < notify.STOP_SECONDS


def _written(pid: int) -> int:
    """Bytes that the process had written to a disk, or to pages that go to one (proc(5), io)."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes")))
