"""moto's S3. Accepts wrong checksums, any credentials and a second Complete."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.needs import MissingError
from tests.servers.process import running as process_running


@dataclass(frozen=True, slots=True)
class Moto:
    """`url` is the S3 endpoint; any access key will do."""

    url: str


@contextmanager
def running() -> Iterator[Moto]:
    """Start it, and end it."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        raise MissingError(
            "moto's server is not installed: `pip install 'moto[server]'`, or run tests/run.py"
        )
    # It must see no credentials or endpoints of the person who runs the tests.
    env = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_CONFIG_FILE": "/dev/null"}
    with process_running(
        lambda port: [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], env=env
    ) as port:
        yield Moto(f"http://127.0.0.1:{port}")
