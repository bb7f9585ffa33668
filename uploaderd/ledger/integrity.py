"""Is a ledger as it was written? SQLite's own checks, the hash chains, the counters, the states.

SQLite finds pages that were damaged, not values that were: the rest finds those that do not fit each
other. Everything works beside a running daemon; each check sees one moment.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from uploaderd.ledger.chain import Chain, broken_at, horizon

MOST: Final = 10
"""Faults of one kind that are listed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, how much of it, and what is wrong; nothing, if it is sound."""

    what: str
    seen: str
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rule:
    """Something that no transition leaves behind. `broken` is true of a row that breaks it; where it takes
    more than the row, it selects the ids of those that do.
    """

    said: str
    broken: str


_OF_A_ROW: Final[Mapping[str, Sequence[_Rule]]] = {
    "uploads": (
        _Rule(
            "verified uploads without a proof",
            "state = 'verified' AND (proof_kind IS NULL OR verified_at IS NULL)",
        ),
        _Rule(
            "uploads that are worked on by nobody, or that wait and are worked on",
            "(state IN ('uploading', 'completing')) <> (attempt_at IS NOT NULL)",
        ),
        _Rule("uploads that wait for no time", "state = 'retrying' AND next_attempt_at IS NULL"),
        _Rule("uploads whose token is none", "length(token) <> 16"),
        _Rule(
            "uploads that sent less than nothing",
            "bytes_sent < 0 OR bytes_sent < bytes_before OR attempts < 0",
        ),
    ),
    "recordings": (
        _Rule("recordings that are safe since no time", "state = 'safe' AND safe_at IS NULL"),
        _Rule(
            "recordings that can never be safe, or always are",
            "needed < 1 OR needed > required AND skipped IS NULL AND held IS NULL AND superseded_by IS NULL",
        ),
        _Rule("recordings whose place among the past ones is another's", "past NOT IN (0, id)"),
    ),
}
"""By table: each is read once for all of its rules."""

_ACROSS: Final = (
    _Rule(
        "recordings whose count of verified or failed copies is not that of their uploads",
        "SELECT r.id FROM recordings r LEFT JOIN uploads u ON u.recording_id = r.id AND u.required"
        " GROUP BY r.id HAVING r.verified <> count(CASE WHEN u.state = 'verified' THEN 1 END)"
        " OR r.failed <> count(CASE WHEN u.state = 'failed' THEN 1 END) OR r.required <> count(u.id)",
    ),
    _Rule(
        "parts outside of their recording",
        "SELECT p.upload_id FROM parts p JOIN uploads u ON u.id = p.upload_id"
        " JOIN recordings r ON r.id = u.recording_id"
        " WHERE p.size < 0 OR p.offset < 0 OR p.offset + p.size > r.size",
    ),
)

_RECOUNTS: Final = (
    (
        ("recordings", "bytes of recordings"),
        (
            "SELECT source_id || ' ' || state || CASE WHEN acknowledged THEN ' acknowledged' ELSE '' END"
            " || CASE WHEN present THEN '' ELSE ' without a local file' END,"
            " sum(counted), sum(is_now), sum(size), sum(size_now) FROM ("
            " SELECT source_id, state, acknowledged, present, count AS counted, 0 AS is_now, bytes AS size,"
            " 0 AS size_now FROM recording_totals UNION ALL"
            " SELECT source_id, state, acknowledged_at IS NOT NULL, local = 'present', 0, count(*), 0,"
            " sum(size) FROM recordings NOT INDEXED GROUP BY 1, 2, 3, 4"
            ") GROUP BY source_id, state, acknowledged, present"
            " HAVING sum(counted) <> sum(is_now) OR sum(size) <> sum(size_now)"
        ),
    ),
    (
        ("uploads",),
        (
            "SELECT provider_id || ' ' || state, sum(counted), sum(is_now) FROM ("
            " SELECT provider_id, state, count AS counted, 0 AS is_now FROM upload_totals"
            " UNION ALL SELECT provider_id, state, 0, count(*) FROM uploads NOT INDEXED GROUP BY 1, 2"
            ") GROUP BY provider_id, state HAVING sum(counted) <> sum(is_now)"
        ),
    ),
)
"""What is counted, and its counters beside the counts of now. In the order of an index, which SQLite would
take for the grouping, each row would be looked for alone, all over the file.
"""


def examine(conn: sqlite3.Connection) -> Iterator[Finding]:
    """Check everything, one finding at a time. Reads the whole file, several times."""
    checks: Sequence[tuple[str, Callable[[sqlite3.Connection], Finding]]] = (
        ("file", _file),
        ("references", _references),
        ("attempts", partial(_chain, chain="attempts")),
        ("events", partial(_chain, chain="events")),
        ("counters", _counters),
        ("states", _states),
    )
    for what, check in checks:
        try:
            yield check(conn)
        except sqlite3.DatabaseError as error:
            # Damage is met where it is read.
            yield Finding(what, "could not be read to its end", (str(error),))


def _file(conn: sqlite3.Connection) -> Finding:
    (pages,) = conn.execute("PRAGMA page_count").fetchone()
    (size,) = conn.execute("PRAGMA page_size").fetchone()
    told = [row[0] for row in conn.execute(f"PRAGMA integrity_check({MOST})")]
    wrong = () if told == ["ok"] else tuple(line for text in told for line in text.splitlines())
    return Finding("file", f"{pages * size:,} bytes in {pages:,} pages", wrong)


def _references(conn: sqlite3.Connection) -> Finding:
    (tables,) = conn.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
    wrong = [
        f"row {row} of {table} refers to a row of {parent} that is not there"
        for table, row, parent, _ in conn.execute("PRAGMA foreign_key_check").fetchmany(MOST)
    ]
    return Finding("references", f"of {tables} tables", tuple(wrong))


def _chain(conn: sqlite3.Connection, chain: Chain) -> Finding:
    (rows,) = conn.execute(f"SELECT count(*) FROM {chain}").fetchone()
    pruned, _ = horizon(conn, chain)
    broken = broken_at(conn, chain)
    seen = f"{rows:,} rows in one chain" + (f", behind {pruned:,} that were exported" if pruned else "")
    if broken is None:
        return Finding(chain, seen)
    return Finding(
        chain,
        f"{rows:,} rows",
        (f"the chain is broken at row {broken}: it or its neighbour was changed, dropped or slipped in",),
    )


def _counters(conn: sqlite3.Connection) -> Finding:
    wrong = [
        f"{what} ({which}): {counted} counted, {there} there"
        for whats, query in _RECOUNTS
        for which, *numbers in conn.execute(query).fetchmany(MOST)
        for what, counted, there in zip(whats, numbers[::2], numbers[1::2], strict=True)
        if counted != there
    ]
    return Finding("counters", "of recordings, their bytes and uploads, against a recount", tuple(wrong))


def _states(conn: sqlite3.Connection) -> Finding:
    found: dict[str, list[str]] = {}
    for table, rules in _OF_A_ROW.items():
        found |= _breaking(conn, table, rules)
    for rule in _ACROSS:
        found[rule.said] = [str(row[0]) for row in conn.execute(rule.broken).fetchmany(MOST)]
    wrong = [
        f"{said}: {', '.join(rows)}{', ...' if len(rows) == MOST else ''}"
        for said, rows in found.items()
        if rows
    ]
    return Finding("states", f"of recordings, uploads and parts, by {len(found)} rules", tuple(wrong))


def _breaking(conn: sqlite3.Connection, table: str, rules: Sequence[_Rule]) -> dict[str, list[str]]:
    """The first rows that break each rule."""
    found: dict[str, list[str]] = {rule.said: [] for rule in rules}
    conditions = [f"({rule.broken})" for rule in rules]
    for row, *broken in conn.execute(
        f"SELECT id, {', '.join(conditions)} FROM {table} NOT INDEXED WHERE {' OR '.join(conditions)}"
    ):
        for rows, is_broken in zip(found.values(), broken, strict=True):
            if is_broken and len(rows) < MOST:
                rows.append(str(row))
        if all(len(rows) == MOST for rows in found.values()):
            break
    return found
