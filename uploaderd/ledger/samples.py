"""The last hours in numbers: the backlog and what was sent, once a minute, for the plots of the status page.

Only what changed is written: a recorder that rests reaches no disk. A minute without a row of its own had
the backlog of the row before it, and sent nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from uploaderd.ledger.writer import Transaction

EVERY: Final = 60_000
"""Milliseconds between two samples; their times are multiples of it."""

SHOWN: Final = 6 * 3_600_000
"""Milliseconds back that `read` goes."""

_KEPT: Final = 4 * SHOWN
"""Longer, so that there mostly is a row before the first that is shown."""

TABLES: Final = (
    """
    CREATE TABLE backlog_samples (
        at         INTEGER PRIMARY KEY,
        recordings INTEGER NOT NULL,
        bytes      INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE sent_samples (
        at          INTEGER NOT NULL,
        provider_id INTEGER NOT NULL,
        bytes       INTEGER NOT NULL,
        PRIMARY KEY (at, provider_id)
    ) STRICT, WITHOUT ROWID
    """,
)


class Backlog(NamedTuple):
    """What waited at a time (milliseconds)."""

    at: int
    recordings: int
    bytes: int


class Sent(NamedTuple):
    """Bytes put on the wire in the minute that ended at `at` (milliseconds)."""

    at: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Lately:
    """The last hours, oldest first; `sent` is by provider, without the minutes in which nothing was."""

    backlog: list[Backlog]
    sent: dict[str, list[Sent]]


def take(tx: Transaction, sent: Mapping[int, int]) -> None:
    """Write down this minute: what waits now, and the bytes sent since the last one, by provider's row."""
    at = tx.now // EVERY * EVERY
    waiting = tx.conn.execute(
        "SELECT coalesce(sum(count), 0), coalesce(sum(bytes), 0) FROM recording_totals"
        " WHERE state = 'waiting'"
    ).fetchone()
    last = tx.conn.execute(
        "SELECT recordings, bytes FROM backlog_samples ORDER BY at DESC LIMIT 1"
    ).fetchone()
    rows = [(at, provider, count) for provider, count in sent.items() if count > 0]
    if waiting == (last or (0, 0)) and not rows:
        return
    tx.conn.execute("INSERT OR REPLACE INTO backlog_samples VALUES (?, ?, ?)", (at, *waiting))
    tx.conn.executemany(
        "INSERT INTO sent_samples VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes",
        rows,
    )
    for table in ("backlog_samples", "sent_samples"):
        # Those from a future that a clock made up go too.
        tx.conn.execute(f"DELETE FROM {table} WHERE at < ? OR at > ?", (at - _KEPT, at))


def read(conn: sqlite3.Connection, now: int) -> Lately:
    """The last hours before `now`: some hundred rows, and the last backlog before them."""
    since = now - SHOWN
    backlog = [
        Backlog(*row)
        for row in conn.execute(
            "SELECT at, recordings, bytes FROM backlog_samples WHERE at <= :now AND at >= coalesce("
            "(SELECT max(at) FROM backlog_samples WHERE at < :since), :since) ORDER BY at",
            {"since": since, "now": now},
        )
    ]
    sent: dict[str, list[Sent]] = {}
    for provider, *row in conn.execute(
        "SELECT p.name, t.at, t.bytes FROM sent_samples t JOIN providers p ON p.id = t.provider_id"
        " WHERE t.at > ? AND t.at <= ? ORDER BY t.at",
        (since, now),
    ):
        sent.setdefault(provider, []).append(Sent(*row))
    return Lately(backlog, sent)
