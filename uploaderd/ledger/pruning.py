"""What retention takes out of the ledger, once it was exported: old history, and old recordings.

History goes as a prefix of its chain, so that what is left can still be checked: `meta` keeps the id and
hash of the last row that went. A recording goes when it is over (safe, skipped, superseded or
acknowledged), nothing of it is still to be sent, and its file is not there any more: of a file that is
there, the ledger alone knows that it was sent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from uploaderd.ledger import chain
from uploaderd.ledger.chain import Chain
from uploaderd.ledger.writer import Transaction
from uploaderd.model import Milliseconds

BATCH: Final = 200
"""Rows that one transaction prunes at most: 10 to 25 ms with three uploads each, for which others wait."""

_OVER: Final = (
    "(state = 'safe' AND safe_at < :before OR state = 'skipped' OR state = 'superseded'"
    " OR acknowledged_at < :before) AND found_at < :before"
    " AND NOT EXISTS (SELECT 1 FROM uploads u WHERE u.recording_id = recordings.id"
    " AND u.state NOT IN ('verified', 'failed'))"
    " AND NOT EXISTS (SELECT 1 FROM removals m WHERE m.recording_id = recordings.id)"
)


@dataclass(frozen=True, slots=True)
class Over:
    """A recording that is old and over. `present`: the ledger believes that its file is there."""

    row: int
    source_id: int
    path: bytes
    present: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Old recordings of one stretch of the table. `last`: where to go on; None at the end."""

    over: tuple[Over, ...]
    last: int | None


def over_after(conn: sqlite3.Connection, last: int, before: Milliseconds) -> Page:
    """Recordings behind the row `last` that are over since before then, of the next `BATCH` rows.

    Rows are in the order in which they were found, so the first stretch in which all are too young ends
    it, and no index is needed.
    """
    rows = conn.execute(
        f"SELECT id, source_id, path, past = 0, found_at, {_OVER} FROM recordings"
        " WHERE id > :last ORDER BY id LIMIT :limit",
        {"last": last, "before": before, "limit": BATCH},
    ).fetchall()
    over = [Over(id_, source, bytes(path), bool(there)) for id_, source, path, there, _, old in rows if old]
    # All of them, because a clock that was wrong for a while must not stop it for good.
    ended = len(rows) < BATCH or all(found_at >= before for *_, found_at, _ in rows)
    return Page(tuple(over), None if ended else rows[-1][0])


def prune_recordings(tx: Transaction, rows: Sequence[int], before: Milliseconds) -> int:
    """Drop recordings with their uploads, those that are still over; how many they were."""
    dropped = 0
    for row in rows:
        values = {"row": row, "before": before}
        if (
            tx.conn.execute(f"SELECT 1 FROM recordings WHERE id = :row AND {_OVER}", values).fetchone()
            is None
        ):
            continue
        tx.conn.execute(
            "DELETE FROM parts WHERE upload_id IN (SELECT id FROM uploads WHERE recording_id = :row)", values
        )
        tx.conn.execute("DELETE FROM uploads WHERE recording_id = :row", values)
        tx.conn.execute("DELETE FROM recordings WHERE id = :row", values)
        dropped += 1
    return dropped


def old_history(conn: sqlite3.Connection, which: Chain, before: Milliseconds) -> list[tuple[Any, ...]]:
    """The chain's oldest rows, as `chain.rows_after` has them, as long as they are from before then.

    A row from the future was written while the clock was wrong: the rows around it tell how old it is.
    """
    last, _ = chain.horizon(conn, which)
    at = chain.COLUMNS[which].index(chain.TIME[which])
    rows = list(chain.rows_after(conn, which, last, BATCH))
    (newest,) = conn.execute(
        f"SELECT {chain.TIME[which]} FROM {which} ORDER BY id DESC LIMIT 1"
    ).fetchone() or (0,)
    young = (index for index, row in enumerate(rows) if before <= row[at] <= max(newest, before))
    return rows[: next(young, len(rows))]


def prune_history(tx: Transaction, which: Chain, last: tuple[Any, ...]) -> int:
    """Drop the chain's rows up to and with `last`; how many they were."""
    for name, value in ((f"{which}_exported", last[0]), (f"{which}_hash", last[-1])):
        tx.conn.execute(
            "INSERT INTO meta (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )
    return tx.conn.execute(f"DELETE FROM {which} WHERE id <= ?", (last[0],)).rowcount


def roots(conn: sqlite3.Connection) -> dict[int, tuple[bytes, int | None]]:
    """The root of each source, and the device that it was last seen on."""
    return {
        id_: (bytes(path), device)
        for id_, path, device in conn.execute("SELECT id, path, device FROM sources").fetchall()
    }
