"""The table of recordings: searched, filtered, a page at a time; every address of it can be kept."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from uploaderd.config import Config
from uploaderd.model import RecordingState, UploadState
from uploaderd.report.lines import Tone, size
from uploaderd.report.model import Recording, Status, UploadLine
from uploaderd.report.pages import REPLACED, state_shown
from uploaderd.web.asking import Asked
from uploaderd.web.page.markup import Content, Html, join, tag
from uploaderd.web.page.words import chip, section, when

RECORDING: Final = {
    RecordingState.SAFE: Tone.GOOD,
    RecordingState.WAITING: Tone.LATE,
    RecordingState.FAILED: Tone.BAD,
    RecordingState.LOST: Tone.BAD,
    RecordingState.HELD: Tone.BAD,
}
UPLOAD: Final = {
    UploadState.VERIFIED: Tone.GOOD,
    UploadState.FAILED: Tone.BAD,
    UploadState.RETRYING: Tone.LATE,
    UploadState.UPLOADING: Tone.LATE,
    UploadState.COMPLETING: Tone.LATE,
}


def recordings(
    page: list[Recording], before: int | None, asked: Asked, status: Status, config: Config
) -> Html:
    """The form, the table and the way on."""
    return section(
        "recordings",
        "Recordings",
        _form(asked, status),
        _rows(page) if page else _nothing(before, asked, config),
        _way_on(len(page), before, asked),
    )


def _form(asked: Asked, status: Status) -> Html:
    def choice(name: str, text: str, values: list[str], chosen: str | None) -> Html:
        options = [tag("option", "any", value="")]
        options += [tag("option", value, value=value, selected=value == chosen) for value in values]
        field = tag("select", options, name=name, id=f"by-{name}")
        return tag("div", tag("label", text, for_=f"by-{name}"), field)

    return tag(
        "form",
        tag(
            "div",
            tag("label", "Part of the path", for_="by-q"),
            tag("input", type="search", name="q", id="by-q", value=asked.part, autocomplete="off"),
            class_="wide",
        ),
        choice("state", "State", [str(one) for one in RecordingState], asked.state),
        choice("source", "Source", [one["name"] for one in status["sources"]], asked.source),
        choice("provider", "Provider", [one["name"] for one in status["providers"]], asked.provider),
        tag("button", "Search", type="submit"),
        tag("a", "All of them", href="/#recordings") if asked.filtered else None,
        action="/#recordings",
        role="search",
        aria_label="Recordings",
    )


def _rows(page: list[Recording]) -> Html:
    # With the roles said: laid out as blocks on a narrow screen, it is a table to a screen reader still.
    columns = ("Recording", "State", "Size", "Finished", "Providers")
    head = (tag("th", name, scope="col", role="columnheader") for name in columns)
    return tag(
        "table",
        tag("caption", "Recordings, newest first", class_="unseen"),
        tag("thead", tag("tr", head, role="row"), role="rowgroup"),
        tag("tbody", (_row(one) for one in page), role="rowgroup"),
        class_="recordings",
        role="table",
    )


def _row(one: Recording) -> Html:
    tone = RECORDING.get(RecordingState(one["state"]), Tone.QUIET)
    if state_shown(one) == REPLACED:
        tone = Tone.QUIET
    return tag(
        "tr",
        tag(
            "th",
            tag("a", one["path"], href=f"/recordings/{one['id']}", class_="path"),
            tag("span", one["source"], class_="quiet"),
            tag("span", "an older version", class_="note") if one["local"] == "replaced" else None,
            tag("span", one["reason"], class_="note") if one["reason"] is not None else None,
            tag("span", f"doubtful: {one['doubt']}", class_="note") if one["doubt"] is not None else None,
            scope="row",
            role="rowheader",
        ),
        tag(
            "td",
            chip(state_shown(one), tone),
            tag("span", "acknowledged", class_="quiet") if one["acknowledged_at"] is not None else None,
            role="cell",
        ),
        tag("td", size(one["size"]), class_="number", role="cell"),
        tag("td", when(one["finished_at"]), role="cell"),
        tag("td", outcomes(one["uploads"]), role="cell"),
        role="row",
    )


def outcomes(uploads: dict[str, UploadLine]) -> Html:
    """What became of it at each provider; where it is not well, why."""
    return tag(
        "ul",
        (
            tag(
                "li",
                chip(name, UPLOAD.get(UploadState(one["state"]), Tone.QUIET)),
                tag("span", f"{one['state']}", class_="unseen" if one["state"] == "verified" else "quiet"),
                tag("span", one["error"]["message"], class_="note") if one["error"] is not None else None,
            )
            for name, one in uploads.items()
        ),
        class_="outcomes",
    )


def _nothing(before: int | None, asked: Asked, config: Config) -> Html:
    if before is not None:
        return tag("p", "None found so far: the search has not come to its end.", class_="empty")
    if asked.before is not None:
        return tag("p", "There are no older ones.", class_="empty")
    if asked.filtered:
        return tag("p", "No recording is like that. The case of letters matters.", class_="empty")
    places = (
        tag("li", tag("span", str(source.path), class_="path"), f" ({', '.join(source.include)})")
        for source in config.sources.values()
    )
    return tag(
        "div",
        tag("p", "No recordings yet. A file appears here as soon as it is finished, in"),
        tag("ul", places),
        class_="empty",
    )


def _way_on(shown: int, before: int | None, asked: Asked) -> Content:
    links: list[Content] = []
    if asked.before is not None:
        links.append(tag("a", "Newest", href=address(asked)))
    if before is not None:
        text = "Older" if shown >= asked.limit else "Search on, among older ones"
        links.append(tag("a", text, href=address(asked, before), rel="next"))
    return tag("nav", join(links), aria_label="Pages of recordings", class_="pages") if links else None


def address(asked: Asked, before: int | None = None) -> str:
    """The address of the page with these filters."""
    query = asked.query | ({"cursor": str(before)} if before is not None else {})
    return f"/?{urlencode(query)}#recordings" if query else "/#recordings"
