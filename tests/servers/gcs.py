"""gcp-storage-emulator, the JSON API of GCS. Takes any credentials and no preconditions; cannot abort."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.needs import MissingError
from tests.servers.process import running as process_running


@dataclass(frozen=True, slots=True)
class GcsEmulator:
    """`url` is the API's root, without a path."""

    url: str


@contextmanager
def running() -> Iterator[GcsEmulator]:
    """Start it, and end it."""
    if importlib.util.find_spec("gcp_storage_emulator") is None:
        raise MissingError(
            "the GCS emulator is not installed: `pip install gcp-storage-emulator`, or run tests/run.py"
        )
    with process_running(
        lambda port: [
            *(
                sys.executable,
                "-m",
                "gcp_storage_emulator",
                "start",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
            ),
            *("--in-memory", "--quiet"),
        ]
    ) as port:
        yield GcsEmulator(f"http://127.0.0.1:{port}")
