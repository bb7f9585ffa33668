"""A limit on bytes per second, the same all day or by time of day.

    bandwidth = "40Mbit/s"
    bandwidth = { default = "unlimited", "mon-fri 08:00-18:00" = "20Mbit/s" }

The first window, in the order written, that holds the machine's local time decides; outside of all
windows `default` does (unlimited, if it is not given).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from uploaderd.config.units import format_rate, parse_rate

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WHEN: Final = re.compile(
    r"(?:(?P<days>[a-z,-]+) )?(?P<h1>[0-9]{2}):(?P<m1>[0-9]{2})-(?P<h2>[0-9]{2}):(?P<m2>[0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the week with a rate of its own.

    Attributes:
        when: as it was written.
        days: on which it begins; 0 is Monday, as in `datetime.weekday`.
        start, end: minutes since midnight; an end that is not after the start is on the next day.
        rate: bytes per second; None is unlimited.
    """

    when: str
    days: frozenset[int]
    start: int
    end: int
    rate: int | None

    def holds(self, day: int, minute: int) -> bool:
        """Whether it is open on this day of the week, so many minutes after midnight."""
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        began_yesterday = (day - 1) % 7 in self.days
        return (day in self.days and minute >= self.start) or (began_yesterday and minute < self.end)


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """`rate` (bytes per second; None is unlimited) outside of all `windows`."""

    rate: int | None = None
    windows: tuple[Window, ...] = ()

    def rate_at(self, when: datetime) -> int | None:
        """The rate that holds at a local time."""
        day, minute = when.weekday(), when.hour * 60 + when.minute
        holds = (window.rate for window in self.windows if window.holds(day, minute))
        return next(holds, self.rate)

    @property
    def least(self) -> int | None:
        """The lowest rate that ever holds; None if there is no limit at all."""
        rates = (self.rate, *(window.rate for window in self.windows))
        return min((rate for rate in rates if rate is not None), default=None)


def parse_bandwidth(value: object) -> Bandwidth:
    """A rate, or a table of windows with their rates.

    Raises:
        ValueError: neither; the message names the window.
    """
    if isinstance(value, Bandwidth):
        return value
    if not isinstance(value, dict):
        return Bandwidth(parse_rate(value))
    windows = []
    for when, rate in value.items():
        try:
            if when != "default":
                windows.append(_window(when, parse_rate(rate)))
            else:
                parse_rate(rate)
        except ValueError as error:
            raise ValueError(f'"{when}": {error}') from None
    return Bandwidth(parse_rate(value.get("default", "unlimited")), tuple(windows))


def format_bandwidth(bandwidth: Bandwidth) -> str | dict[str, str]:
    """What `parse_bandwidth` reads back as the same."""
    if not bandwidth.windows:
        return format_rate(bandwidth.rate)
    return {"default": format_rate(bandwidth.rate)} | {
        window.when: format_rate(window.rate) for window in bandwidth.windows
    }


def _window(when: str, rate: int | None) -> Window:
    match = _WHEN.fullmatch(when)
    if match is None:
        raise ValueError(
            'not a window; write one such as "mon-fri 08:00-18:00", "sat,sun 00:00-24:00" or "22:00-06:00"'
        )
    start, end = (int(match[f"h{n}"]) * 60 + int(match[f"m{n}"]) for n in "12")
    if start >= 1440 or end > 1440 or int(match["m1"]) > 59 or int(match["m2"]) > 59 or start == end:
        raise ValueError("not two different times between 00:00 and 24:00")
    days: set[int] = set()
    for span in (match["days"] or "mon-sun").split(","):
        first, _, last = span.partition("-")
        last = last or first
        if first not in DAYS or last not in DAYS:
            raise ValueError(f"{span!r} is not a day or a span of days (" + ", ".join(DAYS) + ")")
        begin, length = DAYS.index(first), (DAYS.index(last) - DAYS.index(first)) % 7
        days.update((begin + step) % 7 for step in range(length + 1))
    return Window(when, frozenset(days), start, end, rate)
