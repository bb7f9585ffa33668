"""The shapes that programs parse: `status --json`, a line of `list --json`, a line of `history --json`.

Times are ISO 8601 in UTC with a Z, to the second; sizes are bytes, durations seconds. Bytes of a path
that are not UTF-8 appear percent-encoded. None stands for what is not known, or not the case.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal, TypedDict

SCHEMA_VERSION: Final = 1

Problem = TypedDict("Problem", {"class": str, "message": str, "hint": str, "since": str | None})
"""Something that a person may have to act on. `class` is a failure class of `uploaderd.model`."""


class DaemonLine(TypedDict):
    """`pid` is None too where the daemon lives in another PID namespace."""

    running: bool
    pid: int | None
    version: str | None
    started_at: str | None


class RecordingCounts(TypedDict):
    """`alarming`: failed, lost or held ones that nobody acknowledged."""

    total: int
    safe: int
    waiting: int
    failed: int
    lost: int
    held: int
    skipped: int
    superseded: int
    alarming: int
    waiting_bytes: int
    oldest_waiting_at: str | None
    oldest_waiting: str | None


class ProviderLine(TypedDict):
    """`state`: ok, retrying, paused, disabled or retired.

    `next_probe_at`: when one in trouble is asked again. `probes`: how often it was asked since, in vain.
    `in_trouble`: of the uploads that wait, those that failed `trouble_after` times in a row or more.
    """

    name: str
    type: str
    state: str
    verified: int
    waiting: int
    failed: int
    in_trouble: int
    rate_bytes_per_second: float | None
    last_verified_at: str | None
    next_probe_at: str | None
    probes: int
    problem: Problem | None


class UploadingLine(TypedDict):
    """An upload under way. `bytes_sent` counts what the provider held already (`resumed_from`) as sent."""

    path: str
    source: str
    provider: str
    bytes_sent: int | None
    size: int
    resumed_from: int
    rate_bytes_per_second: float | None
    eta_seconds: float | None


class SourceLine(TypedDict):
    """`state`: ok, missing or paused. `free_bytes`: None where its file system does not answer.

    `last_recording_at`: when its newest recording was found. `silent_since`: since then nothing came, which
    is longer than `expect_every` allows; `problem` says so too.

    `polling`: why the tree is swept every few seconds, if it is. `lease`: whether open writers are seen;
    false where quiet time alone tells that a file is finished. `unseen`: folders that cannot be looked
    into, and why; `problem` says so too, unless it has something graver to say. All None without the
    daemon's word.
    """

    name: str
    path: str
    state: str
    last_sweep_at: str | None
    last_recording_at: str | None
    silent_since: str | None
    free_bytes: int | None
    polling: str | None
    lease: bool | None
    problem: Problem | None
    unseen: str | None


class TroubledLine(TypedDict):
    """A recording that needs a person."""

    path: str
    source: str
    state: str
    message: str
    hint: str


class WebhookLine(TypedDict):
    """A webhook. `waiting`, `delivered` and `given_up` are messages.

    Its trouble changes the one word in nothing: recordings are as safe as they are, whoever hears of it.
    """

    name: str
    waiting: int
    delivered: int
    given_up: int
    last_delivered_at: str | None
    next_try_at: str | None
    problem: Problem | None


class LedgerLine(TypedDict):
    path: str
    problem: Problem | None


class Status(TypedDict):
    """`status --json`. `reasons` say why the word is not SAFE, the gravest first."""

    schema_version: Literal[1]
    state: str
    reasons: list[str]
    at: str
    daemon: DaemonLine
    ledger: LedgerLine
    recordings: RecordingCounts
    providers: list[ProviderLine]
    uploading: list[UploadingLine]
    sources: list[SourceLine]
    webhooks: list[WebhookLine]
    troubled: list[TroubledLine]


class ProofLine(TypedDict):
    kind: str
    value: str


UploadError = TypedDict("UploadError", {"class": str, "code": str | None, "message": str, "hint": str})


class UploadLine(TypedDict):
    """`bytes_sent` counts every byte put on the wire, all attempts together.

    `replaced`: it was verified, and a newer version has its key since (`on_new_version = "replace"`).
    """

    state: str
    bucket: str | None
    key: str
    url: str | None
    version_id: str | None
    etag: str | None
    attempts: int
    bytes_sent: int
    required: bool
    proof: ProofLine | None
    verified_at: str | None
    replaced: bool
    next_attempt_at: str | None
    error: UploadError | None


class Recording(TypedDict):
    """A line of `list --json`. `reason`: why it is held or skipped; `doubt`: what is odd about it.

    `local`: "replaced" where another content is at its path by now.
    """

    schema_version: Literal[1]
    id: str
    source: str
    path: str
    size: int
    state: str
    finished_at: str
    finished_by: str
    found_at: str
    found_by: str
    local: str
    safe_at: str | None
    acknowledged_at: str | None
    reason: str | None
    doubt: str | None
    uploads: dict[str, UploadLine]


HistoryLine = TypedDict(
    "HistoryLine",
    {
        "schema_version": Literal[1],
        "type": Literal["attempt", "event"],
        "at": str,
        "recording": str | None,
        "path": str | None,
        "source": str | None,
        "provider": str | None,
        # of an attempt
        "attempt": int | None,
        "outcome": str | None,
        "started_at": str | None,
        "seconds": float | None,
        "class": str | None,
        "code": str | None,
        "http_status": int | None,
        "request_id": str | None,
        "bytes_sent": int | None,
        "resumed_from": int | None,
        "message": str | None,
        # of an event
        "kind": str | None,
        "who": str | None,
        "detail": dict[str, object] | None,
    },
)
"""A line of `history --json`: an attempt at an upload, or an event; what the other has is None."""


def time_of(at: int | None) -> str | None:
    """Milliseconds since the epoch as ISO 8601."""
    return iso(at) if at is not None else None


def iso(at: int) -> str:
    """Milliseconds since the epoch as ISO 8601."""
    return datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_since(time: str, now: str) -> float:
    """How long before `now` the time was; both ISO 8601."""
    return (datetime.fromisoformat(now) - datetime.fromisoformat(time)).total_seconds()
