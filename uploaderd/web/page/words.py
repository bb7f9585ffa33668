"""Times, marks and other small things that every part of the page has."""

from __future__ import annotations

from typing import Final

from uploaderd.report.lines import Tone, span
from uploaderd.report.model import Problem, seconds_since
from uploaderd.web.page.markup import Content, Html, join, tag

SHAPES: Final = {
    Tone.GOOD: "M5 12.5l4.5 4.5L19 7.5",
    Tone.LATE: "M12 6.5v6l4 2.5",
    Tone.BAD: "M12 6v7.5M12 17.4v.2",
    Tone.QUIET: "M7 12h10",
    Tone.PLAIN: "M7 12h10",
}
"""Drawn inside a circle: what a colour says must be seen without it too."""


def mark(tone: Tone) -> Html:
    """A sign for the eye alone; the words beside it say the same."""
    return tag(
        "svg",
        tag("circle", cx=12, cy=12, r=11),
        tag("path", d=SHAPES[tone]),
        class_=f"mark is-{tone.value}",
        viewBox="0 0 24 24",
        aria_hidden="true",
    )


def chip(text: str, tone: Tone) -> Html:
    """A state."""
    return tag("span", mark(tone), text, class_=f"chip is-{tone.value}")


def when(time: str | None, *, otherwise: str = "never") -> Html:
    """A moment in UTC; with JavaScript in the reader's own time zone."""
    if time is None:
        return tag("span", otherwise, class_="quiet")
    return tag("time", f"{time[:10]} {time[11:19]} UTC", datetime=time)


def ago(time: str | None, now: str, *, otherwise: str = "never") -> Html:
    """How long ago, in a unit that does not change with every second."""
    if time is None:
        return tag("span", otherwise, class_="quiet")
    seconds = seconds_since(time, now)
    if seconds < 0:
        # Two clocks, or a jump of one: no nonsense such as "-3 s ago".
        return when(time)
    text = "just now" if seconds < 60 else f"{coarse(seconds)} ago"
    return tag("time", text, datetime=time, title=f"{time[:10]} {time[11:19]} UTC")


def coarse(seconds: float) -> str:
    """`12 min`, `3 h`, `5 days`."""
    if seconds < 60:
        return span(seconds)
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    if seconds < 129_600:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / 86_400)} days"


def problem(what: Problem, now: str, *more: Content) -> Html:
    """A cause, since when, and the remedy."""
    return facts(
        ("Cause", what["message"]),
        ("Since", ago(what["since"], now) if what["since"] is not None else None),
        ("Remedy", tag("strong", what["hint"]) if what["hint"] else None),
        *more,
    )


def facts(*pairs: Content) -> Html:
    """Names and values, as a list; pairs without a value are left out."""
    return tag(
        "dl",
        (
            tag("div", tag("dt", name), tag("dd", value))
            for name, value in (pair for pair in pairs if isinstance(pair, tuple))
            if value is not None
        ),
        class_="facts",
    )


def section(name: str, title: str, *content: Content, aside: Content = None) -> Html:
    """A part of the page with its heading."""
    return join(tag("header", tag("h2", title, id=f"{name}-title"), aside), *content)
