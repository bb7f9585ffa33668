"""A box whose doctor is asked in this process: a tenth of the time that a new one takes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.asking import Clinic
from tests.end_to_end.box import Box
from tests.end_to_end.conftest import endpoint, places

__all__ = ["endpoint", "places"]


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    with tempfile.TemporaryDirectory(prefix="ud-") as sockets:
        yield Clinic(Box(tmp_path, Path(sockets)))
