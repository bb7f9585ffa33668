"""The append-only history: attempts and events, each row chained to the one before it.

`hash` is SHA-256 over the previous row's hash and the row's own values, as canonical JSON. A row
that was changed, dropped or slipped in breaks every hash behind it (`broken_at`).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from uploaderd.model import Milliseconds

Chain = Literal["attempts", "events"]
CHAINS: Final[tuple[Chain, ...]] = get_args(Chain)

COLUMNS: Final[Mapping[Chain, tuple[str, ...]]] = {
    "attempts": (
        "id",
        "recording_id",
        "upload_id",
        "provider",
        "number",
        "started_at",
        "ended_at",
        "outcome",
        "class",
        "code",
        "http_status",
        "request_id",
        "bytes_sent",
        "resumed_from",
        "message",
    ),
    "events": ("id", "at", "kind", "who", "source", "provider", "recording_id", "detail"),
}

TIME: Final[Mapping[Chain, str]] = {"attempts": "ended_at", "events": "at"}
"""When a row was written, in milliseconds since the epoch."""

GENESIS: Final = b"\0" * 32
"""What the first row is chained to."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at an upload, with its outcome.

    `outcome`: verified, retrying, failed, stopped (by a clean stop; goes on at the next start) or
    interrupted (the daemon was killed; found at the next start).
    `bytes_sent`: put on the wire by this attempt. `resumed_from`: bytes the provider already held.
    """

    recording_id: int
    upload_id: int
    provider: str
    number: int
    started_at: int
    ended_at: int
    outcome: str
    failure: str | None = None
    code: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    bytes_sent: int = 0
    resumed_from: int = 0
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened and is not an attempt. `who`: the daemon, or the user who asked."""

    kind: str
    who: str = "uploaderd"
    source: str | None = None
    provider: str | None = None
    recording_id: int | None = None
    detail: Mapping[str, object] | None = None


class History:
    """Appends to both chains inside the caller's transaction; keeps the last hashes at hand.

    A rolled back transaction must be followed by `forget`, or the next row would be chained to one
    that never came to be.
    """

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._last: dict[Chain, tuple[int, bytes]] = {}

    def forget(self) -> None:
        self._last.clear()

    def attempt(self, row: Attempt) -> None:
        self._append(
            "attempts",
            (
                row.recording_id,
                row.upload_id,
                row.provider,
                row.number,
                row.started_at,
                row.ended_at,
                row.outcome,
                row.failure,
                row.code,
                row.http_status,
                row.request_id,
                row.bytes_sent,
                row.resumed_from,
                row.message,
            ),
        )

    def event(self, at: Milliseconds, row: Event) -> None:
        detail = json.dumps(row.detail or {}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self._append("events", (at, row.kind, row.who, row.source, row.provider, row.recording_id, detail))

    def _append(self, chain: Chain, values: tuple[object, ...]) -> None:
        if chain not in self._last:
            self._last[chain] = _tail(self._conn, chain)
        last_id, last_hash = self._last[chain]
        row = (last_id + 1, *values)
        digest = digest_of(last_hash, row)
        marks = ", ".join("?" * (len(row) + 1))
        columns = ", ".join((*COLUMNS[chain], "hash"))
        self._conn.execute(f"INSERT INTO {chain} ({columns}) VALUES ({marks})", (*row, digest))
        self._last[chain] = (last_id + 1, digest)


def broken_at(conn: sqlite3.Connection, chain: Chain) -> int | None:
    """The id of the first row that does not follow from the one before it, or None: all is well.

    Rows that were exported and pruned are taken on the word of the horizon in `meta`.
    """
    start_id, start_hash = horizon(conn, chain)
    expected, previous = start_id + 1, start_hash
    for row in rows_after(conn, chain, 0):
        *values, digest = row
        if values[0] != expected or digest_of(previous, tuple(values)) != digest:
            return int(values[0])
        expected, previous = expected + 1, digest
    # A chain whose newest rows were cut off is whole in itself: AUTOINCREMENT remembers them.
    issued = conn.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (chain,)).fetchone()
    if issued is not None and issued[0] >= expected:
        return expected
    return None


def rows_after(
    conn: sqlite3.Connection, chain: Chain, after: int, limit: int = -1
) -> Iterator[tuple[Any, ...]]:
    """The rows behind the id `after`, oldest first: the values of `COLUMNS`, then the hash."""
    columns = ", ".join((*COLUMNS[chain], "hash"))
    yield from conn.execute(f"SELECT {columns} FROM {chain} WHERE id > ? ORDER BY id LIMIT ?", (after, limit))


def _tail(conn: sqlite3.Connection, chain: Chain) -> tuple[int, bytes]:
    row = conn.execute(f"SELECT id, hash FROM {chain} ORDER BY id DESC LIMIT 1").fetchone()
    return (int(row[0]), bytes(row[1])) if row is not None else horizon(conn, chain)


def horizon(conn: sqlite3.Connection, chain: Chain) -> tuple[int, bytes]:
    """Id and hash of the newest row that was exported and pruned; 0 and `GENESIS` if none was."""
    found = dict(
        conn.execute(
            "SELECT name, value FROM meta WHERE name IN (?, ?)", (f"{chain}_exported", f"{chain}_hash")
        )
    )
    return int(found.get(f"{chain}_exported", 0)), bytes(found.get(f"{chain}_hash", GENESIS))


def digest_of(previous: bytes, row: tuple[object, ...]) -> bytes:
    """The hash of a row: SHA-256 over the previous hash and the values of `COLUMNS` as compact JSON."""
    text = json.dumps(row, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(previous + text.encode()).digest()
