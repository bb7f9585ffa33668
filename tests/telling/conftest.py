"""A ledger whose recordings somebody wants to hear of, and a clock that stands still until it is turned."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import pytest

from tests.clocks import FakeClock
from tests.ledger.conftest import Bench, Hand
from tests.telling.receiver import Receiver
from uploaderd.config import Config, load
from uploaderd.ledger import Ledger, connect_readonly, intake, outbox
from uploaderd.model import Milliseconds
from uploaderd.telling import Telling

T = TypeVar("T")

SECRET = "not-a-real-secret"
CONFIG = """
[ledger]
path = "ledger.db"
[daemon]
site = "hall-3"
[sources.cameras]
path = "/srv/cameras"
metadata = {{ room = "3" }}
[providers.s3_main]
type = "s3"
bucket = "recordings"
region = "eu-central-1"
[providers.nas]
type = "directory"
path = "/nas"
[webhooks.shop]
url = "{url}"
secret = "{secret}"
{more}
"""


def configuration(folder: Path, url: str, more: str = "", secret: str = SECRET) -> Config:
    file = folder / "config.toml"
    file.write_text(CONFIG.format(url=url, more=more, secret=secret))
    return load(file, env={})


class Office:
    """Recordings come to pass in `bench`; `at_work` carries what is to be told of them."""

    def __init__(self, bench: Bench, clock: FakeClock, folder: Path) -> None:
        self.bench = bench
        self.clock = clock
        self.folder = folder

    async def wants(self, receiver: Receiver, more: str = "", secret: str = SECRET) -> Config:
        """From now on, the receiver is to be told."""
        config = configuration(self.folder, receiver.url, more, secret)
        wanted = {name: webhook.events for name, webhook in config.webhooks.items()}
        await self.bench.ledger.run(outbox.configured, wanted)
        return config

    @asynccontextmanager
    async def at_work(self, config: Config) -> AsyncIterator[Telling]:
        rows = await self.bench.ledger.run(
            outbox.configured, {name: webhook.events for name, webhook in config.webhooks.items()}
        )
        telling = Telling("shop", rows["shop"], config, self.bench.ledger, self.clock, chance=lambda: 0.5)
        task = asyncio.create_task(telling.run())
        try:
            yield telling
        finally:
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled():
                task.result()

    async def until(self, true: Callable[[outbox.WebhookRow], bool]) -> outbox.WebhookRow:
        """Wait until the webhook stands so; time passes meanwhile in no way."""
        async with asyncio.timeout(60):
            while not true(found := self.webhook()):  # noqa: ASYNC110 - the ledger has no event for it
                await asyncio.sleep(0.01)
        return found

    async def passes(self, seconds: float) -> None:
        """Time passes, once somebody waits for it: the ledger shows a failure before its pause begins."""
        async with asyncio.timeout(60):
            while not self.clock.sleeping:  # noqa: ASYNC110 - the clock has no event for it
                await asyncio.sleep(0.001)
        self.clock.advance(seconds)

    def webhook(self) -> outbox.WebhookRow:
        return self._read(outbox.webhooks)[0]

    def events(self, kind: str) -> list[str]:
        asked = "SELECT detail FROM events WHERE kind = ? ORDER BY id"
        return self._read(lambda conn: [str(row[0]) for row in conn.execute(asked, (kind,))])

    def counted(self, table: str) -> int:
        return self._read(lambda conn: int(conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]))

    def _read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        with closing(connect_readonly(self.bench.ledger.path)) as conn:
            return question(conn)


class TurnedElsewhere(Hand):
    """A hand that shows another clock's time."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def now(self) -> Milliseconds:
        return self._clock.now()


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    clock = FakeClock(1_790_000_000_000)

    ledger = Ledger(tmp_path / "ledger.db", clock.now, "test")
    await ledger.open()
    source = await ledger.run(intake.register_source, "cameras", b"/srv/cameras")
    bench = Bench(ledger, TurnedElsewhere(clock), source)
    for name, type_ in (("s3_main", "s3"), ("nas", "directory")):
        bench.providers[name] = await ledger.run(intake.register_provider, name, type_, name)
    yield Office(bench, clock, tmp_path)
    await ledger.close()
