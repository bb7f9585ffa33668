"""The status model as lines for people: the one word first, then why, then everything in detail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from uploaderd.model import ProviderState, SourceState, Word
from uploaderd.report.lines import Line, Tone, count, rate, size, span, table
from uploaderd.report.model import Problem, ProviderLine, Status, UploadingLine, seconds_since

TONES: Final = {
    Word.SAFE: Tone.GOOD,
    Word.BEHIND: Tone.LATE,
    Word.FAILING: Tone.BAD,
    Word.STOPPED: Tone.BAD,
}
_INDENT: Final = " " * 6
_QUIET_ONLY: Final = (
    "by quiet time alone: writers cannot be seen (another user's files without CAP_LEASE, or a network mount)"
)


def status_lines(status: Status) -> Iterator[Line]:
    """All that `status` says."""
    yield from _word(status)
    yield Line("")
    yield from _recordings(status)
    yield Line("")
    yield from _providers(status)
    if status["uploading"]:
        yield Line("")
        yield from _uploading(status)
    yield Line("")
    yield from _sources(status)
    if status["webhooks"]:
        yield Line("")
        yield from _webhooks(status)
    yield from _daemon(status)


def _word(status: Status) -> Iterator[Line]:
    word = status["state"]
    reasons = status["reasons"] or [all_well(status)]
    yield Line(f"{word}  {reasons[0]}", TONES[Word(word)], head=len(word))
    for reason in reasons[1:]:
        yield Line(f"{' ' * len(word)}  {reason}")


def all_well(status: Status) -> str:
    counts = status["recordings"]
    if counts["waiting"]:
        return f"{count(counts['waiting'], 'recording')} on the way, none late"
    if any(source["last_sweep_at"] is None for source in status["sources"]):
        return "nothing waits so far; the first sweep has not ended yet"
    return "everything that was found is at every provider that it requires"


def _recordings(status: Status) -> Iterator[Line]:
    counts = status["recordings"]
    shown = [
        f"{counts[kind]:,} {kind}"
        for kind in ("safe", "waiting", "failed", "lost", "held", "skipped", "superseded")
        if counts[kind] or kind in ("safe", "waiting", "failed")
    ]
    yield Line(f"Recordings  {counts['total']:,} known: {', '.join(shown)}")
    if counts["oldest_waiting_at"] is not None:
        age = span(seconds_since(counts["oldest_waiting_at"], status["at"]))
        waiting = size(counts["waiting_bytes"])
        yield Line(f"  waiting   {waiting}; the oldest for {age}: {counts['oldest_waiting']}")
    for one in status["troubled"]:
        yield Line(f"  {one['state']:8}  {one['source']}: {one['path']}", Tone.BAD, head=8)
        if one["message"]:
            yield Line(f"{_INDENT}cause   {one['message']}")
        if one["hint"]:
            yield Line(f"{_INDENT}remedy  {one['hint']}")
    if counts["alarming"] > len(status["troubled"]):
        yield Line("  more: uploaderd list --state failed (or lost, held)", Tone.QUIET)


def _providers(status: Status) -> Iterator[Line]:
    rows = [("Providers", "state", "safe", "waiting", "failed", "rate", "last success")]
    rows += [
        (
            f"  {one['name']}",
            one["state"],
            f"{one['verified']:,}",
            f"{one['waiting']:,}",
            f"{one['failed']:,}",
            rate(one["rate_bytes_per_second"]),
            _ago(one["last_verified_at"], status["at"]),
        )
        for one in status["providers"]
    ]
    header, *lines = table(rows, indent=0)
    yield Line(header, Tone.QUIET)
    for one, text in zip(status["providers"], lines, strict=True):
        yield Line(text, _tone(one))
        if one["problem"] is not None:
            yield from _problem(one["problem"], status["at"], one["next_probe_at"], one["probes"])


def _tone(provider: ProviderLine) -> Tone:
    match provider["state"]:
        case ProviderState.PAUSED:
            return Tone.BAD
        case ProviderState.RETRYING:
            return Tone.LATE
        case ProviderState.OK:
            return Tone.PLAIN
    return Tone.QUIET


def _problem(problem: Problem, now: str, probe: str | None = None, probes: int = 0) -> Iterator[Line]:
    since = f" (for {span(seconds_since(problem['since'], now))})" if problem["since"] is not None else ""
    yield Line(f"{_INDENT}cause   {problem['message']}{since}")
    if problem["hint"]:
        yield Line(f"{_INDENT}remedy  {problem['hint']}")
    if probe is not None:
        wait = -seconds_since(probe, now)
        when = f"in {span(wait)}" if wait >= 1 else "now"
        yield Line(f"{_INDENT}next    it is asked again {when} (attempt {probes + 1})")


def _uploading(status: Status) -> Iterator[Line]:
    yield Line(f"Uploading   {len(status['uploading'])}", Tone.QUIET)
    rows = [
        (one["provider"], _progress(one), rate(one["rate_bytes_per_second"]), _eta(one), _name(one))
        for one in status["uploading"]
    ]
    for text in table(rows):
        yield Line(text)


def _progress(one: UploadingLine) -> str:
    if one["bytes_sent"] is None:
        return f"? of {size(one['size'])}"
    percent = 100 * one["bytes_sent"] // one["size"] if one["size"] else 100
    return f"{min(percent, 100):3d}% of {size(one['size'])}"


def _eta(one: UploadingLine) -> str:
    return f"{span(one['eta_seconds'])} left" if one["eta_seconds"] is not None else "-"


def _name(one: UploadingLine) -> str:
    resumed = f" (resumed from {size(one['resumed_from'])})" if one["resumed_from"] else ""
    return f"{one['source']}: {one['path']}{resumed}"


def _sources(status: Status) -> Iterator[Line]:
    rows = [("Sources", "state", "free", "last sweep", "path")]
    rows += [
        (
            f"  {one['name']}",
            one["state"],
            size(one["free_bytes"]) if one["free_bytes"] is not None else "-",
            _ago(one["last_sweep_at"], status["at"]),
            one["path"],
        )
        for one in status["sources"]
    ]
    header, *lines = table(rows, indent=0)
    yield Line(header, Tone.QUIET)
    for one, text in zip(status["sources"], lines, strict=True):
        well = one["state"] == SourceState.OK and one["problem"] is None
        yield Line(text, Tone.PLAIN if well else Tone.BAD)
        if one["problem"] is not None:
            yield from _problem(one["problem"], status["at"])
        if one["polling"] is not None:
            yield Line(f"{_INDENT}polled  {one['polling']}", Tone.LATE)
        if one["lease"] is False:
            yield Line(f"{_INDENT}finish  {_QUIET_ONLY}", Tone.LATE)


def _webhooks(status: Status) -> Iterator[Line]:
    rows = [("Webhooks", "waiting", "delivered", "given up", "last delivered")]
    rows += [
        (
            f"  {one['name']}",
            f"{one['waiting']:,}",
            f"{one['delivered']:,}",
            f"{one['given_up']:,}",
            _ago(one["last_delivered_at"], status["at"]),
        )
        for one in status["webhooks"]
    ]
    header, *lines = table(rows, indent=0)
    yield Line(header, Tone.QUIET)
    for one, text in zip(status["webhooks"], lines, strict=True):
        yield Line(text, Tone.LATE if one["problem"] is not None else Tone.PLAIN)
        if one["problem"] is not None:
            yield from _problem(one["problem"], status["at"])


def _daemon(status: Status) -> Iterator[Line]:
    daemon, ledger = status["daemon"], status["ledger"]
    yield Line("")
    if daemon["running"]:
        who = f"process {daemon['pid']}" if daemon["pid"] is not None else "in another container"
        version = f", version {daemon['version']}" if daemon["version"] else ""
        up = (
            f", for {span(seconds_since(daemon['started_at'], status['at']))}" if daemon["started_at"] else ""
        )
        yield Line(f"Daemon      runs: {who}{version}{up}")
    else:
        yield Line(
            "Daemon      does not run: start it (`systemctl start uploaderd`, or `uploaderd run`)", Tone.BAD
        )
    yield Line(f"Ledger      {ledger['path']}")
    if ledger["problem"] is not None:
        yield from _problem(ledger["problem"], status["at"])


def _ago(time: str | None, now: str) -> str:
    return f"{span(seconds_since(time, now))} ago" if time is not None else "never"
