"""Fixtures for the whole suite: the servers, started when the first test asks and ended after the last.

Nothing heavy is imported here, so that a single small test starts at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.servers.azurite import Azurite
    from tests.servers.gcs import GcsEmulator
    from tests.servers.moto import Moto
    from tests.strict import StrictServer

T = TypeVar("T")

# What the person who runs the tests has set for other programs must not steer ours.
_FOREIGN = (
    "AWS_",
    "AZURE_",
    "BOTO_",
    "GCP_",
    "GCS_",
    "GOOGLE_",
    "RECORDINGS_",
    "STORAGE_",
    "TAVUS_",
    "UPLOADERD_",
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def pytest_configure() -> None:
    for name in list(os.environ):
        foreign = name.startswith(_FOREIGN)
        if foreign or name.lower() in _PROXIES:
            del os.environ[name]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in a shell's background, Ctrl-C is ignored, and by every process that is started from here.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # without it botocore asks 169.254.169.254, and waits


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Here, for where tests run in several processes the one that tells reads no folder's conftest."""
    from tests.kill.figures import table

    if lines := table(each for reports in terminalreporter.stats.values() for each in reports):
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def as_root() -> None:
    """For a test that becomes another user, or sets the kernel's limits."""
    from tests.needs import lacking

    if os.geteuid() != 0:
        lacking("only root can become another user, or set the kernel's limits")


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    """moto's S3 at `moto.url`."""
    from tests.servers.moto import running

    yield from _run(running())


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Azure's emulator at `azurite.url`, with `azurite.account` and `azurite.key`."""
    from tests.servers.azurite import running

    yield from _run(running())


@pytest.fixture(scope="session")
def gcs_emulator() -> Iterator[GcsEmulator]:
    """gcp-storage-emulator at `gcs_emulator.url`."""
    from tests.servers.gcs import running

    yield from _run(running())


@pytest.fixture(scope="session")
def strict() -> Iterator[StrictServer]:
    """The project's own endpoint, one for the whole run; a test that steers faults starts one of its own."""
    from tests.strict import StrictServer

    with StrictServer() as server:
        yield server
        assert server.crashes == []


def _run(server: AbstractContextManager[T]) -> Iterator[T]:
    """The server while it runs; where it is not installed, the test ends."""
    from tests.needs import MissingError, lacking

    with ExitStack() as running:
        try:
            started = running.enter_context(server)
        except MissingError as error:
            lacking(error)
        yield started
