"""Tallies that only ever grow: what `/metrics` counts, kept by triggers in the transaction that it tells of.

So they survive restarts, agree with the history to the row, and cost the same however long that is; what
retention prunes they keep. A histogram's rows have the upper bound of their bucket in them: bounds may be
changed, and the old rows still say what they counted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SAFE_SECONDS: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 10_800, 21_600, 86_400)
"""Buckets of the time from finished to safe: "99.9 % within 5 minutes" is read off the 300."""

UPLOAD_SECONDS: Final = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10_800)
"""Buckets of the time that an attempt took which ended verified."""

SIZES: Final = {"1MiB": 2**20, "16MiB": 2**24, "256MiB": 2**28, "4GiB": 2**32}
"""Size classes by their largest size; what is larger is `LARGER`."""

LARGER: Final = "larger"

_BEYOND: Final = 2**63 - 1
"""The bound of what no other bound holds."""

TABLES: Final = (
    """
    CREATE TABLE found_tallies (
        source_id INTEGER NOT NULL,
        found_by  TEXT NOT NULL,
        count     INTEGER NOT NULL,
        PRIMARY KEY (source_id, found_by)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE attempt_tallies (
        source_id INTEGER NOT NULL,
        provider  TEXT NOT NULL,
        outcome   TEXT NOT NULL,
        class     TEXT NOT NULL,
        count     INTEGER NOT NULL,
        bytes     INTEGER NOT NULL,
        PRIMARY KEY (source_id, provider, outcome, class)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE upload_tallies (
        provider     TEXT NOT NULL,
        size         INTEGER NOT NULL,
        bound        INTEGER NOT NULL,
        count        INTEGER NOT NULL,
        milliseconds INTEGER NOT NULL,
        PRIMARY KEY (provider, size, bound)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE safe_tallies (
        source_id    INTEGER NOT NULL,
        bound        INTEGER NOT NULL,
        count        INTEGER NOT NULL,
        milliseconds INTEGER NOT NULL,
        PRIMARY KEY (source_id, bound)
    ) STRICT, WITHOUT ROWID
    """,
)


def _bound(value: str, bounds: Sequence[float]) -> str:
    """SQL for the smallest of the bounds that holds the value."""
    cases = " ".join(f"WHEN {value} <= {int(bound)} THEN {int(bound)}" for bound in bounds)
    return f"CASE {cases} ELSE {_BEYOND} END"


_TOOK: Final = "max(0, NEW.ended_at - NEW.started_at)"
_UNTIL_SAFE: Final = "max(0, NEW.safe_at - NEW.finished_at)"

TRIGGERS: Final = (
    """
    CREATE TRIGGER recordings_found AFTER INSERT ON recordings BEGIN
        INSERT INTO found_tallies VALUES (NEW.source_id, NEW.found_by, 1)
        ON CONFLICT DO UPDATE SET count = count + 1;
    END
    """,
    """
    CREATE TRIGGER attempts_tallied AFTER INSERT ON attempts BEGIN
        INSERT INTO attempt_tallies
        SELECT source_id, NEW.provider, NEW.outcome, coalesce(NEW.class, ''), 1, NEW.bytes_sent
        FROM recordings WHERE id = NEW.recording_id
        ON CONFLICT DO UPDATE SET count = count + 1, bytes = bytes + excluded.bytes;
    END
    """,
    f"""
    CREATE TRIGGER attempts_timed AFTER INSERT ON attempts WHEN NEW.outcome = 'verified' BEGIN
        INSERT INTO upload_tallies
        SELECT NEW.provider, {_bound("size", tuple(SIZES.values()))},
               {_bound(_TOOK, tuple(bound * 1000 for bound in UPLOAD_SECONDS))}, 1, {_TOOK}
        FROM recordings WHERE id = NEW.recording_id
        ON CONFLICT DO UPDATE SET count = count + 1, milliseconds = milliseconds + excluded.milliseconds;
    END
    """,
    # Once a recording: one that had lost a copy, and is safe again, says nothing of how fast things go.
    f"""
    CREATE TRIGGER recordings_safe AFTER UPDATE OF safe_at ON recordings
    WHEN OLD.safe_at IS NULL AND NEW.safe_at IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM attempts WHERE recording_id = NEW.id AND outcome = 'verified'
        GROUP BY upload_id HAVING count(*) > 1)
    BEGIN
        INSERT INTO safe_tallies VALUES (
            NEW.source_id, {_bound(_UNTIL_SAFE, tuple(bound * 1000 for bound in SAFE_SECONDS))},
            1, {_UNTIL_SAFE})
        ON CONFLICT DO UPDATE SET count = count + 1, milliseconds = milliseconds + excluded.milliseconds;
    END
    """,
)


@dataclass(frozen=True, slots=True)
class Found:
    source: str
    found_by: str
    count: int


@dataclass(frozen=True, slots=True)
class Attempted:
    """`failure`: its class; empty where there was none. `bytes`: put on the wire."""

    source: str
    provider: str
    outcome: str
    failure: str
    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Local:
    """Recordings of a source by state. `present`: their local file is still there."""

    source: str
    state: str
    acknowledged: bool
    present: bool
    count: int
    bytes: int


@dataclass(slots=True)
class Spread:
    """How many took how long: counts by the upper bound in seconds, and the sum in seconds."""

    counts: dict[float, int]
    seconds: float = 0.0

    def add(self, bound: int, count: int, milliseconds: int) -> None:
        """Count a row of the ledger."""
        at = float("inf") if bound == _BEYOND else bound / 1000
        self.counts[at] = self.counts.get(at, 0) + count
        self.seconds += milliseconds / 1000


@dataclass(frozen=True, slots=True)
class Tallies:
    """`safe` is by source, `uploads` by provider and size class."""

    found: list[Found]
    attempts: list[Attempted]
    recordings: list[Local]
    safe: dict[str, Spread]
    uploads: dict[tuple[str, str], Spread]


def read(conn: sqlite3.Connection) -> Tallies:
    """All of them: some dozens of rows, however much there was."""
    names = {bound: name for name, bound in SIZES.items()}
    safe: dict[str, Spread] = {}
    for source, *row in conn.execute(
        "SELECT s.name, bound, count, milliseconds FROM safe_tallies t JOIN sources s ON s.id = t.source_id"
    ):
        safe.setdefault(source, Spread({})).add(*row)
    uploads: dict[tuple[str, str], Spread] = {}
    for provider, size, *row in conn.execute(
        "SELECT provider, size, bound, count, milliseconds FROM upload_tallies"
    ):
        uploads.setdefault((provider, names.get(size, LARGER)), Spread({})).add(*row)
    return Tallies(
        found=[
            Found(*row)
            for row in conn.execute(
                "SELECT s.name, found_by, count FROM found_tallies t JOIN sources s ON s.id = t.source_id"
            )
        ],
        attempts=[
            Attempted(*row)
            for row in conn.execute(
                "SELECT s.name, provider, outcome, class, count, bytes FROM attempt_tallies t"
                " JOIN sources s ON s.id = t.source_id"
            )
        ],
        recordings=[
            Local(source, state, bool(acknowledged), bool(present), count, size)
            for source, state, acknowledged, present, count, size in conn.execute(
                "SELECT s.name, t.state, acknowledged, present, count, bytes FROM recording_totals t"
                " JOIN sources s ON s.id = t.source_id"
            )
        ],
        safe=safe,
        uploads=uploads,
    )
