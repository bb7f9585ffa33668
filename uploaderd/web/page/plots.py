"""The last hours as plots: what waited, and what was sent to whom. Pure; and as tables, for who reads those.

Only the shapes are in the drawing: it is stretched to the width there is, and letters must not be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from uploaderd.ledger.samples import EVERY, SHOWN, Backlog, Lately, Sent
from uploaderd.report.lines import count, rate, size
from uploaderd.web.page.markup import Content, Html, tag
from uploaderd.web.page.words import section

HOURS: Final = SHOWN // 3_600_000
WIDTH: Final = SHOWN // EVERY
"""Of the drawing: one unit a minute."""

HEIGHT: Final = 100
BAR: Final = 5
"""Minutes that one bar of the throughput stands for."""

COLOURS: Final = 6
"""Then they begin again."""


def plots(lately: Lately | None, waiting: Backlog, names: Sequence[str]) -> Html:
    """Both plots. `waiting` is the backlog now; `names` are the providers', in their order."""
    if lately is None:
        return Html("")
    known = [name for name in names if name in lately.sent]
    known += [name for name in lately.sent if name not in names]
    bars = {name: _bars(lately.sent[name], waiting.at) for name in known}
    backlog = [*(one for one in lately.backlog if one.at <= waiting.at), waiting]
    return section(
        "lately",
        f"The last {HOURS} hours",
        tag("div", _backlog(backlog), _sent(bars), class_="plots"),
        _table(backlog, lately.sent, known, waiting.at),
    )


def _backlog(backlog: Sequence[Backlog]) -> Html:
    now = backlog[-1]
    shown = _within(backlog, now.at - SHOWN)
    most = max(one.recordings for one in shown)
    now_text = f"{count(now.recordings, 'recording')}, {size(now.bytes)}" if now.recordings else "none now"
    path: list[str] = []
    for one in shown:
        x, y = _x(one.at, now.at), _y(one.recordings, most)
        path.append(f"H{x:g}V{y:g}" if path else f"M{x:g} {y:g}")
    line = "".join(path) + f"H{WIDTH}"
    area = f"{line}V{HEIGHT}H{_x(shown[0].at, now.at):g}Z"
    shapes = (
        [tag("path", d=area, class_="area"), tag("path", d=line, class_="line")] if most else []
    )  # fmt: skip
    text = f"Waiting over the last {HOURS} hours: at most {count(most, 'recording')}; {now_text}."
    return _figure("Waiting", now_text, f"{most:,}" if most else "0", text, shapes)


def _sent(bars: Mapping[str, Sequence[float]]) -> Html:
    count_ = WIDTH // BAR
    sums = [sum(heights[index] for heights in bars.values()) for index in range(count_)]
    most = max(sums)
    below = [0.0] * count_
    shapes: list[Content] = []
    for index, heights in enumerate(bars.values()):
        path = ""
        for bar, height in enumerate(heights):
            if height > 0:
                bottom, top = _y(below[bar], most), _y(below[bar] + height, most)
                path += f"M{bar * BAR + 0.5:g} {bottom:g}V{top:g}h{BAR - 1}V{bottom:g}z"
                below[bar] += height
        shapes.append(tag("path", d=path, class_=f"bar p{index % COLOURS}"))
    legend = tag(
        "ul",
        (tag("li", _key(index), name) for index, name in enumerate(bars)),
        class_="legend",
    )
    per = f"{BAR}-minute averages"
    text = f"Sent over the last {HOURS} hours, all providers together, in {per}: at most {rate(most)}."
    return _figure("Sent", per, rate(most) if most else "0", text, shapes, legend if bars else None)


def _key(index: int) -> Html:
    box = tag("rect", width=10, height=10, rx=2, class_=f"bar p{index % COLOURS}")
    return tag("svg", box, viewBox="0 0 10 10", aria_hidden="true")


def _figure(
    title: str, now: str, top: str, text: str, shapes: Sequence[Content], legend: Content = None
) -> Html:
    grid = (
        tag("line", x1=x, x2=x, y1=0, y2=HEIGHT, class_="grid") for x in range(0, WIDTH + 1, WIDTH // HOURS)
    )
    svg = tag(
        "svg",
        grid,
        tag("line", x1=0, x2=WIDTH, y1=HEIGHT, y2=HEIGHT, class_="axis"),
        shapes,
        viewBox=f"0 -2 {WIDTH} {HEIGHT + 3}",
        preserveAspectRatio="none",
        role="img",
        aria_label=text,
    )
    hours = tag(
        "div",
        (tag("span", f"{hour} h ago" if hour else "now") for hour in range(HOURS, -1, -2)),
        class_="hours",
        aria_hidden="true",
    )
    return tag(
        "figure",
        tag("figcaption", tag("h3", title), tag("span", now, class_="quiet"), legend),
        tag("div", tag("span", top, class_="top", aria_hidden="true"), svg, class_="frame"),
        hours,
        class_="plot",
    )


def _table(
    backlog: Sequence[Backlog], sent: Mapping[str, Sequence[Sent]], names: Sequence[str], now: int
) -> Html:
    """Hour by hour, the newest first."""
    rows: list[Html] = []
    for hour in range(HOURS):
        until, since = now - hour * 3_600_000, now - (hour + 1) * 3_600_000
        most = max(one.recordings for one in _within([one for one in backlog if one.at <= until], since))
        went = (sum(one.bytes for one in sent[name] if since < one.at <= until) for name in names)
        rows.append(
            tag(
                "tr",
                tag("th", f"{hour} to {hour + 1} h ago", scope="row"),
                tag("td", f"{most:,}"),
                (tag("td", size(each)) for each in went),
            )
        )
    head = tag(
        "tr",
        tag("th", "When", scope="col"),
        tag("th", "Most waiting", scope="col"),
        (tag("th", f"Sent to {name}", scope="col") for name in names),
    )
    table = tag("table", tag("thead", head), tag("tbody", rows))
    return tag(
        "details",
        tag("summary", "The same as a table"),
        tag("div", table, class_="scroll"),
        id="lately-table",
    )


def _within(backlog: Sequence[Backlog], since: int) -> list[Backlog]:
    """What was from then on: the last one before it had not ended then. Nothing waited before the first."""
    before = [one for one in backlog if one.at < since]
    first = Backlog(since, *before[-1][1:]) if before else Backlog(since, 0, 0)
    return [first, *(one for one in backlog if one.at >= since)]


def _bars(sent: Sequence[Sent], now: int) -> list[float]:
    """Bytes a second in each bar, the oldest first."""
    bars = [0.0] * (WIDTH // BAR)
    for one in sent:
        # A sample tells of the minute before it.
        index = int(_x(one.at - EVERY // 2, now) // BAR)
        if 0 <= index < len(bars):
            bars[index] += one.bytes / (BAR * EVERY / 1000)
    return bars


def _x(at: int, now: int) -> float:
    return round(WIDTH - (now - at) / EVERY, 2)


def _y(value: float, most: float) -> float:
    return round(HEIGHT - HEIGHT * value / most, 2) if most else HEIGHT
