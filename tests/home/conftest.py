"""A box with one source and one provider, and what a service manager hears."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.box import Box
from tests.home.listening import Listening


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """Two folders, `hall` and its copies."""
    with tempfile.TemporaryDirectory(prefix="ud-") as sockets:
        box = Box(tmp_path, Path(sockets))
        box.source("hall")
        (tmp_path / "copies").mkdir()
        box.providers["nas"] = {"type": "directory", "path": str(tmp_path / "copies")}
        yield box


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Listening]:
    with tempfile.TemporaryDirectory(prefix="ud-") as folder, Listening(f"{folder}/notify") as listening:
        yield listening
