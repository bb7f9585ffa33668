"""A box whose doctor is asked in this process: a tenth of the time that a new one takes."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.place import Place
from tests.doctor.asking import Clinic
from tests.end_to_end.box import Box
from tests.end_to_end.places import arranged, clouds
from tests.strict import StrictServer


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    with tempfile.TemporaryDirectory(prefix="ud-") as sockets:
        yield Clinic(Box(tmp_path, Path(sockets)))


@pytest.fixture
def endpoint() -> Iterator[StrictServer]:
    """A strict endpoint of the test's own: it may be made to fail."""
    with StrictServer() as server:
        yield server
        assert server.crashes == []


@pytest_asyncio.fixture
async def places(endpoint: StrictServer, tmp_path: Path) -> AsyncIterator[dict[str, Place]]:
    async with arranged(clouds(endpoint) | {"directory": None}, tmp_path) as places:
        yield places
