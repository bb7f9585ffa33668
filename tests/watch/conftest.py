"""A watched source in a temporary folder, with a real ledger behind it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from uploaderd.clock import Clock, SystemClock
from uploaderd.config import Config
from uploaderd.intake import Intake, IntakeProvider
from uploaderd.ledger import Ledger, connect_readonly, intake
from uploaderd.provider import Limits
from uploaderd.watcher import Watcher

PATIENCE = 20.0
QUIET = 0.3
LIMITS = Limits(max_single=1 << 30, min_part=1, max_part=1 << 30, max_parts=10_000, max_object=1 << 40)


async def until(
    condition: Callable[[], object], what: str = "the condition", *, patience: float = PATIENCE
) -> None:
    """Wait for something that comes by itself; fail if it does not."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {patience} s"
        await asyncio.sleep(0.01)


class Site:
    """A source named `cameras`, unless configured otherwise; `watching` runs its watcher."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.root = tmp / "recordings"
        self.root.mkdir()
        self.clock: Clock = SystemClock()
        self.wakes = 0

    async def open(self, sources: dict[str, dict[str, Any]] | None = None) -> None:
        plain: dict[str, Any] = {"path": self.root, "quiet_for": f"{QUIET}s", "sweep_every": "1h"}
        self.config = Config.model_validate(
            {
                "sources": {
                    name: plain | settings for name, settings in (sources or {"cameras": {}}).items()
                },
                "providers": {"nas": {"type": "directory", "path": self.tmp / "nas"}},
            }
        )
        self.ledger = Ledger(self.tmp / "ledger" / "ledger.db", self.clock.now, "test")
        await self.ledger.open()
        self.ids = {
            name: await self.ledger.run(intake.register_source, name, os.fsencode(source.path))
            for name, source in self.config.sources.items()
        }
        nas = await self.ledger.run(intake.register_provider, "nas", "directory", "nas")
        self.intake = Intake(
            self.ledger,
            self.config,
            self.ids,
            {"nas": IntakeProvider(nas, LIMITS)},
            wake=self._woken,
            host="box",
            environ={},
        )

    def _woken(self) -> None:
        self.wakes += 1

    def watcher(self, name: str = "cameras") -> Watcher:
        return Watcher(name, self.config.sources[name], self.ids[name], self.intake, self.ledger, self.clock)

    @asynccontextmanager
    async def watching(self, name: str = "cameras") -> AsyncIterator[Watcher]:
        """A running watcher, once events come and the first sweeps are over."""
        watcher = self.watcher(name)
        task = asyncio.create_task(watcher.run())
        try:
            await until(lambda: task.done() or (watcher.settled and watcher.state["listening"]), "the watch")
            yield watcher
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        conn: sqlite3.Connection = connect_readonly(self.ledger.path)
        try:
            return conn.execute(sql).fetchall()
        finally:
            conn.close()

    def queued(self) -> dict[bytes, str]:
        """Paths of what is there, with how it was found."""
        return dict(self.rows("SELECT path, found_by FROM recordings WHERE past = 0"))

    def count(self) -> int:
        return int(self.rows("SELECT count(*) FROM recordings")[0][0])

    def figures(self, record: Callable[[str, object], None], finished: Mapping[bytes, int]) -> None:
        """Of the files that were put in (with their final sizes): each is queued once, as it is at the end.

        `record` is pytest's `record_property`, which keeps the numbers with the test's outcome.
        """
        rows = self.rows("SELECT path, size, state FROM recordings")
        queued = [(path, size) for path, size, state in rows if state == "waiting"]
        right = {path for path, size in queued if finished.get(path) == size}
        counts = {
            "in": len(finished),
            "sent": len(right),
            "missed": len(finished) - len(right),
            "early": len({path for path, size, _ in rows if finished.get(path) != size}),
            "twice": len(queued) - len({path for path, _ in queued}),
        }
        for name, count in counts.items():
            record(name, count)
        assert counts == {"in": len(finished), "sent": len(finished), "missed": 0, "early": 0, "twice": 0}

    def write(self, name: str | bytes, content: bytes = b"content", *, age: float = 0) -> None:
        path = os.path.join(os.fsencode(self.root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        if age:
            at = time.time_ns() - int(age * 1e9)
            os.utime(path, ns=(at, at))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    yield site
    await site.ledger.close()
