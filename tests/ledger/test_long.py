"""What must stay quick in a ledger of ten million: counted in SQLite's own instructions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.many import fill
from tests.ledger.steps import counted
from uploaderd.ledger import connect_readonly, find, intake, read, stretches
from uploaderd.ledger.integrity import examine
from uploaderd.ledger.stretches import Wanted

COUNT = 20_000


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """Recordings 11 to 13 are of a source, and they and 14 of a provider, that have none since."""
    path: Path = tmp_path_factory.mktemp("long") / "ledger.db"
    fill(path, COUNT)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("INSERT INTO sources (id, name, path) VALUES (2, 'gate', x'2f67')")
        conn.execute("INSERT INTO providers (id, name, type, target) VALUES (3, 'old', 'directory', 'x')")
        conn.execute("UPDATE recordings SET source_id = 2 WHERE id IN (11, 12, 13)")
        conn.execute(
            "UPDATE uploads SET provider_id = 3 WHERE provider_id = 2 AND recording_id BETWEEN 11 AND 14"
        )
        # A disk that is recorded over and over.
        conn.execute("UPDATE recordings SET inode = 77, past = id, local = 'removed' WHERE id <= 2000")
        conn.commit()
    with closing(connect_readonly(path)) as conn:
        yield conn


def cost(conn: sqlite3.Connection, work: Callable[[], object]) -> int:
    """Instructions."""
    with counted(conn) as steps:
        work()
    return steps.taken


@pytest.mark.parametrize(
    ("wanted", "expected", "most"),
    [
        # A walk through the recordings takes 5 instructions for each, with a look at its uploads 14 to 28.
        (Wanted(source="gate"), [13, 12, 11], COUNT // 10),
        # An index of two uploads a recording: 6 each.
        (Wanted(provider="old"), [14, 13, 12, 11], COUNT * 7),
        (Wanted(state="safe", provider="old"), [14, 13, 12, 11], COUNT * 7),
        (Wanted(source="cameras", provider="old"), [14], COUNT * 7),
    ],
    ids=str,
)
def test_what_is_of_long_ago_is_found_without_a_walk_through_all(
    ledger: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    wanted: Wanted,
    expected: list[int],
    most: int,
) -> None:
    monkeypatch.setattr(stretches, "STEP", 100)
    found: list[read.RecordingRow] = []

    def listed() -> None:
        found.extend(
            read.recordings(
                ledger, state=wanted.state, source=wanted.source, provider=wanted.provider, limit=50
            )
        )

    assert cost(ledger, listed) < most
    assert [row.row for row in found] == expected


def test_a_used_inode_costs_nothing(ledger: sqlite3.Connection) -> None:
    """2,000 recordings had it, one after another; whoever takes in the next one looks at those alone that
    have its mtime, too."""
    found: list[intake.Known] = []
    assert cost(ledger, lambda: found.extend(intake.at_inode(ledger, 1, 77, 1234))) < 200
    assert [one.id for one in found] == [1234]


def test_a_part_of_a_name_that_is_new_is_looked_for_among_the_new(
    ledger: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "STEP", 100)
    monkeypatch.setattr(find, "RECENT", 1000)
    found: dict[bytes, list[int]] = {}

    def looked_for(part: bytes) -> Callable[[], object]:
        return lambda: found.update({part: [one.row for one in find.containing(ledger, part, 5)]})

    assert cost(ledger, looked_for(b"19500")) < COUNT // 2
    assert cost(ledger, looked_for(b"9501.mp4")) < COUNT // 2
    assert cost(ledger, looked_for(b"5501.mp4")) > COUNT * 5 // 2, "an older one is looked for among all"
    assert found == {b"19500": [19500], b"9501.mp4": [19501], b"5501.mp4": [15501, 5501]}


def test_a_check_reads_the_tables_from_end_to_end(ledger: sqlite3.Connection) -> None:
    """In the order of an index each row would be looked for alone, all over a file of 20 GB."""
    asked: list[str] = []
    ledger.set_trace_callback(asked.append)
    assert len(list(examine(ledger))) == 6
    ledger.set_trace_callback(None)
    steps = [
        row[3]
        for one in asked
        if one.lstrip().startswith("SELECT")
        for row in ledger.execute(f"EXPLAIN QUERY PLAN {one}")
    ]
    assert [step for step in steps if "SCAN" in step and " USING INDEX" in step] == []
    assert steps.count("SCAN uploads") == 2, "once for its counters, once for all rules of a row"
    assert steps.count("SCAN recordings") == 2
