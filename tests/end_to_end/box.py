"""A recorder's machine: a configuration file, sources, a ledger, and `uploaderd` processes."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.contract.place import Place
from tests.end_to_end.daemon import DaemonProcess
from uploaderd.errors import LedgerError
from uploaderd.ledger import read
from uploaderd.ledger.reading import connect_readonly

T = TypeVar("T")
Tables = dict[str, dict[str, Any]]

PATIENCE: Final = 60.0
"""Seconds after which a test that waits has failed. Nothing depends on how long it really takes."""

ROOT: Final = Path(__file__).parents[2]
UPLOADERD: Final = (sys.executable, "-m", "uploaderd")
QUIET: Final = "300ms"
"""`quiet_for` of the sources here: beside the lease, it only has to exceed a gap that no recorder has."""


@dataclass(frozen=True, slots=True)
class Said:
    """A command that ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """One object a line, as `list --json` and `history --json` print."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Box:
    """`sources`, `providers` and `more` are the configuration's tables; change them, then `write`.

    `sockets` is a folder with a short path: a Unix socket's may have 107 bytes.
    """

    folder: Path
    sockets: Path
    sources: Tables = field(default_factory=dict)
    providers: Tables = field(default_factory=dict)
    daemon: dict[str, Any] = field(default_factory=dict)
    more: Tables = field(default_factory=dict)
    _daemon: DaemonProcess | None = field(default=None, init=False)

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.db"

    def source(self, name: str = "hall", **keys: Any) -> Path:
        """Add a source; its folder, which is made."""
        folder = self.folder / "recordings" / name
        folder.mkdir(parents=True, exist_ok=True)
        self.sources[name] = {"path": str(folder), "quiet_for": QUIET} | keys
        return folder

    def send_to(self, places: Mapping[str, Place]) -> None:
        """Add a provider for each place."""
        self.providers |= {name: dict(place.settings) for name, place in places.items()}

    def write(self) -> None:
        """Write the configuration file."""
        tables: Tables = {
            "ledger": {"path": str(self.ledger)},
            "web": {"socket": str(self.sockets / "control.sock")},
            "daemon": self.daemon,
            **self.more,
            **{f"sources.{name}": table for name, table in self.sources.items()},
            **{f"providers.{name}": table for name, table in self.providers.items()},
        }
        lines = [
            line
            for name, table in tables.items()
            for line in (f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items()))
        ]
        self.config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    # --- processes -----------------------------------------------------------------------------

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, before: Sequence[str] = ()
    ) -> DaemonProcess:
        """The daemon, with the configuration as it is now; `before` goes before its command."""
        self.write()
        command = [*before, *UPLOADERD, "run", "--config", str(self.config), *arguments]
        number = len(list(self.folder.glob("daemon-*.log")))
        log = self.folder / f"daemon-{number}.log"
        self._daemon = DaemonProcess(command, log, ROOT, {**os.environ, **(env or {})})
        return self._daemon

    async def uploaderd(self, *arguments: str, env: Mapping[str, str] | None = None) -> Said:
        """A command, with the same configuration, until it ends."""
        command = [*UPLOADERD, *arguments, "--config", str(self.config)]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    async def status(self) -> Any:
        return (await self.uploaderd("status", "--json")).json

    # --- what the ledger says --------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """The ledger, read-only; None while there is none yet."""
        try:
            conn = connect_readonly(self.ledger)
        except LedgerError:
            yield None
            return
        with closing(conn):
            yield conn

    def recordings(self) -> dict[str, read.RecordingRow]:
        """All recordings by path, relative to their source; of several contents at one path the newest."""
        with self.reading() as conn:
            rows = list(read.recordings(conn)) if conn is not None else []
        return {os.fsdecode(row.path): row for row in reversed(rows)}

    def uploads(self, provider: str) -> dict[str, read.UploadRow]:
        """One provider's uploads by path."""
        return {
            path: row.uploads[provider] for path, row in self.recordings().items() if provider in row.uploads
        }

    def parts(self) -> int:
        """Parts of unfinished uploads that the ledger has a receipt for."""
        with self.reading() as conn:
            if conn is None:
                return 0
            (count,) = conn.execute("SELECT count(*) FROM parts").fetchone()
        return int(count)

    async def until(self, holds: Callable[[], T], *, within: float = PATIENCE) -> T:
        """Look until it holds; what the look gave.

        Raises:
            AssertionError: it did not within so many seconds, or the daemon ended by itself.
        """

        def look() -> T:
            ended = self._daemon is not None and self._daemon.has_ended
            found = holds()
            assert found or not ended, "the daemon has ended, and it does not hold"
            return found

        return await until(look, within=within, otherwise=lambda: f"the ledger has {self.recordings()}")

    async def until_safe(self, count: int, *, within: float = PATIENCE) -> dict[str, read.RecordingRow]:
        """Wait until so many recordings are safe; all recordings."""
        await self.until(
            lambda: sum(row.state == "safe" for row in self.recordings().values()) >= count, within=within
        )
        return self.recordings()

    async def until_word(self, word: str) -> Any:
        """Wait until `status` says the word; that status."""
        async with asyncio.timeout(PATIENCE):
            while (status := await self.status())["state"] != word:
                pass
        return status


async def until(
    holds: Callable[[], T], *, within: float = PATIENCE, otherwise: Callable[[], object] = lambda: ""
) -> T:
    """Look until it holds; what the look gave.

    Raises:
        AssertionError: it did not within so many seconds; tells what `otherwise` gives.
    """
    try:
        async with asyncio.timeout(within):
            while not (found := holds()):  # noqa: ASYNC110 - another process tells nobody
                await asyncio.sleep(0.02)  # between two looks
    except TimeoutError:
        raise AssertionError(f"not within {within:g} s; {otherwise()}") from None
    return found


def _toml(value: object) -> str:
    """A value as TOML writes it; JSON's strings, numbers and lists are TOML's as well."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(str(name))} = {_toml(each)}" for name, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
