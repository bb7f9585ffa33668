"""Our side: the whole daemon as a process, from its start to its end, ledger and all."""

from __future__ import annotations

import base64
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.bench.jobs import ACCOUNT, AT_ONCE, BUCKET, Cloud, Job
from tests.bench.meter import Command, FailedError

_ROOT: Final = Path(__file__).parents[2]
_LOGINS: Final[Mapping[Cloud, Mapping[str, str]]] = {
    Cloud.S3: {
        "type": "s3",
        "bucket": BUCKET,
        "region": "us-east-1",
        "access_key_id": "not-a-real-key",
        "secret_access_key": "not-a-real-key",
    },
    Cloud.AZURE: {
        "type": "azure",
        "account": ACCOUNT,
        "container": BUCKET,
        "account_key": base64.b64encode(b"not-a-real-key").decode(),
    },
    Cloud.GCS: {"type": "gcs", "bucket": BUCKET},
}


@dataclass(frozen=True, slots=True)
class Place:
    """A provider of the configuration. `more` are further keys, in TOML."""

    cloud: Cloud
    url: str
    authority: Path | None
    more: Mapping[str, str] = field(default_factory=dict)

    def table(self, name: str) -> str:
        url = f"{self.url}/{ACCOUNT}" if self.cloud is Cloud.AZURE else self.url
        keys = {key: f'"{value}"' for key, value in _LOGINS[self.cloud].items()}
        keys["endpoint_url"] = f'"{url}"'
        if self.authority is not None:
            keys["ca_file"] = f'"{self.authority}"'
        if self.cloud is Cloud.GCS:
            keys["anonymous"] = "true"
        return _table(f"providers.{name}", {**keys, **self.more})


def configured(
    workspace: Path,
    files: Path,
    places: Sequence[Place],
    *,
    source: Mapping[str, str] | None = None,
    ledger: Path | None = None,
    daemon: Mapping[str, str] | None = None,
    keep_for: str | None = None,
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> Path:
    """Write a configuration into `workspace`; all else as the product has it by default.

    `more` are further sources. Providers are named after their cloud, and numbered where there are several of
    one.
    """
    seen: dict[Cloud, int] = {}
    tables = []
    for place in places:
        number = seen[place.cloud] = seen.get(place.cloud, 0) + 1
        tables.append(place.table(f"{place.cloud}_{number}" if number > 1 else str(place.cloud)))
    kept = {"keep_for": f'"{keep_for}"'} if keep_for is not None else {}
    text = "\n".join(
        (
            _table("ledger", {"path": f'"{ledger or workspace / "ledger.db"}"', **kept}),
            _table("daemon", daemon or {}),
            _table("web", {"socket": f'"{workspace / "control.sock"}"'}),
            _table("sources.cameras", {"path": f'"{files}"', **(source or {})}),
            *(_table(f"sources.{name}", keys) for name, keys in (more or {}).items()),
            *tables,
        )
    )
    path = workspace / "uploaderd.toml"
    path.write_text(text)
    return path


def run_command(workspace: Path, config: Path, *words: str) -> Command:
    """`uploaderd run` with these options."""
    return command(workspace, "run", *words, "--config", str(config))


def command(workspace: Path, *words: str) -> Command:
    """`uploaderd` with these words."""
    return Command([sys.executable, "-m", "uploaderd", *words], {"PYTHONPATH": str(_ROOT)}, workspace)


@dataclass(frozen=True, slots=True)
class Span:
    """What the ledger says of one provider: copies verified, and the seconds from the first attempt's
    beginning to the last one's end."""

    verified: int
    seconds: float


def span(ledger: Path, provider: str) -> Span:
    """Read it from a ledger, whether its daemon runs or not."""
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=10) as conn:
        count, first, last = conn.execute(
            "SELECT count(*), min(started_at), max(ended_at) FROM attempts"
            " WHERE provider = ? AND outcome = 'verified'",
            (provider,),
        ).fetchone()
    conn.close()
    return Span(int(count), ((last or 0) - (first or 0)) / 1000)


class Daemon:
    """A `jobs.Client`."""

    def __init__(self, at_once: int | None = None, extra: Mapping[str, str] | None = None) -> None:
        self._keys = dict(extra or {})
        if at_once is not None:
            self._keys["max_uploads"] = str(at_once)

    @property
    def name(self) -> str:
        return "uploaderd"

    def command(self, job: Job, workspace: Path) -> Command:
        place = Place(job.cloud, job.url, job.authority, self._keys)
        config = configured(workspace, job.files, [place])
        return run_command(workspace, config, "--until-safe", "--expect", str(job.count))

    def check(self, job: Job, workspace: Path) -> None:
        found = span(workspace / "ledger.db", str(job.cloud))
        if found.verified != job.count:
            raise FailedError(f"the ledger has {found.verified} of {job.count} copies as verified")


def ours(job: Job) -> Daemon:
    """The daemon as it is for one large file, and with as many files at once as the peers for many."""
    return Daemon(AT_ONCE if job.count > 1 else None)


def _table(name: str, keys: Mapping[str, str]) -> str:
    return "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in keys.items()), ""])
