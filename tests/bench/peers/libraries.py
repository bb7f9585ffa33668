"""The peers that are libraries: each with the shortest script that sends a folder with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.jobs import ACCOUNT, AT_ONCE, BUCKET, Cloud, Job
from tests.bench.meter import Command
from tests.bench.setup import Tools

_SCRIPTS: Final = Path(__file__).parent / "scripts"


@dataclass(frozen=True, slots=True)
class Library:
    """`parallel`: parts of one file at once, where the library asks for it; None: as it does by itself."""

    tools: Tools
    script: str
    name: str
    parallel: int | None = None

    def command(self, job: Job, workspace: Path) -> Command:
        words: list[str | Path] = [self.tools.python, _SCRIPTS / self.script]
        words += ["--cloud", str(job.cloud), "--url", job.url, "--files", job.files]
        words += ["--bucket", BUCKET, "--account", ACCOUNT, "--at-once", str(AT_ONCE)]
        if self.parallel is not None:
            words += ["--parallel", str(self.parallel)]
        trust = str(job.authority)
        return Command(words, {"SSL_CERT_FILE": trust, "REQUESTS_CA_BUNDLE": trust}, workspace)

    def check(self, job: Job, workspace: Path) -> None:
        """Its exit status says it: the script fails where a call does."""


def obstore(tools: Tools) -> Library:
    return Library(tools, "put_obstore.py", "obstore")


def vendors(tools: Tools, cloud: Cloud) -> list[Library]:
    """The vendor's own Python client: as it is, and with four parts at once, as ours has."""
    script, name = {
        Cloud.AZURE: ("put_azure.py", "azure-storage-blob"),
        Cloud.GCS: ("put_gcs.py", "google-cloud-storage"),
    }[cloud]
    return [Library(tools, script, name), Library(tools, script, f"{name}, 4 parts", parallel=4)]
