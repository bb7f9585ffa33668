"""Ledgers with a long history, made row by row through the product's own schema: living it would take weeks.

Rows go in as they would be in the end; the triggers keep the counters, and the history is chained as it is
when it is lived.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlite_utils import Database

from uploaderd.ledger import schema
from uploaderd.ledger.chain import COLUMNS, GENESIS, Chain, digest_of

_NOW: Final = 1_795_000_000_000
"""Milliseconds since the epoch: November 2026."""

_RECORDING: Final = (
    "INSERT INTO recordings (id, source_id, path, past, local, size, mtime_ns, inode, device, fingerprint,"
    " found_at, finished_at, found_by, finished_by, needed, required, verified, safe_at)"
    " VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'event', 'lease', ?, ?, ?, ?)"
)
_UPLOAD: Final = (
    "INSERT INTO uploads (id, recording_id, provider_id, required, state, key, token, attempts, bytes_sent,"
    " etag, proof_kind, proof_value, verified_at)"
    " VALUES (?, ?, ?, 1, 'verified', ?, ?, ?, ?, ?, 'crc64nvme full object, stat', 'AAAAAAAAAAA=', ?)"
)


@dataclass(frozen=True, slots=True)
class Past:
    """A safe recording of the past. Everything that the file system tells of it."""

    path: bytes
    local: str
    size: int
    mtime_ns: int
    inode: int
    device: int


def long_gone(count: int) -> Iterator[Past]:
    """Recordings whose files were removed since."""
    for n in range(1, count + 1):
        yield Past(b"cam%d/2026-11-%02d/%09d.mp4" % (n % 8, n % 28 + 1, n), "removed", 2**20, n * 10**9, n, 1)


def still_there(root: Path) -> Iterator[Past]:
    """Recordings whose files are below `root`."""
    for folder, _, names in os.walk(os.fsencode(root)):
        for name in names:
            path = os.path.join(folder, name)
            seen = os.stat(path)
            yield Past(
                os.path.relpath(path, os.fsencode(root)),
                "present",
                seen.st_size,
                seen.st_mtime_ns,
                seen.st_ino,
                seen.st_dev,
            )


def fill(
    path: Path, past: Iterable[Past], source: Path, providers: Mapping[str, tuple[str, str]], retries: int = 0
) -> None:
    """Make the ledger `path`: each recording safe at every provider (name -> type and target).

    `retries`: how many of the uploads of each recording had a failed attempt before.
    """
    path.unlink(missing_ok=True)
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = OFF")
    schema.migrations.apply(Database(conn, execute_plugins=False))
    conn.execute("BEGIN")
    conn.execute("INSERT INTO sources (id, name, path) VALUES (1, 'cameras', ?)", (os.fsencode(source),))
    conn.executemany(
        "INSERT INTO providers (id, name, type, target, last_verified_at) VALUES (?, ?, ?, ?, ?)",
        [(id_, name, *what, _NOW) for id_, (name, what) in enumerate(providers.items(), 1)],
    )
    Chained(conn, "attempts").extend(_rows(conn, past, list(providers), retries))
    conn.execute("COMMIT")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    path.chmod(0o600)


def _rows(
    conn: sqlite3.Connection, past: Iterable[Past], names: Sequence[str], retries: int
) -> Iterator[tuple[object, ...]]:
    """Insert recordings and uploads; yields the attempts that go with them, without id."""
    upload = 0
    for number, one in enumerate(past, 1):
        at = _NOW + number
        found = (one.mtime_ns, one.inode, one.device, number.to_bytes(16, "big"), at, at)
        counts = (len(names), len(names), len(names), at)
        place = number if one.local == "removed" else 0  # as `removal` has it: no sweep walks what is gone
        conn.execute(_RECORDING, (number, one.path, place, one.local, one.size, *found, *counts))
        for provider, name in enumerate(names, 1):
            upload += 1
            tries = 2 if provider <= retries else 1
            token = hashlib.blake2b(b"%d" % upload, digest_size=16).digest()
            key = f"cameras/2026/11/20/{os.fsdecode(one.path)}"
            conn.execute(
                _UPLOAD, (upload, number, provider, key, token, tries, one.size, f"{upload:032x}", at)
            )
            for attempt in range(1, tries):
                yield (
                    *(number, upload, name, attempt, at - 900, at - 500, "retrying"),
                    *("transient", "SlowDown", 503, f"{upload:016X}", 0, 0, "sending part 1: slow down"),
                )
            yield (
                *(number, upload, name, tries, at - 400, at, "verified"),
                *(None, None, None, None, one.size, 0, None),
            )


class Chained:
    """Appends rows (without id and hash) to a chain, as `chain.History` does; from the first one on."""

    def __init__(self, conn: sqlite3.Connection, which: Chain) -> None:
        columns = (*COLUMNS[which], "hash")
        marks = ", ".join("?" * len(columns))
        self._insert = f"INSERT INTO {which} ({', '.join(columns)}) VALUES ({marks})"
        self._conn = conn
        self._last, self._hash = 0, GENESIS

    def extend(self, rows: Iterator[tuple[object, ...]]) -> None:
        self._conn.executemany(self._insert, self._hashed(rows))

    def _hashed(self, rows: Iterator[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
        for values in rows:
            self._last += 1
            row = (self._last, *values)
            self._hash = digest_of(self._hash, row)
            yield (*row, self._hash)


def retarget(path: Path, targets: Mapping[str, str]) -> None:
    """Have the providers of a copied ledger stand for other places: an endpoint's port is never the same."""
    conn = sqlite3.connect(path)
    for name, target in targets.items():
        conn.execute("UPDATE providers SET target = ? WHERE name = ?", (target, name))
    conn.commit()
    conn.close()


def asked(path: Path, question: str) -> Any:
    """The first column of the first row, read beside a running daemon; None before it has made its tables."""
    if not path.exists():
        return None
    conn = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        row = conn.execute(question).fetchone()
    except sqlite3.OperationalError:
        return None
    finally:
        conn.close()
    return None if row is None else row[0]
