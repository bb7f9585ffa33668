"""Trees of files that the ledger knows: what a sweep costs, and what doing nothing costs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import ledgers
from tests.bench.bench import Bench
from tests.bench.daemon import Place, configured, run_command
from tests.bench.figures import Goal, Result, median
from tests.bench.jobs import Cloud
from uploaderd.config import load

_TICK = os.sysconf("SC_CLK_TCK")


def sweep(bench: Bench) -> Result:
    count = bench.pick(100_000, 5_000)
    tree = _tree(bench, count, count // 100)
    nothing = bench.data / "tree-0"
    nothing.mkdir(exist_ok=True)
    cpu: dict[str, list[float]] = {"known files": [], "no files": []}
    for turn in range(bench.runs):
        for name, files, expected in (("known files", tree, count), ("no files", nothing, 0)):
            bench.say(f"sweep: {name}, {turn + 1} of {bench.runs}")
            with _ready(bench, files) as (workspace, config):
                words = ("--until-safe", "--expect", str(expected))
                cpu[name].append(bench.run(run_command(workspace, config, *words)).cpu)
    taken = median(cpu["known files"]) - median(cpu["no files"])
    return Result(
        f"a sweep of {count} known files in {count // 100} folders",
        ("CPU s of the daemon", "with none", "of the sweep"),
        [(median(cpu["known files"]), median(cpu["no files"]), taken)],
        [Goal("CPU of the sweep, watching included", taken, 3, " s")],
        raw=[cpu],
    )


def idle(bench: Bench) -> Result:
    count = 10_000
    tree = _tree(bench, count, 1_000)
    quiet_seconds, whole_seconds = bench.pick(120, 10), bench.pick(310, 20)
    bench.say(f"idle: {whole_seconds} s")
    with _ready(bench, tree) as (workspace, config), bench.running(run_command(workspace, config)) as daemon:
        ledger = workspace / "ledger.db"
        swept = "SELECT last_sweep_at FROM sources WHERE id = 1"
        daemon.until(lambda: ledgers.asked(ledger, swept) is not None, timeout=60)
        time.sleep(5)  # what its start left to be done is done
        begun = _Usage.of(daemon.pid)
        time.sleep(quiet_seconds)
        quiet = _Usage.of(daemon.pid).since(begun)
        time.sleep(whole_seconds - quiet_seconds)
        whole = _Usage.of(daemon.pid).since(begun)
    result = Result(
        f"an idle daemon, {count} files in 1000 folders",
        ("window", "% of a core", "bytes written"),
        [
            (f"{quiet_seconds} s between two sweeps", quiet.share, float(quiet.written)),
            (f"{whole_seconds} s, with the sweep of every 5 minutes", whole.share, float(whole.written)),
        ],
    )
    result.goals += [
        Goal("of a core, sweeps included", whole.share, 0.2, " %"),
        Goal("bytes written, sweeps included", whole.written, 0),
    ]
    result.raw.append({"quiet_seconds": quiet_seconds, "cpu": quiet.cpu, "written": quiet.written})
    result.raw.append({"whole_seconds": whole_seconds, "cpu": whole.cpu, "written": whole.written})
    return result


@dataclass(frozen=True, slots=True)
class _Usage:
    """Of a process so far: proc(5), stat (14 and 15) and io (write_bytes)."""

    at: float
    cpu: float
    written: int

    @classmethod
    def of(cls, pid: int) -> _Usage:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        io = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        return cls(time.monotonic(), (int(fields[11]) + int(fields[12])) / _TICK, int(io["write_bytes"]))

    def since(self, before: _Usage) -> _Usage:
        return _Usage(self.at - before.at, self.cpu - before.cpu, self.written - before.written)

    @property
    def share(self) -> float:
        return 100 * self.cpu / self.at


def _tree(bench: Bench, count: int, folders: int) -> Path:
    root = bench.data / f"tree-{count}"
    if not (bench.data / f"tree-{count}.whole").exists():
        for number in range(count):
            folder = root / f"{number % folders:04d}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:06d}.mp4").write_bytes(b"x")
        (bench.data / f"tree-{count}.whole").touch()
    return root


@contextmanager
def _ready(bench: Bench, files: Path) -> Iterator[tuple[Path, Path]]:
    """A workspace whose ledger knows all the files as safe, and its configuration."""
    with bench.workspace() as workspace, bench.endpoint() as endpoint:
        config = configured(workspace, files, [Place(Cloud.S3, endpoint.url, endpoint.authority)])
        target = load(config).providers["s3"].target
        ledgers.fill(workspace / "ledger.db", ledgers.still_there(files), files, {"s3": ("s3", target)})
        yield workspace, config
