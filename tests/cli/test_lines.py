"""Figures as people read them."""

from __future__ import annotations

import pytest

from uploaderd.report.lines import count, rate, size, span, table


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (6_549_825_536, "6.1 GiB"),
        (2**60, "1024.0 PiB"),
    ],
)
def test_size(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (59.9, "59s"),
        (60, "1m 00s"),
        (3599, "59m 59s"),
        (7500, "2h 05m"),
        (86_400 * 400 + 3600, "400d 01h"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_rate_count_and_table() -> None:
    assert (rate(None), rate(0.0), rate(18_874_368.0)) == ("-", "0 B/s", "18.0 MiB/s")
    assert (count(1, "recording"), count(1204, "recording")) == ("1 recording", "1,204 recordings")
    assert table([("a", "bbb", ""), ("aaaa", "b", "c")]) == ["  a     bbb", "  aaaa  b    c"]
    assert table([]) == []
