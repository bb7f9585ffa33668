"""`ledger export`: all of it, in lines that can be checked without any of our code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.ledger.conftest import Bench
from tests.ledger.lived import live
from uploaderd.ledger import connect_readonly
from uploaderd.ledger.export import lines
from uploaderd.model import Milliseconds

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
(CHECKER,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
"""The program that the page gives to whoever wants to check an export."""


def exported(bench: Bench, since: Milliseconds | None = None) -> list[str]:
    with closing(connect_readonly(bench.ledger.path)) as conn:
        return list(lines(conn, since))


def of(type_: str, found: list[str]) -> list[Any]:
    return [row for row in map(json.loads, found) if row["type"] == type_]


def checked(found: list[str]) -> tuple[int, str]:
    """What the page's program says: its exit code and its words."""
    done = subprocess.run(
        [sys.executable, "-c", CHECKER],
        input="\n".join(found) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


async def test_nothing_is_left_out_but_sessions(bench: Bench) -> None:
    await live(bench)
    found = exported(bench)
    recordings = of("recording", found)
    assert [one["path"] for one in recordings] == [
        "safe-1.mp4",
        "safe %FF.mp4",
        "failed.mp4",
        "session.mp4",
        "again.mp4",
        "again.mp4",
    ]
    assert recordings[0]["uploads"][0]["proof_kind"] == "crc64nvme full object, stat"
    assert (recordings[2]["state"], recordings[4]["state"]) == ("failed", "superseded")
    count = {
        table: (
            await bench.ledger.run(
                lambda tx, t: tx.conn.execute(f"SELECT count(*) FROM {t}").fetchone(), table
            )
        )[0]
        for table in ("attempts", "events")
    }
    assert (len(of("attempt", found)), len(of("event", found))) == (count["attempts"], count["events"])
    assert "a-session-that" not in "".join(found)


async def test_the_chain_can_be_checked_by_the_pages_program(bench: Bench) -> None:
    await live(bench)
    found = exported(bench)
    code, said = checked(found)
    assert code == 0, said
    assert said.startswith("whole: attempts to ")
    where = next(index for index, line in enumerate(found) if json.loads(line)["type"] == "attempt") + 2
    assert checked(found[:where] + found[where + 1 :])[0] == 1, "a line is missing"
    changed = found[where].replace('"bytes_sent":5', '"bytes_sent":6').replace("verified", "failed")
    assert changed != found[where]
    assert checked([*found[:where], changed, *found[where + 1 :]])[0] == 1


async def test_since_begins_there_and_leaves_nothing_out(bench: Bench) -> None:
    await live(bench)
    bench.hand.at += 60_000
    since = bench.hand.now()
    await bench.queued(b"late.mp4")
    await live_again(bench)
    found = exported(bench, since)
    assert [one["path"] for one in of("recording", found)] == ["late.mp4"]
    assert of("event", found)
    assert all(one["at"] >= since for one in of("event", found))
    assert checked(found)[0] == 0


async def live_again(bench: Bench) -> None:
    from uploaderd.ledger import Event

    await bench.ledger.run(lambda tx: tx.event(Event("noted", detail={"b": 1, "a": "é\n"})))
    await bench.ledger.run(
        lambda tx: tx.event(Event("noted", detail={"nested": {"z": None, "b": [1.5, True]}}))
    )


async def test_details_survive_the_way_there_and_back(bench: Bench) -> None:
    await live_again(bench)
    found = exported(bench)
    assert [one["detail"] for one in of("event", found)][-2:] == [
        {"a": "é\n", "b": 1},
        {"nested": {"b": [1.5, True], "z": None}},
    ]
    assert checked(found)[0] == 0
