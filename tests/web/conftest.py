"""The evening's ledger (tests/cli/evening.py) behind the daemon's own doors."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web as aiohttp_web

from tests.cli import evening as evenings
from tests.cli.evening import Evening
from tests.clocks import FakeClock
from uploaderd import web
from uploaderd.config import Config
from uploaderd.live import Live
from uploaderd.serving import Serving


@dataclass
class Face:
    """A face that answers, and how to ask it."""

    live: Live
    clock: FakeClock
    application: aiohttp_web.Application
    socket: Path
    listen: str
    http: aiohttp.ClientSession
    _local: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://{self.listen}"

    async def get(
        self, path: str, headers: dict[str, str] | None = None, *, local: bool = False
    ) -> aiohttp.ClientResponse:
        """The answer, read whole; over TCP, or over the socket."""
        session, url = (self._local, "http://uploaderd") if local else (self.http, self.url)
        async with session.get(f"{url}{path}", headers=headers) as answer:
            await answer.read()
            return answer

    async def answers(self) -> None:
        """Wait until the TCP address is had: it is, as soon as the loop has turned a few times."""
        for _ in range(1000):
            try:
                await self.get("/healthz")
            except aiohttp.ClientConnectorError:
                continue
            return
        raise AssertionError(f"nobody answers at {self.listen}")

    async def json(self, path: str) -> Any:
        answer = await self.get(path)
        assert answer.status == 200, await answer.text()
        return await answer.json()


class Faces:
    """Makes faces on a ledger; all are closed at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[tuple[Serving, aiohttp.ClientSession, aiohttp.ClientSession]] = []

    async def make(self, evening: Evening, *, answers: bool = True, **settings: Any) -> Face:
        """Serve the evening's ledger; `settings` are keys of `[web]`."""
        socket_path = self._folder / "control" / f"{len(self._open)}.sock"
        listen = f"127.0.0.1:{free_port()}"
        keys = {"socket": socket_path, "listen": listen, **settings}
        table = evening.config.web.model_copy(update=keys)
        config: Config = evening.config.model_copy(update={"web": table})
        clock = FakeClock(evening.at)
        live = Live(clock, evening.ledger, config)
        application = web.application(live)
        serving = Serving(application, table, clock)
        await serving.begin()
        session = aiohttp.ClientSession()
        local = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket_path)))
        self._open.append((serving, session, local))
        face = Face(live, clock, application, socket_path, keys["listen"], session, local)
        if answers:
            await face.answers()
        return face

    async def close(self) -> None:
        for serving, *sessions in self._open:
            for session in sessions:
                await session.close()
            await serving.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may pass through; with a short path, for a Unix socket's may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ud-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture
async def faces(folder: Path) -> AsyncIterator[Faces]:
    made = Faces(folder)
    yield made
    await made.close()


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Evening]:
    """A ledger that has seen nothing yet, held by this process."""
    made = await evenings.opened(tmp_path)
    made.at = evenings.NOW
    yield made
    await made.ledger.close()


@pytest.fixture
async def lived(empty: Evening) -> Evening:
    """The evening's ledger at 18:00, held by this process."""
    await evenings.lived_through(empty)
    return empty


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
