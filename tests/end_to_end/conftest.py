"""A box and its places, fresh for each test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.places import arranged, clouds
from tests.servers.azurite import Azurite
from tests.servers.gcs import GcsEmulator
from tests.servers.moto import Moto
from tests.strict import StrictServer


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with tempfile.TemporaryDirectory(prefix="ud-") as sockets:
        yield Box(tmp_path, Path(sockets))


@pytest.fixture
def endpoint() -> Iterator[StrictServer]:
    """A strict endpoint of the test's own: it may be switched off and made to fail."""
    with StrictServer() as server:
        yield server
        assert server.crashes == []


@pytest_asyncio.fixture
async def places(endpoint: StrictServer, tmp_path: Path) -> AsyncIterator[dict[str, Place]]:
    """A place of each type: the clouds at the test's own endpoint, and a directory."""
    async with arranged(clouds(endpoint) | {"directory": None}, tmp_path) as places:
        yield places


@pytest_asyncio.fixture
async def emulated(
    moto: Moto, azurite: Azurite, gcs_emulator: GcsEmulator, tmp_path: Path
) -> AsyncIterator[dict[str, Place]]:
    """A place of each type, at the vendors' emulators."""
    servers = {"s3-moto": moto, "azure-azurite": azurite, "gcs-emulator": gcs_emulator, "directory": None}
    async with arranged(servers, tmp_path) as places:
        yield places
