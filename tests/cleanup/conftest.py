"""The pool's rig with a cleaner on it: recordings safe at a real place, and a clock that leaps."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.contract.conftest import all_backends
from tests.kill.figures import Record, recorder
from tests.pool.conftest import PATIENCE, Rig, rig
from tests.strict import StrictServer
from uploaderd.cleanup import Cleaner
from uploaderd.config import Cleanup, Source
from uploaderd.copies import CleanupProvider
from uploaderd.finished import ignore_lease_signals
from uploaderd.ledger import read
from uploaderd.ledger.read import RecordingRow
from uploaderd.provider import Provider
from uploaderd.worker import Pool

__all__ = ["rig"]

AT = ("s3-strict", "azure-strict", "gcs-strict", "directory")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "at(*types): only at backends of these types")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a `backend` runs at the three clouds of the strict endpoint and in a directory."""
    if "backend" in metafunc.fixturenames:
        only = next(metafunc.definition.iter_markers("at"), None)
        chosen = [b for b in all_backends() if b.name in AT and (only is None or b.type in only.args)]
        metafunc.parametrize("backend", chosen, ids=lambda backend: backend.type)


@pytest.fixture(autouse=True, scope="session")
def _live_through_lease_signals() -> None:
    ignore_lease_signals()


@pytest.fixture
def strict() -> Iterator[StrictServer]:
    """An endpoint of the test's own: its faults and permissions are nobody else's."""
    with StrictServer() as server:
        yield server
        assert server.crashes == []


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Takes a figure into the test report."""
    return recorder(request)


@dataclass
class Yard:
    """A rig whose pool is at work, and what the cleaner told."""

    rig: Rig
    pool: Pool
    looked_at: list[bytes] = field(default_factory=list)

    @property
    def provider(self) -> Provider:
        assert self.pool.provider is not None
        return self.pool.provider

    async def safe(self, name: str = "a.mp4", content: bytes = b"a recording", **columns: Any) -> int:
        """A recording that is safe; `columns` are changed in its row afterwards."""
        (self.rig.folder / name).parent.mkdir(parents=True, exist_ok=True)
        recording = await self.rig.queue(name, content)
        self.pool.wake()
        row = await self.rig.settled(recording)
        assert row.state == "safe"
        if columns:
            changes = ", ".join(f"{column} = :{column}" for column in columns)
            await self.rig.ledger.run(
                lambda tx: tx.conn.execute(
                    f"UPDATE recordings SET {changes} WHERE id = :id", {**columns, "id": recording}
                )
            )
        return recording

    def cleaner(
        self,
        *,
        near: Path | None = None,
        spare: tuple[Path, ...] = (),
        provider: Provider | None = None,
        finished: Literal["auto", "marker"] = "auto",
        **rules: Any,
    ) -> Cleaner:
        """`near`: the provider's folder, where a copy on the file's own device does not count."""
        source = Source(
            path=self.rig.folder,
            finished=finished,
            cleanup=Cleanup(**({"policy": "delete-when-safe", "keep_for": "24h"} | rules)),
        )
        return Cleaner(
            "cams",
            source,
            self.rig.source,
            self.rig.ledger,
            self.rig.clock,
            {"tested": CleanupProvider(lambda: provider or self.pool.provider, near)},
            look_at=self.looked_at.append,
            queued=self.pool.wake,
            spare={os.fsencode(path) for path in spare},
        )

    @asynccontextmanager
    async def cleaning(self, **settings: Any) -> AsyncIterator[Cleaner]:
        """A cleaner at work; cancelled at the end, as the daemon does."""
        cleaner = self.cleaner(**settings)
        await cleaner.settle()
        task = asyncio.create_task(cleaner.run())
        try:
            yield cleaner
        finally:
            done = task.done()
            task.cancel()
            (end,) = await asyncio.gather(task, return_exceptions=True)
            assert done or isinstance(end, asyncio.CancelledError), end

    async def event(self, kind: str, recording: int | None, **detail: object) -> dict[str, Any]:
        """Wait for an event of that kind (and with that in its detail); its row."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self.rig.ledger.moved.clear()
                for row in await self.events(recording):
                    told = read_detail(row)
                    if row["kind"] == kind and detail.items() <= told.items():
                        return {**row, "detail": told}
                await self.rig.ledger.moved.wait()

    async def events(self, recording: int | None) -> list[dict[str, Any]]:
        """Newest first."""
        return await read_events(self.rig, recording)

    async def kinds(self, recording: int | None) -> list[str]:
        """The kinds of the recording's events, oldest first."""
        return [row["kind"] for row in reversed(await self.events(recording))]

    async def row(self, recording: int) -> RecordingRow:
        return await self.rig.row(recording)

    def left(self) -> list[str]:
        """What is in the source's folder, whatever its name."""
        return sorted(
            str(path.relative_to(self.rig.folder)) for path in self.rig.folder.rglob("*") if path.is_file()
        )


def read_detail(row: dict[str, Any]) -> dict[str, Any]:
    import json

    detail = json.loads(row["detail"])
    assert isinstance(detail, dict)
    return detail


async def read_events(rig: Rig, recording: int | None) -> list[dict[str, Any]]:
    from uploaderd.ledger import Ledger

    return await Ledger.run(rig.ledger, lambda tx: read.events(tx.conn, recording, 1000))


@pytest.fixture
async def yard(rig: Rig) -> AsyncIterator[Yard]:
    async with rig.working() as pool:
        yield Yard(rig, pool)
