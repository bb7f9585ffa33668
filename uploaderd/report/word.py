"""The one word and its reasons, by DESIGN's table, from the status model alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from uploaderd.model import ProviderState, SourceState, Word
from uploaderd.report.lines import count
from uploaderd.report.model import Status, seconds_since

UNSEEN_HINT: Final = "let the daemon's user read them"


def judge(status: Status, behind_after: float) -> tuple[Word, list[str]]:
    """The one word, and why: the gravest reason first, which names the word. `behind_after` is in seconds."""
    found = [
        *((Word.STOPPED, why) for why in _stopped(status)),
        *((Word.FAILING, why) for why in _failing(status)),
        *((Word.BEHIND, why) for why in _behind(status, behind_after)),
    ]
    return (found[0][0] if found else Word.SAFE), [why for _, why in found]


def _stopped(status: Status) -> Iterable[str]:
    if not status["daemon"]["running"]:
        yield f"no daemon holds the ledger {status['ledger']['path']}: nothing is watched, nothing is sent"


def _failing(status: Status) -> Iterable[str]:
    if (problem := status["ledger"]["problem"]) is not None:
        yield f"the ledger is in trouble: {problem['message']}"
    for provider in status["providers"]:
        if provider["state"] == ProviderState.PAUSED:
            why = f": {provider['problem']['message']}" if provider["problem"] else ""
            yield f"provider {provider['name']} is paused{why}"
        if provider["in_trouble"]:
            what = count(provider["in_trouble"], "upload")
            yield f"provider {provider['name']}: {what} failed again and again; still tried"
    for source in status["sources"]:
        if source["state"] == SourceState.MISSING:
            yield f"source {source['name']} is missing: {source['path']}"
        if source["silent_since"] is not None and source["problem"] is not None:
            yield f"source {source['name']} is silent: {source['problem']['message']}"
        if source["unseen"] is not None:
            yield f"source {source['name']} has {unseen_folders(source['unseen'])}: {UNSEEN_HINT}"
    counts = status["recordings"]
    if counts["alarming"]:
        kinds = [f"{counts[kind]} {kind}" for kind in ("failed", "lost", "held") if counts[kind]]
        yield f"recordings need a person: {', '.join(kinds)}"
    if not status["sources"]:
        yield "no source is configured: nothing is watched"
    if all(p["state"] in (ProviderState.DISABLED, ProviderState.RETIRED) for p in status["providers"]):
        yield "no provider is enabled: nothing can become safe"


def _behind(status: Status, behind_after: float) -> Iterable[str]:
    counts = status["recordings"]
    oldest = counts["oldest_waiting_at"]
    if oldest is not None and seconds_since(oldest, status["at"]) > behind_after:
        yield f"the oldest waiting recording finished at {oldest}"


def unseen_folders(folders: str) -> str:
    return f"folders that cannot be looked into ({folders})"
