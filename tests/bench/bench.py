"""What every measure works with: the tools, the cores, fresh folders and fresh endpoints."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench import meter
from tests.bench.certificate import Certificate
from tests.bench.endpoint import Endpoint, Link, Served
from tests.bench.jobs import Client, Cloud, Job
from tests.bench.meter import Command, FailedError, Metered, Used
from tests.bench.setup import Tools

CLIENT_CORE: Final = 0
SERVER_CORE: Final = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one client, and what its endpoint did meanwhile."""

    client: str
    used: Used
    served: Served

    def kept(self) -> dict[str, Any]:
        return {"client": self.client, "used": asdict(self.used), "served": asdict(self.served)}


@dataclass(frozen=True, slots=True)
class Bench:
    """`data` holds the recordings, on a real disk; `quick` takes smaller ones, to try the bench itself."""

    tools: Tools
    certificate: Certificate
    data: Path
    runs: int
    quick: bool

    def pick(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def say(self, text: str) -> None:
        sys.stderr.write(f"tests.bench: {text}\n")

    def endpoint(self, link: Link | None = None) -> Endpoint:
        """Over TLS, on its own core."""
        return Endpoint(self.tools.sink, SERVER_CORE, self.certificate, link)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """An empty folder beside the recordings, removed at the end."""
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=self.data))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def run(self, command: Command, timeout: float = 900.0) -> Used:
        """Run it on the client's core, to its end."""
        return meter.run(self.tools.meter, CLIENT_CORE, command, timeout)

    def running(self, command: Command) -> Metered:
        """It runs on the client's core until the context ends."""
        return Metered(self.tools.meter, CLIENT_CORE, command)

    def sample(self, client: Client, cloud: Cloud, files: Path, link: Link | None = None) -> Sample:
        """Have a client send a folder to a fresh endpoint.

        Raises:
            FailedError: it did not, by its own word or by the endpoint's.
        """
        sizes = [file.stat().st_size for file in files.iterdir()]
        with self.workspace() as workspace, self.endpoint(link) as endpoint:
            job = Job(cloud, files, len(sizes), sizes[0], endpoint.url, endpoint.authority)
            used = self.run(client.command(job, workspace))
            client.check(job, workspace)
        if endpoint.served.bytes < job.total:
            raise FailedError(f"{client.name} sent {endpoint.served.bytes} of {job.total} bytes")
        return Sample(client.name, used, endpoint.served)
