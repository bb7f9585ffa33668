"""Old recordings to a new provider, and the end of an old one."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from uploaderd.ledger import intake, leftovers
from uploaderd.ledger.chain import Event
from uploaderd.ledger.intake import NewUpload
from uploaderd.ledger.writer import Transaction
from uploaderd.model import FileIdentity, FinishedBy, FoundBy, Milliseconds

_UNFINISHED: Final = "('queued', 'uploading', 'completing', 'retrying')"

_WITHOUT: Final = (
    "s.name IN (SELECT value FROM json_each(:sources)) AND NOT EXISTS (SELECT 1 FROM uploads u"
    " WHERE u.recording_id = r.id AND u.provider_id = :provider)"
)
"""Recordings of the sources that nothing of goes to the provider."""

_IS_THERE: Final = "r.past = 0 AND r.local = 'present' AND r.id NOT IN (SELECT recording_id FROM removals)"
"""Their files, as far as the ledger knows."""


@dataclass(frozen=True, slots=True)
class Old:
    """A recording whose file is there, as far as the ledger knows."""

    row: int
    source: str
    path: bytes
    identity: FileIdentity
    found_by: FoundBy
    finished_by: FinishedBy
    finished_at: Milliseconds


@dataclass(frozen=True, slots=True)
class Added:
    """Uploads that were added, their bytes, and those whose key is another recording's."""

    uploads: int = 0
    bytes: int = 0
    taken: int = 0


@dataclass(frozen=True, slots=True)
class Needed:
    """What a provider is still needed for.

    Attributes:
        waiting: recordings that wait for a copy there.
        only: recordings that have a verified copy nowhere else.
        without_file: those of them whose local file is gone as well.
    """

    waiting: int
    only: int
    without_file: int


def old(conn: sqlite3.Connection, provider: int, sources: Sequence[str], after: int, limit: int) -> list[Old]:
    """The next recordings behind the row `after` that are there and have no upload to the provider."""
    rows = conn.execute(
        "SELECT r.id, s.name, r.path, r.size, r.mtime_ns, r.inode, r.device, r.fingerprint, r.found_by,"
        " r.finished_by, r.finished_at FROM recordings r JOIN sources s ON s.id = r.source_id"
        f" WHERE r.id > :after AND {_IS_THERE} AND r.state IN ('safe', 'waiting', 'failed') AND {_WITHOUT}"
        " ORDER BY r.id LIMIT :limit",
        {"after": after, "sources": json.dumps(sources), "provider": provider, "limit": limit},
    )
    mask = 0xFFFFFFFFFFFFFFFF  # inode and device are unsigned, SQLite's integers signed
    return [
        Old(
            row,
            name,
            bytes(path),
            FileIdentity(size, mtime_ns, inode & mask, device & mask, bytes(mark)),
            FoundBy(found_by),
            FinishedBy(finished_by),
            Milliseconds(at),
        )
        for row, name, path, size, mtime_ns, inode, device, mark, found_by, finished_by, at in rows
    ]


def gone(conn: sqlite3.Connection, provider: int, sources: Sequence[str]) -> int:
    """How many safe recordings have nothing at the provider, and no file any more."""
    (count,) = conn.execute(
        "SELECT count(*) FROM recordings r JOIN sources s ON s.id = r.source_id"
        f" WHERE r.state = 'safe' AND NOT ({_IS_THERE}) AND {_WITHOUT}",
        {"sources": json.dumps(sources), "provider": provider},
    ).fetchone()
    return int(count)


def add(tx: Transaction, copies: Iterable[tuple[Old, NewUpload]], *, required: bool) -> Added:
    """Queue an upload of each. `required`: the recording needs one copy more from now on.

    What was removed, replaced or queued meanwhile is passed over.
    """
    uploads = size = taken = 0
    for one, upload in copies:
        others = intake.at_key(tx.conn, upload.provider_id, upload.key)
        if any(other != one.row for other, _, _ in others):
            taken += 1
            continue
        added = tx.conn.execute(
            "INSERT OR IGNORE INTO uploads (recording_id, provider_id, required, key, token)"
            f" SELECT id, ?, ?, ?, ? FROM recordings r WHERE id = ? AND {_IS_THERE}",
            (upload.provider_id, required, upload.key, secrets.token_bytes(16), one.row),
        ).rowcount
        if added != 1:
            continue
        if required:
            tx.conn.execute(
                "UPDATE recordings SET needed = needed + 1, required = required + 1, kept = NULL,"
                " kept_until = NULL WHERE id = ?",
                (one.row,),
            )
            # Where a number of copies is required, it may have enough of them already.
            tx.conn.execute(
                "UPDATE recordings SET safe_at = NULL WHERE id = ? AND state <> 'safe'", (one.row,)
            )
        uploads += 1
        size += one.identity.size
    return Added(uploads, size, taken)


def backfilled(
    tx: Transaction, who: str, provider: str, source: str | None, detail: Mapping[str, object]
) -> None:
    """Old recordings were queued for a provider."""
    tx.event(Event("backfilled", who, provider=provider, source=source, detail=detail))


def needed(conn: sqlite3.Connection, provider: int) -> Needed:
    """What the provider is still needed for."""
    (waiting,) = conn.execute(
        "SELECT count(*) FROM uploads u JOIN recordings r ON r.id = u.recording_id"
        f" WHERE u.provider_id = ? AND u.required AND u.state IN {_UNFINISHED} AND r.state = 'waiting'",
        (provider,),
    ).fetchone()
    only, without_file = conn.execute(
        "SELECT count(*), coalesce(sum(r.local = 'removed'), 0) FROM uploads u"
        " JOIN recordings r ON r.id = u.recording_id"
        " WHERE u.provider_id = ? AND u.state = 'verified' AND NOT EXISTS (SELECT 1 FROM uploads o"
        " JOIN providers p ON p.id = o.provider_id WHERE o.recording_id = u.recording_id"
        " AND o.provider_id <> u.provider_id AND o.state = 'verified' AND p.state <> 'retired')",
        (provider,),
    ).fetchone()
    return Needed(waiting, only, without_file)


def retire(tx: Transaction, provider: int, who: str, what: Needed) -> int:
    """End a provider: what was still to be sent there never will be; how many uploads that were.

    Copies that are verified stay what they are. A recording that required one that was not has failed:
    no recording is safe because of this.
    """
    (name,) = tx.conn.execute("SELECT name FROM providers WHERE id = ?", (provider,)).fetchone()
    tx.conn.execute(
        "UPDATE providers SET state = 'retired', paused_by = NULL, problem_class = NULL,"
        " problem_message = NULL, problem_hint = NULL, problem_since = NULL, probes = 0,"
        " next_probe_at = NULL WHERE id = ?",
        (provider,),
    )
    which = f"provider_id = :row AND state IN {_UNFINISHED}"
    leftovers.leave(tx, which, provider)
    tx.conn.execute(
        f"DELETE FROM parts WHERE upload_id IN (SELECT id FROM uploads WHERE {which})", {"row": provider}
    )
    ended = tx.conn.execute(
        "UPDATE uploads SET state = 'failed', session = NULL, part_size = NULL, intent_at = NULL,"
        " completing_at = NULL, attempt_at = NULL, next_attempt_at = NULL, error_class = 'provider',"
        " error_code = 'retired', error_message = 'the provider was retired before this copy was made',"
        f" error_hint = 'acknowledge it, if the other copies are enough' WHERE {which}",
        {"row": provider},
    ).rowcount
    detail = {"ended": ended, "waiting": what.waiting, "only": what.only, "without_file": what.without_file}
    tx.event(Event("provider-retired", who, provider=name, detail=detail))
    return ended
