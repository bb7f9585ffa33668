"""A sweep's way along the ledger: every row that is asked for, and few that are not."""

from __future__ import annotations

import sqlite3

from tests.ledger.conftest import Bench
from uploaderd.ledger import connect_readonly, intake
from uploaderd.ledger.beside import FEW, PAGE, Beside

KNOWN = [b"cam%d/%04d.mp4" % (n % 3, n) for n in range(PAGE + 500)]


async def test_each_path_is_found_wherever_pages_end_and_what_is_gone_is_passed_over(bench: Bench) -> None:
    await bench.ledger.run(intake.enqueue, [bench.recording(path) for path in KNOWN])
    unknown = {path + b"x" for path in KNOWN[::7]} | {b"", b"cam1", b"zzz"}
    conn = connect_readonly(bench.ledger.path)
    try:
        for step in (1, 2, 3, 17, 400):
            asked = sorted({*KNOWN[::step], *unknown})
            beside = Beside(conn, bench.source)
            found = {path: here for path in asked if (here := beside.at(path)) is not None}
            assert list(found) == sorted(KNOWN[::step])
            assert all(here.path == path for path, here in found.items())
        three = (KNOWN[100], KNOWN[1000], KNOWN[2000])
        assert rows_read(conn, bench.source, sorted(three)) <= 8 * FEW
    finally:
        conn.close()


def rows_read(conn: sqlite3.Connection, source: int, asked: list[bytes]) -> int:
    """At most, by the limits of the queries."""
    beside, queries = Beside(conn, source), list[str]()
    conn.set_trace_callback(queries.append)
    assert all(beside.at(path) for path in asked)
    conn.set_trace_callback(None)
    return sum(int(query.rpartition(" ")[2]) for query in queries)
