"""Finds the backends and hands each test a fresh place at each of them."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

import tests.contract
from tests.contract.acts import opened
from tests.contract.place import Backend, Check, Place
from uploaderd.provider import Provider
from uploaderd.reader import OpenRecording

Record = Callable[[bytes], Awaitable[OpenRecording]]


def all_backends() -> list[Backend]:
    names = (module.name for module in pkgutil.iter_modules(tests.contract.__path__))
    return [
        backend
        for name in sorted(names)
        if name.startswith("backends_")
        for backend in importlib.import_module(f"tests.contract.{name}").BACKENDS
    ]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "relies_on(*checks): not run at backends that are lenient about one of these (`place.Check`)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test at each backend whose server gets right what the test is about (`relies_on`)."""
    if "backend" not in metafunc.fixturenames:
        return
    needed: set[Check] = {
        check for mark in metafunc.definition.iter_markers("relies_on") for check in mark.args
    }
    backends = [backend for backend in all_backends() if not needed & backend.lenient]
    metafunc.parametrize("backend", backends, ids=lambda backend: backend.name, scope="function")


@pytest.fixture
def server(backend: Backend, request: pytest.FixtureRequest) -> object:
    return request.getfixturevalue(backend.server) if backend.server else None


@pytest_asyncio.fixture
async def place(backend: Backend, server: object, tmp_path: Path) -> AsyncIterator[Place]:
    async with backend.arrange(server, tmp_path) as place:
        yield place


@pytest_asyncio.fixture
async def provider(place: Place) -> AsyncIterator[Provider]:
    provider = await opened(place.settings)
    try:
        yield provider
    finally:
        await provider.aclose()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Where recordings lie."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest_asyncio.fixture
async def record(source: Path) -> AsyncIterator[Record]:
    """Writes a recording with the given content and opens it; all are closed in the end."""
    recordings: list[OpenRecording] = []

    async def record(content: bytes) -> OpenRecording:
        name = f"{len(recordings)}.mp4"
        (source / name).write_bytes(content)
        recordings.append(await OpenRecording.open(bytes(source), name.encode()))
        return recordings[-1]

    yield record
    for recording in recordings:
        await recording.close()


@pytest.fixture
def noise() -> Callable[[int], bytes]:
    """Bytes that do not repeat, the same in each run."""
    return random.Random(2).randbytes
