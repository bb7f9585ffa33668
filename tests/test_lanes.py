"""Fewer requests at once after "slow down", more again as they go well."""

from __future__ import annotations

import asyncio

import pytest

from uploaderd.errors import Fault
from uploaderd.lanes import Lanes


def lanes_of(most: int) -> Lanes:
    return Lanes(most, lambda: 10**6)


async def refused(lanes: Lanes, status: int) -> None:
    with pytest.raises(Fault):
        async with lanes.one():
            raise Fault("slow down", http_status=status)


async def test_slow_down_halves_and_success_brings_one_more() -> None:
    lanes = lanes_of(8)
    barrier = asyncio.Barrier(8)

    async def throttled() -> None:
        async with lanes.one():
            await barrier.wait()
            raise Fault("slow down", http_status=503)

    await asyncio.gather(*(throttled() for _ in range(8)), return_exceptions=True)
    assert lanes.limit == 4, "of eight that were on their way together one counts"
    for _ in range(4):
        async with lanes.one():
            pass
    assert lanes.limit == 4
    async with lanes.one():
        pass
    assert lanes.limit == 5
    for _ in range(100):
        async with lanes.one():
            pass
    assert lanes.limit == 8, "never more than are allowed"


async def test_one_is_always_left_and_other_faults_do_not_count() -> None:
    lanes = lanes_of(4)
    for _ in range(5):
        await refused(lanes, 429)
    assert lanes.limit == 1
    lanes = lanes_of(4)
    await refused(lanes, 500)
    assert lanes.limit == 4


async def test_no_more_are_used_than_there_are_and_nobody_is_forgotten() -> None:
    lanes = lanes_of(3)
    used = most = done = 0

    async def work(number: int) -> None:
        nonlocal used, most, done
        async with lanes.one():
            used += 1
            most = max(most, used)
            await asyncio.sleep(0)
            used -= 1
        done += 1

    tasks = [asyncio.create_task(work(number)) for number in range(60)]
    await asyncio.sleep(0)
    for task in tasks[3:40:2]:  # of those that wait, and later of those that were just let in
        task.cancel()
    for task in tasks[:3]:
        await task
    tasks[42].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3
    assert done + sum(task.cancelled() for task in tasks) == 60
    async with lanes.one():
        assert lanes.limit == 3


async def test_what_is_allowed_may_change() -> None:
    allowed = 1
    lanes = Lanes(4, lambda: allowed)
    assert lanes.limit == 1
    allowed = 9
    assert lanes.limit == 4
