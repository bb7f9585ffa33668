"""Questions to the ledger. Nothing here writes; all work on a read-only connection too.

What `status` asks for costs the same with ten recordings and with ten million: it reads counters and
indexed rows, never the tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from uploaderd.ledger import stretches
from uploaderd.ledger.stretches import Wanted
from uploaderd.model import recording_id_of, recording_row_of

PAGE: Final = 500
"""Recordings fetched at once by `recordings`: a listing of a million never is in memory."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Recordings by state. `alarming` counts failed, lost and held ones that nobody acknowledged."""

    total: int
    safe: int
    waiting: int
    failed: int
    lost: int
    held: int
    skipped: int
    superseded: int
    waiting_bytes: int
    alarming: int
    oldest_waiting_at: int | None

    @property
    def troubled(self) -> int:
        return self.failed + self.lost + self.held


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """A provider, with the counters of its uploads. `probes`: how often it was asked since trouble began."""

    id: int
    name: str
    type: str
    state: str
    paused_by: str | None
    problem_class: str | None
    problem_message: str | None
    problem_hint: str | None
    problem_since: int | None
    next_probe_at: int | None
    last_verified_at: int | None
    probes: int
    verified: int
    waiting: int
    failed: int


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source as the daemon last saw it. `silent_since`: nothing came for longer than is expected of it;
    `unseen`: folders that cannot be looked into.
    """

    id: int
    name: str
    path: bytes
    state: str
    paused_by: str | None
    missing_since: int | None
    last_sweep_at: int | None
    last_found_at: int | None
    silent_since: int | None
    unseen: str | None


@dataclass(frozen=True, slots=True)
class UploadRow:
    """One upload of a recording. `replaced`: a newer version took the key of its copy since."""

    provider: str
    state: str
    required: bool
    key: str
    token: str
    attempts: int
    bytes_sent: int
    resumed_from: int
    next_attempt_at: int | None
    etag: str | None
    version_id: str | None
    proof_kind: str | None
    proof_value: str | None
    verified_at: int | None
    error_class: str | None
    error_code: str | None
    error_message: str | None
    error_hint: str | None
    replaced: bool


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """A recording with its uploads. `id` is the public one."""

    row: int
    id: str
    source: str
    path: bytes
    size: int
    state: str
    local: str
    found_at: int
    finished_at: int
    found_by: str
    finished_by: str
    safe_at: int | None
    reason: str | None
    gate: str | None
    doubt: str | None
    needed: int
    acknowledged_at: int | None
    crc32c: int | None
    crc64nvme: bytes | None
    uploads: Mapping[str, UploadRow]


def totals(conn: sqlite3.Connection) -> Totals:
    counts: dict[str, int] = {}
    waiting_bytes = alarming = 0
    for state, acknowledged, count, size in conn.execute(
        "SELECT state, acknowledged, sum(count), sum(bytes) FROM recording_totals GROUP BY 1, 2"
    ):
        counts[state] = counts.get(state, 0) + count
        if state == "waiting":
            waiting_bytes += size
        if state in ("failed", "lost", "held") and not acknowledged:
            alarming += count
    (oldest,) = conn.execute("SELECT min(finished_at) FROM recordings WHERE state = 'waiting'").fetchone()
    named = {
        state: counts.get(state, 0)
        for state in ("safe", "waiting", "failed", "lost", "held", "skipped", "superseded")
    }
    return Totals(
        total=sum(counts.values()),
        waiting_bytes=waiting_bytes,
        alarming=alarming,
        oldest_waiting_at=oldest,
        **named,
    )


def providers(conn: sqlite3.Connection) -> list[ProviderRow]:
    """In the order in which the ledger met them."""
    counts: dict[tuple[int, str], int] = {
        (provider, state): count
        for provider, state, count in conn.execute("SELECT provider_id, state, count FROM upload_totals")
    }
    waiting = ("queued", "uploading", "completing", "retrying")
    return [
        ProviderRow(
            *(
                *row,
                counts.get((row[0], "verified"), 0),
                sum(counts.get((row[0], state), 0) for state in waiting),
                counts.get((row[0], "failed"), 0),
            )
        )
        for row in conn.execute(
            "SELECT id, name, type, state, paused_by, problem_class, problem_message, problem_hint,"
            " problem_since, next_probe_at, last_verified_at, probes FROM providers ORDER BY id"
        )
    ]


def in_trouble(conn: sqlite3.Connection, provider: str, failures: int) -> tuple[int, str | None]:
    """Uploads that failed so often in a row and are tried again, and why the latest of them did."""
    found = [
        conn.execute(
            "SELECT count(*), max(id), error_message FROM uploads"
            " WHERE provider_id = (SELECT id FROM providers WHERE name = ?)"
            f" AND state {states} AND failures >= ?",
            (provider, failures),
        ).fetchone()
        # One at a time, so that each has its index: few retry, however many are queued.
        for states in ("= 'retrying'", "IN ('uploading', 'completing')")
    ]
    return sum(count for count, *_ in found), next((why for *_, why in found if why), None)


def sources(conn: sqlite3.Connection) -> list[SourceRow]:
    return [
        SourceRow(*row)
        for row in conn.execute(
            "SELECT id, name, path, state, paused_by, missing_since, last_sweep_at, last_found_at,"
            " silent_since, unseen FROM sources ORDER BY id"
        )
    ]


def used_providers(conn: sqlite3.Connection) -> frozenset[str]:
    """Providers that hold at least one verified copy."""
    return frozenset(
        row[0] for row in conn.execute("SELECT name FROM providers WHERE last_verified_at IS NOT NULL")
    )


def recordings(
    conn: sqlite3.Connection,
    *,
    state: str | None = None,
    source: str | None = None,
    provider: str | None = None,
    limit: int | None = None,
) -> Iterator[RecordingRow]:
    """Recordings, newest first, a page at a time.

    `provider`: only those that go to it. Unknown names simply match nothing.
    """
    left = limit
    wanted = Wanted(state, source, provider)
    for stretch in stretches.back(conn, wanted, None, PAGE if limit is None else min(PAGE, limit)):
        rows = stretch.rows if left is None else stretch.rows[:left]
        yield from by_rows(conn, rows) if rows else ()
        left = None if left is None else left - len(rows)
        if left == 0:
            return


def recording(conn: sqlite3.Connection, public_id: str) -> RecordingRow | None:
    """The recording with that public id; None if there is none."""
    row = recording_row_of(public_id)
    found = next(iter(by_rows(conn, [row])), None) if row is not None else None
    return found if found is not None and found.id == public_id else None


def by_rows(conn: sqlite3.Connection, rows: Sequence[int]) -> list[RecordingRow]:
    """Recordings by their rows, newest first."""
    marks = ", ".join("?" * len(rows))
    found = conn.execute(f"{_RECORDING} WHERE r.id IN ({marks}) ORDER BY r.id DESC", tuple(rows)).fetchall()
    return list(_with_uploads(conn, found))


def at_path(conn: sqlite3.Connection, source: str, path: bytes) -> list[RecordingRow]:
    """All that ever was at a path of a source, the newest first."""
    rows = [
        row[0]
        for row in conn.execute(
            "SELECT id FROM recordings WHERE path = ? AND source_id = (SELECT id FROM sources WHERE name = ?)"
            " ORDER BY id DESC",
            (path, source),
        )
    ]
    return by_rows(conn, rows) if rows else []


def named_like(conn: sqlite3.Connection, part: bytes, limit: int) -> list[RecordingRow]:
    """Recordings whose path contains `part`, the newest first."""
    rows = [
        row[0]
        for row in conn.execute(
            "SELECT id FROM recordings WHERE instr(path, ?) > 0 ORDER BY id DESC LIMIT ?", (part, limit)
        )
    ]
    return by_rows(conn, rows) if rows else []


def attempts(conn: sqlite3.Connection, recording: int | None, limit: int) -> list[dict[str, Any]]:
    """The newest attempts, of one recording (by its row) or of all; newest first, as plain values."""
    return _history(conn, "attempts", recording, limit)


def events(conn: sqlite3.Connection, recording: int | None, limit: int) -> list[dict[str, Any]]:
    """The newest events, likewise."""
    return _history(conn, "events", recording, limit)


def _history(conn: sqlite3.Connection, table: str, recording: int | None, limit: int) -> list[dict[str, Any]]:
    where = "WHERE recording_id = ?" if recording is not None else ""
    cursor = conn.execute(
        f"SELECT * FROM {table} {where} ORDER BY id DESC LIMIT ?",
        (recording, limit) if recording is not None else (limit,),
    )
    names = [column[0] for column in cursor.description]
    return [{name: value for name, value in zip(names, row, strict=True) if name != "hash"} for row in cursor]


_RECORDING: Final = (
    "SELECT r.id, s.name, r.path, r.size, r.state, r.local, r.found_at, r.finished_at, r.found_by,"
    " r.finished_by, r.safe_at, coalesce(r.held, r.skipped), r.gate, r.doubt, r.needed, r.acknowledged_at,"
    " r.crc32c, r.crc64nvme FROM recordings r JOIN sources s ON s.id = r.source_id"
)


def _with_uploads(conn: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> Iterable[RecordingRow]:
    uploads: dict[int, dict[str, UploadRow]] = {row[0]: {} for row in rows}
    marks = ", ".join("?" * len(rows))
    for recording, *columns in conn.execute(
        "SELECT u.recording_id, p.name, u.state, u.required, u.key, lower(hex(u.token)), u.attempts,"
        " u.bytes_sent, u.resumed_from, u.next_attempt_at, u.etag, u.version_id, u.proof_kind,"
        " u.proof_value, u.verified_at, u.error_class, u.error_code, u.error_message, u.error_hint,"
        " u.state = 'verified' AND EXISTS (SELECT 1 FROM uploads later"
        " WHERE later.provider_id = u.provider_id AND later.key = u.key AND later.id > u.id"
        " AND later.state = 'verified')"
        f" FROM uploads u JOIN providers p ON p.id = u.provider_id WHERE u.recording_id IN ({marks})"
        " ORDER BY u.id",
        tuple(uploads),
    ):
        upload = UploadRow(*columns)
        uploads[recording][upload.provider] = upload
    for row in rows:
        public = recording_id_of(row[0], row[6])
        yield RecordingRow(*(row[0], public, *row[1:], uploads[row[0]]))
