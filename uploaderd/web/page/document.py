"""A whole document: style and script are in it, and it may load nothing else."""

from __future__ import annotations

import base64
import hashlib
import socket
from importlib.resources import files
from typing import Final
from urllib.parse import quote

from uploaderd import __version__
from uploaderd.config import Config
from uploaderd.ledger.samples import Backlog
from uploaderd.model import Word
from uploaderd.report.model import Status
from uploaderd.report.text import TONES
from uploaderd.web.page import now as sections
from uploaderd.web.page.markup import Content, Html, tag
from uploaderd.web.page.plots import plots
from uploaderd.web.page.words import SHAPES, when
from uploaderd.web.reading import Now

_HERE: Final = files("uploaderd.web.page")
STYLE: Final = _HERE.joinpath("style.css").read_text(encoding="utf-8")
SCRIPT: Final = _HERE.joinpath("live.js").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src {_hash(STYLE)}",
        f"script-src {_hash(SCRIPT)}",
        "img-src data:",  # the icon
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""The Content-Security-Policy: whatever else got into the document would not run, and could not call home."""

_GREEN, _AMBER, _RED = "#1a7f4b", "#9a6700", "#c0362c"
_COLOURS: Final = {Word.SAFE: _GREEN, Word.BEHIND: _AMBER, Word.FAILING: _RED, Word.STOPPED: _RED}

_LOST: Final = (
    "The daemon has not answered since ",
    ". What is shown is from then.",
    "Look on the machine itself: ",
    ". This page goes on by itself.",
)
_STILL: Final = "Without JavaScript this page stays as it is: load it again to see the present."


def fragments(now: Now) -> dict[str, Html]:
    """The parts that change while one looks, by their ids."""
    status = now.status
    waiting = status["recordings"]
    backlog = Backlog(now.at, waiting["waiting"], waiting["waiting_bytes"])
    return {
        "asof": tag("span", "As of ", when(status["at"])),
        "banner": sections.banner(status),
        "counts": sections.counts(status),
        "person": sections.person(status),
        "providers": sections.providers(status),
        "uploading": sections.uploading(status),
        "lately": plots(now.lately, backlog, [one["name"] for one in status["providers"]]),
        "sources": sections.sources(status),
        "webhooks": sections.webhooks(status),
    }


def overview(now: Now, config: Config, recordings: Html) -> str:
    """The status page."""
    parts = fragments(now)
    return _document(
        title(now.status, config),
        Word(now.status["state"]),
        _header(config, parts["asof"]),
        tag("section", parts["banner"], id="banner", role="status"),
        tag("section", parts["counts"], id="counts", aria_label="Figures"),
        (_section(name, parts[name]) for name in ("person", "providers", "uploading", "lately")),
        _section("recordings", recordings),
        (_section(name, parts[name]) for name in ("sources", "webhooks")),
        _footer(now.status),
        live=True,
    )


def page(name: str, config: Config, word: Word, *content: Content) -> str:
    """Another document in the same dress."""
    return _document(
        f"{name} · uploaderd on {place(config)}", word, _header(config, None), content, live=False
    )


def title(status: Status, config: Config) -> str:
    """What the browser's tab says: the word first."""
    return f"{status['state']} · uploaderd on {place(config)}"


def place(config: Config) -> str:
    """Where this is."""
    return config.daemon.site or socket.gethostname()


def icon(word: Word) -> str:
    """A sign for the browser's tab, as an address that holds it."""
    shape = SHAPES[TONES[word]]
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><circle cx="12" cy="12" r="12"'
        f' fill="{_COLOURS[word]}"/><path d="{shape}" fill="none" stroke="#fff" stroke-width="3"'
        f' stroke-linecap="round" stroke-linejoin="round"/></svg>'
    )
    return f"data:image/svg+xml,{quote(svg)}"


def _section(name: str, content: Html) -> Html:
    return tag("section", content, id=name, aria_labelledby=f"{name}-title")


def _header(config: Config, asof: Content) -> Html:
    return tag(
        "header",
        tag("a", tag("b", "uploaderd"), tag("span", f" on {place(config)}"), href="/", class_="brand"),
        tag("div", asof, id="asof", class_="quiet") if asof is not None else None,
        class_="masthead",
    )


def _footer(status: Status) -> Html:
    daemon = status["daemon"]
    return tag(
        "footer",
        tag("span", f"uploaderd {daemon['version'] or __version__}, process {daemon['pid']}, running since "),
        when(daemon["started_at"]),
        tag("span", ". This page only tells; to act, use the command line: "),
        tag("code", "uploaderd --help"),
        class_="quiet",
    )


def _document(name: str, word: Word, header: Html, *content: Content, live: bool) -> str:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("title", name),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="robots", content="noindex"),
        tag("link", rel="icon", href=icon(word), id="icon"),
        tag("style", Html(STYLE)),
    )
    lost = tag(
        "div",
        tag("h2", "No answer"),
        tag("p", _LOST[0], tag("span", id="lost-since"), _LOST[1]),
        tag("p", _LOST[2], tag("code", "uploaderd status"), _LOST[3]),
        id="lost",
        class_="lost",
        role="alert",
        hidden=True,
    )  # fmt: skip
    body = tag(
        "body",
        tag("a", "To the content", href="#main", class_="skip"),
        header,
        tag("main", lost if live else None, content, id="main", tabindex="-1"),
        tag("noscript", tag("p", _STILL)) if live else None,
        tag("script", Html(SCRIPT)),
        data_live=live,
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"
