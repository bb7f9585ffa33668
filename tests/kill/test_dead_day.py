"""One provider dies and stays so for a day, on a clock that leaps, with a thousand recordings waiting."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.contract.acts import opened
from tests.contract.place import Place
from tests.kill.figures import Record
from tests.pool.conftest import LeapingClock, WatchedLedger, content_of
from tests.strict import StrictServer
from uploaderd import beneath, finished
from uploaderd.attempts import Surroundings
from uploaderd.ledger import Ledger, Transaction, intake, read
from uploaderd.model import Claim, FinishedBy, FoundBy, OnConflict, OnNewVersion
from uploaderd.provider import Provider
from uploaderd.wishes import Wishes
from uploaderd.worker import Pool

RECORDINGS: Final = 1_000
BEFORE: Final = 20
"""Recordings that the provider takes before it dies."""
DAY_MS: Final = 24 * 3600 * 1000
MIB: Final = 1024 * 1024


class Site:
    """A source with recordings, a ledger, and a pool for each provider."""

    def __init__(self, folder: Path) -> None:
        self.clock = LeapingClock()
        self.ledger = WatchedLedger(folder / "ledger.db", self.clock)
        self.source = folder / "recordings"
        self.source.mkdir()
        self.providers: dict[str, int] = {}

    async def queue(self, names: list[str]) -> None:
        """Write and queue recordings; each is to be at every provider."""
        source = await self.ledger.run(intake.register_source, "cams", os.fsencode(self.source))
        for name in names:
            self.providers[name] = await self.ledger.run(intake.register_provider, name, "any", name)
        for number in range(RECORDINGS):
            (self.source / f"{number}.mp4").write_bytes(content_of(100 + number))
        found = [self._recording(source, f"{number}.mp4") for number in range(RECORDINGS)]
        await self.ledger.run(intake.enqueue, found)

    def _recording(self, source: int, name: str) -> intake.NewRecording:
        fd = beneath.open_beneath(os.fsencode(self.source), os.fsencode(name))
        try:
            status = os.fstat(fd)
            identity = beneath.identity_of(status, beneath.fingerprint(fd, status.st_size))
        finally:
            os.close(fd)
        uploads = tuple(intake.NewUpload(id_, name, required=True) for id_ in self.providers.values())
        return intake.NewRecording(
            source,
            os.fsencode(name),
            identity,
            FoundBy.SWEEP,
            FinishedBy.LEASE,
            self.clock.now(),
            uploads,
            len(uploads),
        )

    @asynccontextmanager
    async def working(self, places: dict[str, Place]) -> AsyncIterator[None]:
        pools = [self._pool(name, places[name].settings) for name in self.providers]
        tasks = [asyncio.create_task(pool.run()) for pool in pools]
        try:
            yield
        finally:
            for pool in pools:
                pool.stop()
            await asyncio.wait_for(asyncio.gather(*tasks), 60)

    def _pool(self, name: str, settings: dict[str, Any]) -> Pool:
        async def provider() -> Provider:
            return await opened(settings)

        async def heard(_: str) -> None:
            """Nobody listens."""

        surroundings = Surroundings(
            wishes=_wishes,
            resweep=heard,
            offer=lambda source, path: None,
            safe=lambda claim, holders: None,
            chance=random.Random(7).random,
        )
        return Pool(
            name,
            self.providers[name],
            provider,
            self.ledger,
            self.clock,
            surroundings,
            max_uploads=4,
            max_parts=2,
        )

    async def verified(self) -> dict[str, int]:
        """Verified uploads by provider."""
        rows = await Ledger.run(self.ledger, lambda tx: read.providers(tx.conn))
        return {row.name: row.verified for row in rows}


@pytest.mark.timeout(240)
async def test_dead_for_a_day(endpoint: StrictServer, places: dict[str, Place], record: Record) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        site = Site(Path(folder))
        await site.ledger.open()
        await site.queue(["s3", "directory"])
        async with site.working(places):
            async with asyncio.timeout(120):
                while (await site.verified())["s3"] < BEFORE:
                    await moved(site)
                endpoint.switch_off()
                while (await site.verified())["directory"] < RECORDINGS:
                    await moved(site)
            # What the others are done with is done; from here on nothing but probing goes on.
            memory, size = resident(), (Path(folder) / "ledger.db").stat().st_size
            attempts, events = await history(site)
            began = site.clock.now()
            async with asyncio.timeout(120):
                while site.clock.now() < began + DAY_MS:
                    await moved(site)
            grown = resident() - memory
            (dead,) = [row for row in await _providers(site) if row.name == "s3"]
            assert dead.state == "retrying"
            assert dead.verified + dead.waiting == RECORDINGS
            assert dead.waiting > RECORDINGS // 2
            assert dead.problem_message
            more_attempts, more_events = (
                now - before for now, before in zip(await history(site), (attempts, events), strict=True)
            )
            rows = await Ledger.run(site.ledger, parts_and_leftovers)
        assert grown < 16 * MIB, f"{grown} bytes in a day"
        failed = attempts - RECORDINGS - dead.verified
        assert 1 <= failed <= 10, "few attempts were made before it was known to be dead"
        assert (more_attempts, more_events) == (0, 0), "and nothing after that, the whole day"
        assert rows == 0
        assert (Path(folder) / "ledger.db").stat().st_size - size < MIB

        endpoint.switch_on()
        async with site.working(places):
            async with asyncio.timeout(120):
                while (await site.verified())["s3"] < RECORDINGS:
                    await moved(site)
        totals = await Ledger.run(site.ledger, lambda tx: read.totals(tx.conn))
        assert (totals.safe, totals.waiting) == (RECORDINGS, 0)
        assert len(endpoint.s3.objects(places["s3"].settings["bucket"])) == RECORDINGS
        await site.ledger.close()
    record("recordings", RECORDINGS)
    record("waiting", dead.waiting)
    record("failed attempts", failed)
    record("ledger rows in the day", more_attempts + more_events)
    record("memory KiB in the day", grown // 1024)


def _wishes(claim: Claim, rate: float | None) -> Wishes:
    return Wishes(
        content_type="video/mp4",
        metadata={},
        on_conflict=OnConflict.SUFFIX,
        on_new_version=OnNewVersion.KEEP_BOTH,
        part_size=None,
        rate=rate,
        writer_has=finished.writer_has,
    )


async def moved(site: Site) -> None:
    site.ledger.moved.clear()
    await asyncio.wait_for(site.ledger.moved.wait(), 60)


async def history(site: Site) -> tuple[int, int]:
    """Rows of attempts and events."""

    def count(tx: Transaction) -> tuple[int, int]:
        (attempts,) = tx.conn.execute("SELECT count(*) FROM attempts").fetchone()
        (events,) = tx.conn.execute("SELECT count(*) FROM events").fetchone()
        return attempts, events

    return await Ledger.run(site.ledger, count)


def parts_and_leftovers(tx: Transaction) -> int:
    (count,) = tx.conn.execute(
        "SELECT (SELECT count(*) FROM parts) + (SELECT count(*) FROM leftovers)"
    ).fetchone()
    return int(count)


async def _providers(site: Site) -> list[read.ProviderRow]:
    return await Ledger.run(site.ledger, lambda tx: read.providers(tx.conn))


def resident() -> int:
    """This process's memory, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
