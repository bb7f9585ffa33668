"""Delays: jittered, bounded, and never shorter than a provider asked for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.retry import PARTS, PROBES, UPLOADS, Backoff

failures = st.integers(1, 10**9)
draws = st.floats(0, 1, exclude_max=True)


@given(failures, draws)
def test_a_delay_is_between_nothing_and_the_cap(count: int, draw: float) -> None:
    assert 0 <= UPLOADS.delay(count, lambda: draw) <= 300


@given(st.integers(1, 40), draws)
def test_the_ceiling_doubles_until_the_cap(count: int, draw: float) -> None:
    backoff = Backoff(base=0.5, cap=60)

    assert backoff.delay(count, lambda: draw) == pytest.approx(draw * min(60, 0.5 * 2 ** (count - 1)))


@given(failures, draws, st.floats(0, 1e6))
def test_retry_after_is_obeyed_beyond_the_cap_too(count: int, draw: float, asked: float) -> None:
    delay = UPLOADS.delay(count, lambda: draw, retry_after=asked)

    assert asked <= delay <= asked + UPLOADS.base


def test_a_herd_does_not_come_back_in_one_instant() -> None:
    draw = random.Random(1).random

    assert len({UPLOADS.delay(3, draw, retry_after=30) for _ in range(50)}) == 50
    spread = [UPLOADS.delay(9, draw) for _ in range(2_000)]
    assert min(spread) < 25
    assert max(spread) > 230


@pytest.mark.parametrize("count", [0, -1])
def test_there_is_no_delay_before_a_failure(count: int) -> None:
    with pytest.raises(ValueError, match="failure"):
        UPLOADS.delay(count, lambda: 0.5)


def test_a_mended_provider_is_noticed_within_a_minute() -> None:
    assert PROBES.cap <= 60
    assert PARTS.cap < UPLOADS.cap
