"""The discarding endpoint (`sink/`) as a process: one for each run, so that each begins empty."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.bench.certificate import Certificate


@dataclass(frozen=True, slots=True)
class Link:
    """What lies before an endpoint. `rate` in bytes a second, all connections together; None: no limit.

    `latency` in seconds: a round trip, paid by each request and by each connection's beginning.
    """

    rate: float | None = None
    latency: float = 0.0


@dataclass(frozen=True, slots=True)
class Served:
    """What an endpoint did in its life. `bytes` are those of requests, heads included."""

    cpu_seconds: float
    bytes: int
    requests: int
    connections: int


class Endpoint:
    """A context manager; inside it `url` answers, after it `served` tells what it did.

    Raises:
        RuntimeError: it did not start, or did not live to tell.
    """

    def __init__(
        self, sink: Path, core: int, certificate: Certificate | None = None, link: Link | None = None
    ) -> None:
        link = link or Link()
        self._command: list[str | Path] = [sink, "--core", str(core)]
        if certificate is not None:
            self._command += ["--certificate", certificate.shown, "--key", certificate.key]
        if link.rate is not None:
            self._command += ["--rate", f"{link.rate:f}"]
        if link.latency:
            self._command += ["--latency", f"{link.latency * 1000:f}"]
        self._scheme = "http" if certificate is None else "https"
        self._process: subprocess.Popen[str] | None = None
        self.authority = certificate.authority if certificate is not None else None
        self.url = ""
        self._served: Served | None = None

    @property
    def served(self) -> Served:
        assert self._served is not None
        return self._served

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the endpoint ended with {self._process.wait()} before it listened")
        self.url = f"{self._scheme}://127.0.0.1:{json.loads(line)['port']}"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        told = self._process.communicate(timeout=10)[0]
        if not told:
            raise RuntimeError(f"the endpoint died with {self._process.returncode}")
        self._served = Served(**json.loads(told))
