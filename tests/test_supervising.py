"""A part of the daemon that fails is begun again, and that is never silent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.clocks import FakeClock
from uploaderd import supervising
from uploaderd.errors import LedgerBroken, LedgerFull
from uploaderd.supervising import RESTART_SECONDS, supervise
from uploaderd.waiting import unless


class Part:
    """Ends in these ways, in turn."""

    def __init__(self, *ends: Callable[[], Awaitable[None]]) -> None:
        self._ends = iter(ends)
        self.begun = 0

    async def run(self) -> None:
        self.begun += 1
        await next(self._ends)()


async def well() -> None: ...


async def broken() -> None:
    raise ZeroDivisionError


async def full() -> None:
    raise LedgerFull("no room", "free some")


async def cut_off() -> None:
    """By somebody who meant another."""
    shared = asyncio.get_running_loop().create_future()
    shared.cancel()
    await shared


class Pauses(FakeClock):
    """Nobody waits; how long it would have been."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "unless something comes"])
async def test_whatever_fails_begins_again(*, beside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(supervising.log, "exception", lambda event, **_: told.append(event))
    part, clock = Part(broken, cut_off, full, well), Pauses()
    run = (lambda: unless(asyncio.Event(), part.run())) if beside else part.run
    await supervise("watcher cams", run, clock, asyncio.Event())
    assert (part.begun, tuple(clock.slept)) == (4, RESTART_SECONDS[:3])
    assert told == [
        "a part of the daemon failed; it begins again",
        "a part of the daemon was cut off by a mistake; it begins again",
    ]


async def test_who_is_cancelled_ends() -> None:
    clock, never = FakeClock(), asyncio.Event()

    async def wait() -> None:
        await never.wait()

    task = asyncio.create_task(supervise("watcher cams", wait, clock, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()


async def test_what_comes_ends_the_work_and_that_is_no_failure() -> None:
    event, never = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    await unless(event, never.wait())


async def test_nothing_goes_on_without_the_ledger_nor_begins_again_at_the_end() -> None:
    stopping = asyncio.Event()

    async def lost() -> None:
        raise LedgerBroken("it is gone", "look")

    with pytest.raises(LedgerBroken):
        await supervise("watcher cams", lost, FakeClock(), stopping)
    stopping.set()
    part = Part(broken)
    await supervise("watcher cams", part.run, FakeClock(), stopping)
    assert part.begun == 1
