"""A recording, a line of history and an answer to "why", as lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from uploaderd.model import RecordingState, UploadState
from uploaderd.report.lines import Line, Tone, size
from uploaderd.report.model import HistoryLine, Recording
from uploaderd.report.why import Why

_TONES: Final = {
    RecordingState.SAFE: Tone.GOOD,
    RecordingState.WAITING: Tone.LATE,
    RecordingState.FAILED: Tone.BAD,
    RecordingState.LOST: Tone.BAD,
    RecordingState.HELD: Tone.BAD,
    RecordingState.SKIPPED: Tone.QUIET,
    RecordingState.SUPERSEDED: Tone.QUIET,
}
_MARKS: Final = {True: ("passed", Tone.GOOD), False: ("HOLDS", Tone.BAD), None: ("under way", Tone.LATE)}

REPLACED: Final = "replaced"

HEADER: Final = Line("finished              state           size  recording", Tone.QUIET)


def recording_lines(one: Recording) -> Iterator[Line]:
    """One line; below it what is amiss, if something is."""
    state = RecordingState(one["state"])
    acknowledged = " (acknowledged)" if one["acknowledged_at"] is not None else ""
    older = " (an older version)" if one["local"] == "replaced" else ""
    name = f"{one['source']}: {one['path']}{older}{acknowledged}"
    word, tone = state_shown(one), _TONES[state]
    if word == REPLACED:
        tone = Tone.QUIET
    yield Line(f"{one['finished_at']}  {word:10}  {size(one['size']):>10}  {name}", tone)
    if one["reason"] is not None:
        yield Line(f"{'':22}{one['reason']}")
    if one["doubt"] is not None:
        yield Line(f"{'':22}doubtful: {one['doubt']}", Tone.LATE)
    if state is RecordingState.SAFE:
        replaced = [name for name, upload in one["uploads"].items() if upload["replaced"]]
        if replaced and word != REPLACED:
            yield Line(f"{'':22}a newer version took its place at {', '.join(replaced)}")
        return
    for provider, upload in one["uploads"].items():
        if upload["state"] == UploadState.VERIFIED:
            continue
        why = f": {upload['error']['message']}" if upload["error"] is not None else ""
        again = f"; again {upload['next_attempt_at']}" if upload["next_attempt_at"] is not None else ""
        yield Line(f"{'':22}{provider} {upload['state']}{why}{again}")


def state_shown(one: Recording) -> str:
    """Its state; but of one that was safe, and whose copies a newer version took the place of, that."""
    required = [upload for upload in one["uploads"].values() if upload["required"]]
    if one["state"] == RecordingState.SAFE and required and all(upload["replaced"] for upload in required):
        return REPLACED
    return one["state"]


def history_lines(one: HistoryLine, *, named: bool) -> Iterator[Line]:
    """One line; `named` says which recording it is about, where several are."""
    about = f"  {one['source']}: {one['path']}" if named and one["path"] is not None else ""
    if one["type"] == "attempt":
        bad = one["outcome"] not in ("verified", "stopped")
        text = f"{one['at']}  {one['provider']}  attempt {one['attempt']}: {one['outcome']}"
        text += f" after {one['seconds']:.1f} s, {size(one['bytes_sent'] or 0)} sent"
        if one["resumed_from"]:
            text += f", resumed from {size(one['resumed_from'])}"
        yield Line(text + about, Tone.LATE if bad else Tone.PLAIN)
        if one["message"] is not None:
            codes = [str(code) for code in (one["http_status"], one["code"]) if code is not None]
            request = f", request {one['request_id']}" if one["request_id"] is not None else ""
            yield Line(
                f"{'':22}{one['class']}: {one['message']} ({' '.join(codes)}{request})".replace(" ()", "")
            )
        return
    where = one["provider"] or (one["source"] if one["recording"] is None else None)
    by = f" by {one['who']}" if one["who"] != "uploaderd" else ""
    yield Line(f"{one['at']}  {f'{where}  ' if where else ''}{one['kind']}{by}{_detail(one)}{about}")


def _detail(one: HistoryLine) -> str:
    detail = one["detail"] or {}
    told = [f"{name} {_plain(value)}" for name, value in detail.items() if value not in (None, "")]
    return f": {', '.join(told)}" if told else ""


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def why_lines(answer: Why) -> Iterator[Line]:
    """The state, then each gate, then what comes next."""
    tone = _TONES[RecordingState(answer.state)] if answer.state in list(RecordingState) else Tone.LATE
    yield Line(f"{answer.state}  {answer.path}", tone, head=len(answer.state))
    width = max((len(gate.name) for gate in answer.gates), default=0)
    for gate in answer.gates:
        word, tone = _MARKS[gate.passed]
        yield Line(f"  {word:9}  {gate.name:{width}}  {gate.text}", tone, head=11)
        if gate.remedy:
            yield Line(f"  {'remedy':9}  {'':{width}}  {gate.remedy}")
    yield Line(f"next: {answer.next}")
