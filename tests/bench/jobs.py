"""What every client is given to do, and what a client is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from tests.bench.meter import Command


class Cloud(StrEnum):
    S3 = "s3"
    AZURE = "azure"
    GCS = "gcs"


BUCKET = "recordings"
ACCOUNT = "benchaccount"
AT_ONCE = 16
"""Files that every client sends at the same time where there are many: the peers' documented defaults lie
between 4 and 256, and what they are good at is to be compared, not those."""


@dataclass(frozen=True, slots=True)
class Job:
    """Send every file of a folder to an endpoint."""

    cloud: Cloud
    files: Path
    count: int
    size: int
    """Bytes of each file."""
    url: str
    authority: Path | None

    @property
    def total(self) -> int:
        return self.count * self.size


class Client(Protocol):
    """Somebody who can do a job."""

    @property
    def name(self) -> str: ...

    def command(self, job: Job, workspace: Path) -> Command:
        """The command that does it, in an empty folder of its own."""

    def check(self, job: Job, workspace: Path) -> None:
        """Raises FailedError where its own word is that not all was done, though it ended with 0."""
