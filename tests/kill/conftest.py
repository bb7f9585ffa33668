"""What the tests of this folder share: the pool's rig, a box with a daemon, and figures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.conftest import all_backends
from tests.end_to_end.conftest import box, endpoint, places
from tests.kill.figures import Record, recorder
from tests.pool.conftest import rig
from tests.strict import StrictServer

__all__ = ["box", "endpoint", "places", "rig"]

AT = ("s3-strict", "azure-strict", "gcs-strict", "directory")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "at(*types): only at backends of these types")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a `backend` runs at the three clouds of the strict endpoint and in a directory."""
    if "backend" in metafunc.fixturenames:
        only = next(metafunc.definition.iter_markers("at"), None)
        chosen = [b for b in all_backends() if b.name in AT and (only is None or b.type in only.args)]
        metafunc.parametrize("backend", chosen, ids=lambda backend: backend.type)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Takes a figure: into the report, and into the table at the end."""
    return recorder(request)


@pytest.fixture
def strict() -> Iterator[StrictServer]:
    """An endpoint of the test's own: its faults and its log are nobody else's."""
    with StrictServer() as server:
        yield server
        assert server.crashes == []
