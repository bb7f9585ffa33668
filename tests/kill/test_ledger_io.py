"""The Nth write of the ledger fails, for every N that occurs: with an I/O error, and with a full disk.

A whole daemon runs under strace, which makes one call on the ledger's files fail. After an I/O error it ends,
for what is on the disk cannot be known; after a full disk it goes on by itself. Either way what it said was
verified still is, at the next start, and nothing is sent again that was.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.end_to_end.box import ROOT, UPLOADERD, Box
from tests.end_to_end.places import content_of
from tests.kill.figures import Record
from tests.needs import tool
from uploaderd.ledger import connect_readonly, read
from uploaderd.ledger.chain import broken_at

EVERY: Final = bool(os.environ.get("TESTS_EVERY"))
SAMPLE: Final = 2
"""So many of the calls, evenly over a run; with `TESTS_EVERY` each."""

AT_ONCE: Final = 2
SECONDS: Final = 60.0
CONTENTS: Final = {"a.mp4": content_of(600_000, "a"), "b.mp4": content_of(1000, "b")}


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: a real disk would only be waited for."""
    tool("strace")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ud-") as made:
        yield Path(made)


@dataclass
class Trial:
    """A daemon with a ledger, a source and a target of its own. `said` is its log in the last run."""

    folder: Path
    said: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.box = Box(self.folder, self.folder)
        source = self.box.source(quiet_for="10ms")
        for name, content in CONTENTS.items():
            (source / name).write_bytes(content)
            os.utime(source / name, (1_790_000_000, 1_790_000_000))
        self.target = self.folder / "target"
        self.target.mkdir()
        self.box.providers["nas"] = {
            "type": "directory",
            "path": str(self.target),
            "require_mount": False,
            "part_size": "256KiB",
        }
        self.box.write()

    def run(self, trace: str, inject: str | None = None) -> tuple[int, Counter[str]]:
        """The daemon under strace until all is safe; how it ended, and what calls were made and failed."""
        log = self.folder / "strace.log"
        files = [self.box.ledger.with_name(self.box.ledger.name + end) for end in ("", "-wal", "-shm")]
        command = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={trace}"]
        command += [word for file in files for word in ("-P", str(file))]
        if inject is not None:
            command += ["-e", f"inject={inject}"]
        code = self._ended([*command, *UPLOADERD])
        calls: Counter[str] = Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))
        calls["injected"] = log.read_text().count("(INJECTED)")
        return code, calls

    def run_untraced(self) -> int:
        return self._ended(list(UPLOADERD))

    def _ended(self, command: list[str]) -> int:
        command += ["run", "--until-safe", "--config", str(self.box.config)]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        ) as process:
            try:
                out, _ = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # strace alone would leave the daemon
                told = process.communicate()[0].decode()[-3000:]
                raise AssertionError(f"it did not end: {' '.join(command)}\n{told}") from None
        lines = out.decode().splitlines()
        self.said = [json.loads(line) for line in lines if line.startswith("{")]
        # Refused before there was a log, it says it as any command does.
        assert process.returncode == 0 or any("ledger" in line for line in lines), lines
        return process.returncode

    def verified(self) -> set[str]:
        """What it said was verified."""
        return {line["recording"] for line in self.said if line["event"] == "upload verified"}

    def assert_all_is_well(self, verified_before: set[str]) -> None:
        for name, content in CONTENTS.items():
            (copy,) = [path for path in self.target.rglob(name) if ".uploaderd" not in path.parts]
            assert copy.read_bytes() == content
        copies = [p for p in self.target.rglob("*") if p.is_file() and ".uploaderd" not in p.parts]
        assert len(copies) == len(CONTENTS)
        assert not [*(self.target / ".uploaderd" / "incoming").iterdir()]
        with closing(connect_readonly(self.box.ledger)) as conn:
            assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert broken_at(conn, "attempts") is None
            assert broken_at(conn, "events") is None
            for row in read.recordings(conn):
                name = os.fsdecode(row.path)
                outcomes = [attempt["outcome"] for attempt in read.attempts(conn, row.row, 10)]
                assert row.state == "safe"
                assert outcomes.count("verified") == 1
                if name in verified_before:
                    assert outcomes[0] == "verified"
                    assert name not in self.verified(), "what was acknowledged was forgotten"
                    assert row.uploads["nas"].bytes_sent == row.size


def fail_each(folder: Path, call: str, error: str) -> Counter[int]:
    """Runs in each of which another call fails; how many ended with which code."""
    _, calls = Trial(folder / "dry").run(call)
    made = calls[call]
    assert made, f"the ledger never called {call}"
    step = 1 if EVERY else max(1, made // SAMPLE)

    def fail(number: int) -> int | None:
        trial = Trial(folder / str(number))
        code, calls = trial.run(call, f"{call}:error={error}:when={number}")
        if not calls["injected"]:
            return None  # a run makes a few calls more or less
        before = trial.verified()
        opened = any(line["event"] == "provider opened" for line in trial.said)
        # 0: it failed in what can be done again later, a checkpoint into the database file.
        assert code == 0 or (code == 1 and (error == "EIO" or not opened)), (number, code, trial.said[-3:])
        assert trial.run_untraced() == 0, (number, trial.said[-3:])
        trial.assert_all_is_well(before)
        shutil.rmtree(trial.folder)
        return code

    with ThreadPoolExecutor(AT_ONCE) as at_once:
        ended = Counter(at_once.map(fail, range(1 + step // 2, made + 3 * EVERY + 1, step)))
    return Counter({code: count for code, count in ended.items() if code is not None})


@pytest.mark.timeout(3600 if EVERY else 240)
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_an_io_error_ends_it_and_the_next_start_knows_the_truth(
    folder: Path, call: str, record: Record
) -> None:
    ended = fail_each(folder, call, "EIO")
    assert ended[1] >= 1
    record("failed", ended.total())
    record("of which ended the daemon", ended[1])
    record("lost", 0)


@pytest.mark.timeout(3600 if EVERY else 240)
def test_a_full_disk_is_waited_for(folder: Path, record: Record) -> None:
    ended = fail_each(folder, "pwrite64", "ENOSPC")
    assert ended[0] >= 1
    record("failed", ended.total())
    record("of which it went on by itself", ended[0])
    record("lost", 0)
