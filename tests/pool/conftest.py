"""One provider's pool on a real ledger and a real place; time passes only when somebody waits for it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest

from tests.contract.acts import opened
from tests.contract.conftest import all_backends
from tests.contract.place import Backend, Place
from uploaderd import beneath, finished
from uploaderd.attempts import Surroundings
from uploaderd.clock import Clock
from uploaderd.ledger import Ledger, Transaction, intake, read, work
from uploaderd.model import (
    Claim,
    FinishedBy,
    FoundBy,
    Milliseconds,
    OnConflict,
    OnNewVersion,
)
from uploaderd.provider import Provider
from uploaderd.wishes import Wishes
from uploaderd.worker import Pool

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 60.0
"""Seconds of real time after which a test that waits has failed."""


class LeapingClock:
    """Whoever sleeps wakes at once, and that much later."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self.wrong_by = 0.0
        """Seconds by which the wall's clock is off."""

    def now(self) -> Milliseconds:
        return Milliseconds(int((time.time() + self._ahead + self.wrong_by) * 1000))

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.leap(seconds)

    def leap(self, seconds: float) -> None:
        self._ahead += seconds


class WatchedLedger(Ledger):
    """Tells when something was written, so that a test can wait for a state without polling."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(path, clock.now, "test", machine=clock.monotonic)
        self.moved = asyncio.Event()
        self.hook: Callable[[str], Awaitable[None]] | None = None

    async def run(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        result = await super().run(work, *args, **kwargs)
        await self._tell(work)
        return result

    async def run_in_need(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        result = await super().run_in_need(work, *args, **kwargs)
        await self._tell(work)
        return result

    async def _tell(self, work: Callable[..., object]) -> None:
        self.moved.set()
        if self.hook is not None:
            await self.hook(getattr(work, "__name__", ""))


@dataclass
class Rig:
    """A source folder, a ledger, a place, and what the pool told."""

    folder: Path
    place: Place
    ledger: WatchedLedger
    clock: LeapingClock
    source: int
    provider: int
    settings: dict[str, Any]
    on_conflict: OnConflict = OnConflict.SUFFIX
    on_new_version: OnNewVersion = OnNewVersion.KEEP_BOTH
    stall_seconds: float = 20.0
    safe: list[bytes] = field(default_factory=list)
    offered: list[bytes] = field(default_factory=list)
    resweep: Callable[[str], Awaitable[None]] | None = None
    tuned: Callable[[Provider], None] | None = None
    """Does something to the provider before it is used."""

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    async def queue(self, name: str, content: bytes | None = None, *, key: str | None = None) -> int:
        """Queue the file of that name, written first if content is given; the recording's row."""
        if content is not None:
            self.write(name, content)
        fd = beneath.open_beneath(os.fsencode(self.folder), os.fsencode(name))
        try:
            status = os.fstat(fd)
            identity = beneath.identity_of(status, beneath.fingerprint(fd, status.st_size))
        finally:
            os.close(fd)
        return await self.ledger.run(
            enqueue_one,
            intake.NewRecording(
                self.source,
                os.fsencode(name),
                identity,
                FoundBy.EVENT,
                FinishedBy.LEASE,
                self.clock.now(),
                (intake.NewUpload(self.provider, key or f"cams/{name}", required=True),),
                1,
            ),
        )

    @asynccontextmanager
    async def working(self, *, attempt_timeout: float | None = None, **settings: Any) -> AsyncIterator[Pool]:
        """A pool at work; stopped cleanly at the end."""
        table = self.settings | settings

        async def provider() -> Provider:
            made = await opened(table)
            if self.tuned is not None:
                self.tuned(made)
            return made

        def safe(claim: Claim, holders: Sequence[str]) -> None:
            assert "tested" in holders
            self.safe.append(claim.path)

        async def resweep(source: str) -> None:
            if self.resweep is not None:
                await self.resweep(source)

        pool = Pool(
            "tested",
            self.provider,
            provider,
            self.ledger,
            self.clock,
            Surroundings(
                wishes=self._wishes,
                resweep=resweep,
                offer=lambda _, path: self.offered.append(path),
                safe=safe,
                chance=random.Random(7).random,
                stall_seconds=self.stall_seconds,
            ),
            max_uploads=2,
            max_parts=2,
            attempt_timeout=attempt_timeout,
        )
        task = asyncio.create_task(pool.run())
        try:
            yield pool
        finally:
            pool.stop()
            await asyncio.wait_for(task, PATIENCE)

    def _wishes(self, claim: Claim, rate: float | None) -> Wishes:
        return Wishes(
            content_type="video/mp4",
            metadata={},
            on_conflict=self.on_conflict,
            on_new_version=self.on_new_version,
            part_size=self.place.part_size,
            rate=None,
            writer_has=finished.writer_has,
        )

    async def until(
        self, holds: Callable[[Rig, read.RecordingRow], bool], recording: int
    ) -> read.RecordingRow:
        """Wait until it holds of the recording."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self.ledger.moved.clear()
                row = await self.row(recording)
                if holds(self, row):
                    return row
                await self.ledger.moved.wait()

    async def settled(self, recording: int) -> read.RecordingRow:
        """Wait until nothing more will happen to the recording by itself."""
        return await self.until(lambda _, row: row.state != "waiting", recording)

    async def row(self, recording: int) -> read.RecordingRow:
        (row,) = await Ledger.run(self.ledger, lambda tx: read.by_rows(tx.conn, [recording]))
        return row

    async def attempts(self, recording: int) -> list[dict[str, Any]]:
        return await Ledger.run(self.ledger, lambda tx: read.attempts(tx.conn, recording, 1000))


def enqueue_one(tx: Transaction, recording: intake.NewRecording) -> int:
    (row,) = intake.enqueue(tx, [recording])
    assert row is not None
    return row


def content_of(size: int, seed: str = "") -> bytes:
    """Bytes that look like a recording's: no two windows alike."""
    return random.Random(hashlib.sha256(f"{size}{seed}".encode()).digest()).randbytes(size)


STRICT = [
    backend
    for backend in all_backends()
    if backend.server in ("strict", None) and not backend.lenient & {"checksums"}
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        only = next(metafunc.definition.iter_markers("at"), None)
        chosen = [b for b in STRICT if only is None or b.type in only.args]
        metafunc.parametrize("backend", chosen, ids=lambda backend: backend.name)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "at(*types): only at backends of these types")


@pytest.fixture
async def rig(backend: Backend, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    server = request.getfixturevalue(backend.server) if backend.server else None
    folder = tmp_path / "recordings"
    folder.mkdir()
    clock = LeapingClock()
    ledger = WatchedLedger(tmp_path / "ledger.db", clock)
    await ledger.open()
    source = await ledger.run(intake.register_source, "cams", os.fsencode(folder))
    provider = await ledger.run(intake.register_provider, "tested", backend.type, "target")
    async with backend.arrange(server, tmp_path) as place:
        yield Rig(folder, place, ledger, clock, source, provider, dict(place.settings))
    await ledger.close()


__all__ = ["Rig", "content_of", "replace", "work"]
