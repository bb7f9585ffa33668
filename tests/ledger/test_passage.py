"""The wall's clock may be set to anything, at any time: nothing is ripe before its time."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.needs import lacking
from uploaderd.ledger.chain import History
from uploaderd.ledger.passage import STEP_MS, Passage, Ripe
from uploaderd.ledger.writer import Transaction
from uploaderd.model import Milliseconds

HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_800_000_000_000
"""January 2027."""


class Machine:
    """A machine with a ledger on it. `true` is time as it is, in milliseconds, while it is on."""

    def __init__(self, wall: int) -> None:
        self.conn = sqlite3.connect(":memory:", isolation_level=None)
        self.conn.execute(
            "CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID"
        )
        self.conn.execute("CREATE TABLE attempts (id INTEGER PRIMARY KEY, ended_at INTEGER NOT NULL)")
        self.true = 0
        self.wall = wall
        self.starts = 0
        self.safe: list[tuple[int, int]] = []
        """By the wall's clock, and in truth."""
        self.start(wall)

    def close(self) -> None:
        self.conn.close()

    def start(self, wall: int) -> None:
        """The machine starts, with its clock somewhere."""
        self.starts += 1
        self.started, self.wall = self.true, wall
        self.begin()

    def begin(self) -> None:
        """The daemon starts, without the machine."""
        self.passage = Passage(lambda: (self.true - self.started) / 1000, f"start {self.starts}")

    def pass_by(self, milliseconds: int) -> None:
        self.true += milliseconds
        self.wall += milliseconds

    def transaction(self, *, commit: bool = True, safe: bool = False) -> None:
        self.conn.execute("BEGIN")
        self.passage.look(self._transaction())
        if safe:
            self.conn.execute("INSERT INTO attempts (ended_at) VALUES (?)", (self.wall,))
        self.conn.execute("COMMIT" if commit else "ROLLBACK")
        if safe and commit:
            self.safe.append((self.wall, self.true))

    def ripe(self, keep: int) -> Ripe:
        self.transaction()
        return self.passage.ripe(Milliseconds(self.wall), keep)

    def went(self, keep: int) -> list[int]:
        """How long in truth each had been safe that is ripe by now."""
        spans = list(self.ripe(keep).spans())
        return [
            self.true - true
            for wall, true in self.safe
            if any(span.after < wall <= span.upto for span in spans)
        ]

    def _transaction(self) -> Transaction:
        return Transaction(self.conn, History(self.conn), Milliseconds(self.wall))


walls = st.one_of(
    st.just(0), st.integers(0, 3 * HOUR), st.integers(NOW - 3 * DAY, NOW + 3 * DAY), st.just(2 * NOW)
)
deeds = st.one_of(
    st.tuples(st.just("pass"), st.integers(0, 30 * HOUR)),
    st.tuples(st.just("safe"), st.booleans()),
    st.tuples(st.just("set"), walls),
    st.tuples(st.just("step"), st.integers(-2 * HOUR, 2 * HOUR)),
    st.tuples(st.just("step"), st.integers(1 - STEP_MS, STEP_MS - 1)),
    st.tuples(st.just("start"), walls),
    st.tuples(st.just("begin"), st.none()),
    st.tuples(st.just("look"), st.booleans()),
)


# Twice from 1970 on, at the same hour, and set right sooner than the first time.
@example(0, [("pass", 3 * HOUR), ("safe", True), ("start", 0), ("pass", 60_000), ("set", NOW)], HOUR)
@example(NOW, [("safe", True), ("set", 2 * NOW), ("safe", True), ("begin", None), ("set", 3 * NOW)], HOUR)
@example(NOW, [("step", STEP_MS - 1), ("safe", True), ("set", 2 * NOW)], HOUR)
@settings(max_examples=400, deadline=None)
@given(walls, st.lists(deeds, max_size=40), st.sampled_from([HOUR, DAY]))
def test_nothing_is_ripe_before_its_time(wall: int, course: list[tuple[str, Any]], keep: int) -> None:
    with closing(Machine(wall)) as machine:
        for deed, value in course:
            match deed:
                case "pass":
                    machine.pass_by(value)
                case "safe":
                    machine.transaction(safe=True, commit=value)
                case "set":
                    machine.wall = value
                    machine.transaction(commit=False)
                case "step":
                    machine.wall = max(0, machine.wall + value)
                    machine.transaction(commit=False)  # a full disk: what was found out is found out again
                case "start":
                    machine.start(value)
                case "begin":
                    machine.begin()
                case _:
                    machine.transaction(commit=value)
            assert min(machine.went(keep), default=keep) >= keep - STEP_MS

        # And whatever was done, all is ripe once enough has passed by a clock that is right.
        machine.wall = 3 * NOW
        machine.transaction()
        machine.pass_by(keep + 2 * STEP_MS)
        assert len(machine.went(keep)) == len(machine.safe)


def test_by_a_clock_that_is_right_it_is_ripe_to_the_millisecond() -> None:
    with closing(Machine(NOW)) as machine:
        machine.transaction(safe=True)
        machine.pass_by(DAY - 1)
        assert machine.went(DAY) == []
        machine.begin()
        machine.pass_by(1)
        assert machine.went(DAY) == [DAY]


def test_a_restart_of_the_daemon_loses_no_time_and_one_of_the_machine_only_what_it_was_off() -> None:
    with closing(Machine(NOW)) as machine:
        machine.transaction(safe=True)
        machine.pass_by(10 * HOUR)
        machine.begin()
        machine.pass_by(10 * HOUR)
        machine.transaction(safe=True)
        machine.start(machine.wall + 100 * DAY)
        machine.transaction()
        machine.pass_by(4 * HOUR)
        assert machine.went(DAY) == [DAY]


def test_before_it_was_counted_the_wall_alone_tells() -> None:
    """As in a ledger that an older version wrote."""
    with closing(Machine(NOW)) as machine:
        machine.safe = [(NOW - 2 * DAY, -2 * DAY), (NOW - HOUR, -HOUR)]
        assert machine.went(DAY) == [2 * DAY]


@pytest.mark.parametrize("command", [["run", "--until-safe"], ["ensure"]])
def test_the_clock_that_is_read_goes_on_while_the_machine_sleeps(tmp_path: Path, command: list[str]) -> None:
    """As after a sleep of a day: CLOCK_BOOTTIME went on, CLOCK_MONOTONIC did not (time_namespaces(7))."""
    (tmp_path / "recordings").mkdir()
    config = tmp_path / "config.toml"
    config.write_text(
        f"""
        ledger.path = "{tmp_path}/ledger.db"
        web.socket = "{tmp_path}/control.sock"
        sources.cams.path = "{tmp_path}/recordings"
        providers.copies = {{ type = "directory", path = "{tmp_path}/copies" }}
        """
    )
    uploaderd = [sys.executable, "-m", "uploaderd", *command, "--config", str(config)]
    subprocess.run(uploaderd, check=True, capture_output=True)
    slept = subprocess.run(
        ["unshare", "--time", "--boottime", "86400", *uploaderd], check=False, capture_output=True, text=True
    )
    if slept.returncode and slept.stderr.startswith("unshare"):
        lacking(f"no time namespace can be had here: {slept.stderr.strip()}")
    assert slept.returncode == 0, slept.stderr
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        (passage,) = ledger.execute("SELECT value FROM meta WHERE name = 'passage'").fetchone()
    *_, stretches = json.loads(passage)
    assert len(stretches) == 2, "the wall's clock stood still meanwhile, which does not go unnoticed"
