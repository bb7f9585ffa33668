"""The peers that are programs: aws-cli, s5cmd, rclone. All verify as they do by default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.jobs import AT_ONCE, BUCKET, Job
from tests.bench.meter import Command
from tests.bench.setup import Tools

_LOGIN: Final = {
    "AWS_ACCESS_KEY_ID": "not-a-real-key",
    "AWS_SECRET_ACCESS_KEY": "not-a-real-key",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True, slots=True)
class AwsCli:
    """Checks each request with the SDK's default checksum (CRC-32, in a trailer)."""

    tools: Tools

    @property
    def name(self) -> str:
        return "aws-cli"

    def command(self, job: Job, workspace: Path) -> Command:
        config = workspace / "aws.ini"
        config.write_text(f"[default]\ns3 =\n    max_concurrent_requests = {AT_ONCE}\n")
        words: list[str | Path] = [
            self.tools.aws,
            "--endpoint-url",
            job.url,
            "s3",
            "cp",
            "--no-progress",
            "--only-show-errors",
        ]
        words += ["--recursive", job.files, f"s3://{BUCKET}/"]
        more = {"AWS_CONFIG_FILE": str(config), "AWS_CA_BUNDLE": str(job.authority)}
        return Command(words, {**_LOGIN, **more}, workspace)

    def check(self, job: Job, workspace: Path) -> None:
        """Its exit status says it."""


@dataclass(frozen=True, slots=True)
class S5cmd:
    """Checks nothing: over TLS the body is unsigned."""

    tools: Tools

    @property
    def name(self) -> str:
        return "s5cmd"

    def command(self, job: Job, workspace: Path) -> Command:
        words: list[str | Path] = [self.tools.s5cmd, "--endpoint-url", job.url, "--log", "error"]
        words += ["--numworkers", str(AT_ONCE), "cp", f"{job.files}/*", f"s3://{BUCKET}/"]
        return Command(words, {**_LOGIN, "SSL_CERT_FILE": str(job.authority)}, workspace)

    def check(self, job: Job, workspace: Path) -> None:
        """Its exit status says it."""


@dataclass(frozen=True, slots=True)
class Rclone:
    """Hashes the file (MD5) before it sends, and looks at each object after it."""

    tools: Tools

    @property
    def name(self) -> str:
        return "rclone"

    def command(self, job: Job, workspace: Path) -> Command:
        words: list[str | Path] = [
            self.tools.rclone,
            "copy",
            job.files,
            f":s3:{BUCKET}",
            "--transfers",
            str(AT_ONCE),
        ]
        # Its buckets are there; asking would only cost it time.
        words += ["--s3-no-check-bucket", "--ca-cert", str(job.authority)]
        settings = {
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_S3_PROVIDER": "Other",
            "RCLONE_S3_ENV_AUTH": "true",
            "RCLONE_S3_ENDPOINT": job.url,
        }
        return Command(words, {**_LOGIN, **settings}, workspace)

    def check(self, job: Job, workspace: Path) -> None:
        """Its exit status says it."""
