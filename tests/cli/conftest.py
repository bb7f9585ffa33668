"""The evening's ledger, to be read."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.cli import evening as evenings
from tests.cli.evening import Evening
from uploaderd.ledger import connect_readonly
from uploaderd.report import status as status_module
from uploaderd.report.disks import Disk


@pytest.fixture
async def evening(tmp_path: Path) -> AsyncIterator[Evening]:
    """A new ledger, held by this process."""
    made = await evenings.opened(tmp_path)
    yield made
    await made.ledger.close()


@pytest.fixture
async def lived(evening: Evening) -> Evening:
    """The evening's ledger, held by this process."""
    await evenings.lived_through(evening)
    return evening


@pytest.fixture
def conn(evening: Evening) -> Iterator[sqlite3.Connection]:
    connection = connect_readonly(evening.config.ledger.path)
    yield connection
    connection.close()


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Disk]], None]:
    """Sets what the file systems say: free space is not the same on two machines."""

    def set_to(found: dict[str, Disk]) -> None:
        monkeypatch.setattr(status_module, "look_at", lambda _: found)

    return set_to
