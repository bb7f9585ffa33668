"""The operator's limits on what leaves: kept over a minute, shared, changed while bytes are under way."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from uploaderd.allowance import LANE_RATE, UNLIMITED, Allowance, Allowances, Limit
from uploaderd.config import Bandwidth
from uploaderd.config.bandwidth import parse_bandwidth
from uploaderd.model import Milliseconds
from uploaderd.reader import WINDOW

MBIT = 125_000
NOON = datetime(2026, 11, 20, 12, 0).timestamp()  # noqa: DTZ001 - a Friday, on this machine's clock


class LeapingClock:
    """Whoever sleeps wakes at once, and that much later (and a little, as on a busy machine)."""

    def __init__(self, oversleeps: float = 0.0) -> None:
        self.seconds = 0.0
        self._oversleeps = oversleeps

    def now(self) -> Milliseconds:
        return Milliseconds(int((NOON + self.seconds) * 1000))

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.seconds += seconds + self._oversleeps


async def sent_by(clock: LeapingClock, until: float, *allowances: Allowance) -> list[int]:
    """Bytes that each was allowed until then, all of them taking what they can get."""

    async def send(allowance: Allowance) -> int:
        sent = 0
        while True:
            await allowance.take(allowance.window)
            if clock.seconds > until:
                return sent
            sent += allowance.window

    return await asyncio.gather(*(send(one) for one in allowances))


@pytest.mark.parametrize("oversleeps", [0.0, 0.05])
@pytest.mark.parametrize("rate", [MBIT, 20 * MBIT, 1000 * MBIT])
async def test_a_minute_across_three_providers_keeps_the_limit(rate: int, oversleeps: float) -> None:
    clock = LeapingClock(oversleeps)
    allowances = Allowances(clock)
    allowances.set(Bandwidth(rate), {})
    sent = await sent_by(clock, 60, *(allowances.of(name) for name in ("s3", "azure", "gcs")))
    assert sum(sent) == pytest.approx(60 * rate, rel=0.03)
    assert max(sent) - min(sent) <= 2 * WINDOW, "each has its turn"


async def test_a_providers_own_limit_holds_beside_the_one_over_all() -> None:
    clock = LeapingClock()
    allowances = Allowances(clock)
    allowances.set(Bandwidth(20 * MBIT), {"s3": Bandwidth(5 * MBIT)})
    allowance = allowances.of("s3")
    assert await sent_by(clock, 60, allowance) == [pytest.approx(60 * 5 * MBIT, rel=0.03)]
    assert allowances.of("azure").rate == 20 * MBIT


async def test_a_reload_holds_for_what_is_under_way() -> None:
    clock = LeapingClock()
    allowances = Allowances(clock)
    allowances.set(Bandwidth(MBIT), {})
    allowance = allowances.of("s3")
    await sent_by(clock, 30, allowance)
    allowances.set(Bandwidth(20 * MBIT), {})
    began = clock.seconds
    assert await sent_by(clock, began + 60, allowance) == [pytest.approx(60 * 20 * MBIT, rel=0.03)]
    allowances.set(Bandwidth(), {})
    began = clock.seconds
    for _ in range(1000):
        await allowance.take(WINDOW)
    assert clock.seconds <= began + 1, "nothing is waited for any more"


async def test_the_time_of_day_decides() -> None:
    clock = LeapingClock()
    limit = Limit(clock)
    limit.set(parse_bandwidth({"default": "80Mbit/s", "mon-fri 12:01-18:00": "8Mbit/s"}))
    assert limit.rate == 80 * MBIT
    before = await sent_by(clock, 60, Allowance(limit))
    assert limit.rate == 8 * MBIT
    began = clock.seconds
    after = await sent_by(clock, began + 60, Allowance(limit))
    assert before == [pytest.approx(60 * 80 * MBIT, rel=0.03)]
    assert after == [pytest.approx(60 * 8 * MBIT, rel=0.03)]


def test_a_slow_link_is_shared_among_few_in_small_windows() -> None:
    limit = Limit(LeapingClock())
    allowance = Allowance(limit)
    for rate, lanes in ((8000, 1), (2 * LANE_RATE, 2), (100 * LANE_RATE, 100)):
        limit.set(Bandwidth(rate))
        assert allowance.lanes == lanes
        assert allowance.window <= max(rate / 2, 16 * 1024)
    assert UNLIMITED.window == WINDOW
    assert UNLIMITED.lanes > 10**6


@pytest.mark.parametrize(
    ("when", "open_"),
    [
        ((2026, 11, 20, 21, 59), False),  # a Friday
        ((2026, 11, 20, 22, 0), True),
        ((2026, 11, 21, 5, 59), True),
        ((2026, 11, 21, 6, 0), False),
        ((2026, 11, 21, 22, 0), False),
        ((2026, 11, 20, 5, 0), False),
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_it_begins_on(
    when: tuple[int, int, int, int, int], open_: bool
) -> None:
    bandwidth = parse_bandwidth({"fri 22:00-06:00": "1Mbit/s"})
    assert (bandwidth.rate_at(datetime(*when)) == MBIT) is open_  # noqa: DTZ001
