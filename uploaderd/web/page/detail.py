"""The page of one recording: where it is, what holds it, and all that happened to it."""

from __future__ import annotations

from collections.abc import Iterable

from uploaderd.model import RecordingState, UploadState
from uploaderd.report.lines import Tone, size
from uploaderd.report.model import HistoryLine, Recording, UploadLine
from uploaderd.report.pages import history_lines, state_shown
from uploaderd.report.why import Why
from uploaderd.web.page.listing import RECORDING, UPLOAD
from uploaderd.web.page.markup import Html, join, tag
from uploaderd.web.page.words import chip, facts, section, when


def recording(one: Recording, answer: Why, history: list[HistoryLine], *, cut: bool) -> Html:
    """All of it. `cut`: there is older history than is shown."""
    tone = RECORDING.get(RecordingState(one["state"]), Tone.QUIET)
    return join(
        tag("p", tag("a", "All recordings", href="/#recordings"), class_="back"),
        tag(
            "section",
            tag("h1", one["path"], class_="path"),
            tag("p", chip(state_shown(one), tone), " ", answer.next, class_="verdict"),
            facts(
                ("Source", one["source"]),
                ("Size", f"{size(one['size'])} ({one['size']:,} bytes)"),
                ("Finished", join(when(one["finished_at"]), f", by {one['finished_by']}")),
                ("Found", join(when(one["found_at"]), f", by {one['found_by']}")),
                ("Safe since", when(one["safe_at"], otherwise="not safe")),
                ("Local file", one["local"]),
                ("Reason", one["reason"]),
                ("Doubtful", one["doubt"]),
                ("Acknowledged", when(one["acknowledged_at"]) if one["acknowledged_at"] else None),
                ("Id", tag("code", one["id"])),
            ),
        ),
        tag(
            "section",
            section(
                "uploads",
                "At the providers",
                tag("div", (_upload(name, upload) for name, upload in one["uploads"].items()), class_="cards")
                if one["uploads"]
                else tag("p", "It is not queued for any.", class_="quiet"),
            ),
        ),
        tag("section", section("gates", "What it passed", _gates(answer))),
        tag("section", section("history", "History", _history(history, cut=cut))),
    )


def _upload(name: str, one: UploadLine) -> Html:
    tone = UPLOAD.get(UploadState(one["state"]), Tone.QUIET)
    error, proof = one["error"], one["proof"]
    return tag(
        "article",
        tag("header", tag("h3", name), chip(one["state"], tone)),
        facts(
            ("Cause", error["message"] if error is not None else None),
            ("Remedy", tag("strong", error["hint"]) if error is not None and error["hint"] else None),
            ("Next attempt", when(one["next_attempt_at"]) if one["next_attempt_at"] else None),
            ("Verified", when(one["verified_at"]) if one["verified_at"] else None),
            ("Since then", "a newer version took its place" if one["replaced"] else None),
            ("Proof", f"{proof['kind']}: {proof['value']}" if proof is not None else None),
            ("Bucket", one["bucket"]),
            ("Key", tag("code", one["key"])),
            ("Version", one["version_id"]),
            ("Attempts", one["attempts"]),
            ("Sent", size(one["bytes_sent"])),
            ("Required", "yes" if one["required"] else "no"),
        ),
        class_=f"card is-{tone.value}" if error is not None else "card",
    )


def _gates(answer: Why) -> Html:
    marks = {True: ("passed", Tone.GOOD), False: ("holds it", Tone.BAD), None: ("under way", Tone.LATE)}
    return tag(
        "ul",
        (
            tag(
                "li",
                chip(*marks[gate.passed]),
                tag(
                    "span",
                    *(tag("b", gate.name), " ", gate.text),
                    tag("strong", gate.remedy, class_="note") if gate.remedy else None,
                ),
            )
            for gate in answer.gates
        ),
        class_="gates",
    )


def _history(lines: list[HistoryLine], *, cut: bool) -> Html:
    """Newest first: what happened last is why somebody looks."""
    entries: Iterable[Html] = (
        tag("li", when(one["at"]), tag("span", *_texts(one))) for one in reversed(lines)
    )
    return join(
        tag("ol", entries, class_="history", reversed=True)
        if lines
        else tag("p", "Nothing has been tried yet.", class_="quiet"),
        tag("p", "Older history is not shown: uploaderd history.", class_="quiet") if cut else None,
    )


def _texts(one: HistoryLine) -> Iterable[Html | str]:
    """As the command line says it, without the time that stands before it."""
    first, *more = (line.text for line in history_lines(one, named=False))
    yield first.removeprefix(one["at"]).strip()
    for text in more:
        yield tag("span", text.strip(), class_="note")
