"""How things stand: the one word and why, who needs a person, providers, uploads under way, sources.

Each function makes one section of the page, from the status model alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from uploaderd.model import ProviderState, SourceState, Word
from uploaderd.report.lines import Tone, count, rate, size, span
from uploaderd.report.model import (
    Problem,
    ProviderLine,
    SourceLine,
    Status,
    UploadingLine,
    WebhookLine,
    seconds_since,
)
from uploaderd.report.text import TONES, all_well
from uploaderd.web.page.markup import Content, Html, join, tag
from uploaderd.web.page.words import ago, chip, coarse, facts, mark, problem, section

_PROVIDER: Final = {
    ProviderState.OK: Tone.GOOD,
    ProviderState.RETRYING: Tone.LATE,
    ProviderState.PAUSED: Tone.BAD,
}
_SOURCE: Final = {SourceState.OK: Tone.GOOD, SourceState.PAUSED: Tone.LATE, SourceState.MISSING: Tone.BAD}

_MEANS: Final = {
    Word.SAFE: "Nothing is late, and nothing needs a person.",
    Word.BEHIND: "Recordings have been waiting for too long.",
    Word.FAILING: "Something needs a person.",
    Word.STOPPED: "Nothing is watched, nothing is sent.",
}


def banner(status: Status) -> Html:
    """The one word, and why."""
    word = Word(status["state"])
    tone = TONES[word]
    reasons = status["reasons"] or [all_well(status)]
    return tag(
        "div",
        mark(tone),
        tag(
            "div",
            tag("h1", tag("span", "Is everything safe? ", class_="unseen"), word),
            tag("p", _MEANS[word], class_="means"),
            tag("ul", (tag("li", _sentence(one)) for one in reasons)),
        ),
        class_=f"banner is-{tone.value}",
    )


def counts(status: Status) -> Html:
    """The figures that matter, each with the list that shows them."""
    found = status["recordings"]
    oldest = found["oldest_waiting_at"]
    waiting: Content = (
        f"{size(found['waiting_bytes'])}, the oldest for {_since(oldest, status['at'])}" if oldest else "none"
    )
    alarming = ", ".join(f"{found[one]:,} {one}" for one in ("failed", "lost", "held") if found[one])
    other = ", ".join(f"{found[one]:,} {one}" for one in ("skipped", "superseded") if found[one])
    figures = (
        ("Safe", found["safe"], f"of {count(found['total'], 'recording')}", "safe", Tone.PLAIN),
        ("Waiting", found["waiting"], waiting, "waiting", Tone.PLAIN),
        (
            "Need a person", found["alarming"], alarming or "no recording", None,
            Tone.BAD if found["alarming"] else Tone.PLAIN,
        ),
    )  # fmt: skip
    return join(
        tag(
            "ul",
            (
                tag(
                    "li",
                    tag("span", name, class_="name"),
                    tag("a", f"{figure:,}", href=f"/?state={state}#recordings", class_="figure")
                    if state is not None
                    else tag("a", f"{figure:,}", href="#person", class_=f"figure is-{tone.value}"),
                    tag("span", text, class_="quiet"),
                )
                for name, figure, text, state, tone in figures
            ),
            class_="figures",
        ),
        tag("p", f"Besides: {other}.", class_="quiet") if other else None,
    )


def person(status: Status) -> Html:
    """Recordings and the ledger's own trouble: what a person has to act on, beside the providers."""
    trouble = status["ledger"]["problem"]
    if trouble is None and not status["troubled"]:
        return Html("")
    shown = len(status["troubled"])
    more = status["recordings"]["alarming"] - shown
    return section(
        "person",
        "Needs a person",
        tag("article", tag("h3", "The ledger"), problem(trouble, status["at"]), class_="card is-bad")
        if trouble is not None
        else None,
        tag(
            "ul",
            (
                tag(
                    "li",
                    tag("div", chip(one["state"], Tone.BAD), " ", tag("b", one["path"], class_="path")),
                    facts(
                        ("Source", one["source"]),
                        ("Cause", one["message"] or None),
                        ("Remedy", tag("strong", one["hint"]) if one["hint"] else None),
                    ),
                )
                for one in status["troubled"]
            ),
            class_="troubled",
        )
        if status["troubled"]
        else None,
        tag("p", f"and {more:,} more, in the list of recordings below.", class_="quiet")
        if more > 0
        else None,
    )


def providers(status: Status) -> Html:
    """A card each."""
    return _cards("providers", "Providers", (_provider(one, status["at"]) for one in status["providers"]))


def _provider(one: ProviderLine, now: str) -> Html:
    tone = _PROVIDER.get(ProviderState(one["state"]), Tone.QUIET)
    trouble = one["problem"]
    again: Content = None
    if trouble is not None and one["next_probe_at"] is not None:
        left = -seconds_since(one["next_probe_at"], now)
        again = f"{f'in {span(left)}' if left >= 1 else 'now'} (attempt {one['probes'] + 1})"
    return tag(
        "article",
        tag(
            "header",
            tag("h3", one["name"]),
            tag("span", one["type"], class_="quiet"),
            chip(one["state"], tone),
        ),
        facts(
            ("Verified", f"{one['verified']:,}"),
            ("Waiting", f"{one['waiting']:,}"),
            ("Failed", tag("span", f"{one['failed']:,}", class_="is-bad" if one["failed"] else None)),
            ("Rate", rate(one["rate_bytes_per_second"])),
            ("Last success", ago(one["last_verified_at"], now)),
        ),
        _trouble(trouble, now, ("Asked again", again)),
        class_=f"card is-{tone.value}" if trouble is not None else "card",
    )


def uploading(status: Status) -> Html:
    """What is under way."""
    rows = status["uploading"]
    return section(
        "uploading",
        "Uploading now",
        tag("ul", (_upload(one) for one in rows), class_="uploads")
        if rows
        else tag("p", "Nothing is on its way at this moment.", class_="quiet"),
        aside=tag("span", f"{len(rows)}", class_="quiet") if rows else None,
    )


def _upload(one: UploadingLine) -> Html:
    sent, whole = one["bytes_sent"] or 0, one["size"]
    share = 100 if whole == 0 else min(100, 100 * sent // whole)
    told = [
        f"{size(sent)} of {size(whole)}",
        rate(one["rate_bytes_per_second"]),
        f"{span(one['eta_seconds'])} left" if one["eta_seconds"] is not None else "",
        f"resumed from {size(one['resumed_from'])}" if one["resumed_from"] else "",
    ]
    name = f"{one['path']} to {one['provider']}"
    return tag(
        "li",
        tag(
            "div", tag("b", one["path"], class_="path"), tag("span", f"to {one['provider']}", class_="quiet")
        ),
        tag("progress", f"{share} %", value=share, max=100, aria_label=name),
        tag("div", tag("span", f"{share} %"), tag("span", " · ".join(filter(None, told)), class_="quiet")),
    )


def sources(status: Status) -> Html:
    """A line each."""
    return _cards("sources", "Sources", (_source(one, status["at"]) for one in status["sources"]))


def _source(one: SourceLine, now: str) -> Html:
    trouble = one["problem"]
    tone = Tone.BAD if trouble is not None else _SOURCE[SourceState(one["state"])]
    state = one["state"]
    if state == SourceState.OK and trouble is not None:
        state = "silent" if one["silent_since"] is not None else "partly unseen"
    return tag(
        "article",
        tag("header", tag("h3", one["name"]), chip(state, tone)),
        tag("p", one["path"], class_="path"),
        facts(
            ("Free", size(one["free_bytes"]) if one["free_bytes"] is not None else "not known"),
            ("Last swept", ago(one["last_sweep_at"], now, otherwise="not yet")),
            ("Last recording", ago(one["last_recording_at"], now, otherwise="none yet")),
            *_notes(one),
        ),
        _trouble(trouble, now),
        class_=f"card is-{tone.value}",
    )


def webhooks(status: Status) -> Html:
    """Who is told; nothing, where nobody is."""
    if not status["webhooks"]:
        return Html("")
    return _cards("webhooks", "Webhooks", (_webhook(one, status["at"]) for one in status["webhooks"]))


def _webhook(one: WebhookLine, now: str) -> Html:
    trouble = one["problem"]
    chipped = chip("ok", Tone.GOOD) if trouble is None else chip("failing", Tone.LATE)
    return tag(
        "article",
        tag("header", tag("h3", one["name"]), chipped),
        facts(
            ("Waiting", f"{one['waiting']:,}"),
            ("Delivered", f"{one['delivered']:,}"),
            ("Given up", f"{one['given_up']:,}"),
            ("Last delivered", ago(one["last_delivered_at"], now)),
        ),
        _trouble(trouble, now),
        class_=f"card is-{Tone.LATE.value}" if trouble is not None else "card",
    )


def _cards(name: str, title: str, cards: Iterable[Html]) -> Html:
    return section(name, title, tag("div", cards, class_="cards"))


def _trouble(trouble: Problem | None, now: str, *more: Content) -> Html | None:
    """What is wrong, in a card; nothing, where nothing is."""
    return tag("div", problem(trouble, now, *more), class_="trouble") if trouble is not None else None


def _notes(one: SourceLine) -> Iterable[tuple[str, str]]:
    if one["state"] == SourceState.PAUSED:
        yield "Remedy", f"uploaderd resume {one['name']}"
    if one["polling"] is not None:
        yield "Polled", one["polling"]
    if one["lease"] is False:
        yield "Finished", "by quiet time alone: writers cannot be seen here"


def _sentence(reason: str) -> str:
    return reason[:1].upper() + reason[1:]


def _since(time: str, now: str) -> str:
    return coarse(seconds_since(time, now))
