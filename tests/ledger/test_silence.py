"""`expect_every`: the alarm for a source from which nothing comes any more."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlite_utils import Database

from tests.clocks import FakeClock
from tests.ledger.conftest import Bench, Hand
from uploaderd.config import load
from uploaderd.expecting import LOOK_SECONDS, Expecting
from uploaderd.ledger import Ledger, acts, connect_readonly, health, intake, schema
from uploaderd.ledger.lock import Holder
from uploaderd.model import SourceState
from uploaderd.report.status import status

HOUR = 3600.0
CONFIG = """
[ledger]
path = "ledger.db"
[sources.cameras]
path = "/srv/cameras"
expect_every = "1h"
[providers.nas]
type = "directory"
path = "/nas"
[providers.s3_main]
type = "directory"
path = "/s3"
"""


class Night:
    """A source that is expected to have a recording every hour, and a clock."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.clock = FakeClock(bench.hand.at)
        self._task: asyncio.Task[None] | None = None
        file = bench.ledger.path.with_name("config.toml")
        file.write_text(CONFIG)
        self.config = load(file, env={})

    async def restart(self) -> None:
        """As a new start of the daemon does."""
        await self.stop()
        looking = Expecting({self.bench.source: HOUR}, self.bench.ledger, self.clock)
        self._task = asyncio.create_task(looking.run())
        await self._looked()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def passes(self, seconds: float, *, sweep: bool = True) -> None:
        """Time goes by; at its end the source is swept, and looked at."""
        self.clock.advance(seconds)
        self.bench.hand.at = self.clock.now()
        if sweep:
            await self.bench.ledger.run(health.swept, self.bench.source, self.clock.now())
        await self._looked()
        self.clock.advance(LOOK_SECONDS)
        self.bench.hand.at = self.clock.now()
        await self._looked()

    async def _looked(self) -> None:
        while self.clock.sleeping == 0:  # noqa: ASYNC110 - the clock has no event for it
            await asyncio.sleep(0)

    def told(self) -> tuple[str, list[str]]:
        """The word, and why, as `status` has it."""
        with closing(connect_readonly(self.bench.ledger.path)) as conn:
            holder = Holder(1, "test", self.clock.now())
            found = status(conn, self.config, holder, None, self.clock.now(), look=False)
        return found["state"], found["reasons"]

    def events(self) -> list[str]:
        with closing(connect_readonly(self.bench.ledger.path)) as conn:
            return [
                row[0] for row in conn.execute("SELECT kind FROM events WHERE source = 'cameras' ORDER BY id")
            ]


@pytest.fixture
async def night(bench: Bench) -> AsyncIterator[Night]:
    made = Night(bench)
    await made.restart()
    yield made
    await made.stop()


async def test_the_camera_that_died_at_night(night: Night) -> None:
    await night.passes(0.9 * HOUR)
    assert night.told() == ("SAFE", [])  # new for less than an hour
    await night.bench.queued()
    await night.passes(0.9 * HOUR)
    assert night.events() == []
    await night.passes(0.2 * HOUR)
    word, reasons = night.told()
    assert word == "FAILING"
    assert reasons[0].startswith("source cameras is silent: no new recording in /srv/cameras since 20")
    assert reasons[0].endswith("and one is expected every 1h")
    assert night.events() == ["source-silent"]

    await night.restart()
    await night.passes(5 * HOUR)
    assert (night.told()[0], night.events()) == ("FAILING", ["source-silent"])  # said once, and kept

    empty = replace(night.bench.recording(), uploads=(), needed=0, skipped="empty")
    await night.bench.ledger.run(intake.enqueue, [empty])
    assert night.told()[0] == "FAILING"  # an empty file is no sign of life
    await night.bench.queued()
    assert not any("silent" in why for why in night.told()[1])
    assert night.events() == ["source-silent", "source-heard"]


async def test_no_alarm_before_a_sweep_has_looked(night: Night) -> None:
    await night.bench.queued()
    await night.stop()
    night.clock.advance(10 * HOUR)  # the daemon was down, and may not know yet what came meanwhile
    night.bench.hand.at = night.clock.now()
    await night.restart()
    await night.passes(2 * HOUR, sweep=False)
    assert night.events() == []
    await night.passes(1)
    assert night.events() == ["source-silent"]


async def test_no_alarm_for_a_source_that_is_paused_or_missing(night: Night) -> None:
    run = night.bench.ledger.run
    await run(acts.pause, "source", "cameras", "ops", "")
    await night.passes(3 * HOUR)
    await run(acts.resume, "source", "cameras", "ops")
    await night.passes(0.9 * HOUR)
    assert night.events() == ["paused", "resumed"]
    await run(health.source_seen, night.bench.source, SourceState.MISSING, None)
    await night.passes(2 * HOUR)
    assert "source-silent" not in night.events()


async def test_a_ledger_of_an_earlier_version_is_taken_along(tmp_path: Path) -> None:
    """Its sources count from their last recording, or from now on; a backup is made first."""
    path = tmp_path / "ledger.db"
    conn = sqlite3.connect(path, isolation_level=None)
    db = Database(conn, execute_plugins=False)
    first = schema.migrations._migrations[0]
    schema.migrations.apply(db, stop_before=schema.migrations._migrations[1].name)
    assert first.name == "m001_first"
    conn.execute("INSERT INTO sources (id, name, path) VALUES (1, 'cameras', x'2f61'), (2, 'gate', x'2f62')")
    conn.execute(
        "INSERT INTO recordings (source_id, path, size, mtime_ns, inode, device, fingerprint, found_at,"
        " finished_at, found_by, finished_by, needed, required)"
        " VALUES (1, x'61', 1, 1, 1, 1, x'00', 4000, 4000, 'event', 'lease', 1, 1)"
    )
    conn.close()
    hand = Hand()
    ledger = Ledger(path, hand.now, "test")
    await ledger.open()
    try:
        for name, folder in (("cameras", b"/a"), ("gate", b"/b")):
            await ledger.run(intake.register_source, name, folder)
        found = await ledger.run(
            lambda tx: tx.conn.execute(
                "SELECT watched_since, last_found_at FROM sources ORDER BY id"
            ).fetchall()
        )
    finally:
        await ledger.close()
    assert found == [(hand.at, 4000), (hand.at, None)]
    assert path.with_name("ledger.db.before-m002_silence").exists()
