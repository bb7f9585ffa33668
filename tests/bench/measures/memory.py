"""Peak memory with three providers at once: the same whatever the size of the file."""

from __future__ import annotations

from pathlib import Path

from tests.bench import recordings
from tests.bench.bench import Bench
from tests.bench.daemon import Place, configured, run_command, span
from tests.bench.figures import GIB, MIB, Goal, Result, median
from tests.bench.jobs import Cloud
from tests.bench.meter import FailedError, Used


def measure(bench: Bench) -> Result:
    sizes = [64 * MIB, 512 * MIB] if bench.quick else [64 * MIB, 4 * GIB, 40 * GIB]
    idle = median(_run(bench, None).peak_rss for _ in range(bench.runs))
    result = Result(
        "peak memory, three providers at once over TLS, 4 parts each in flight",
        ("file", "peak MiB", "above idle", "wall s", "CPU s"),
        [("none (idle)", idle / MIB, 0.0, "", "")],
    )
    for size in sizes:
        # A run of 40 GiB takes minutes and says as much as five.
        runs = [_run(bench, size) for _ in range(1 if size > 4 * GIB else bench.runs)]
        peak = median(one.peak_rss for one in runs)
        row = (peak - idle) / MIB, median(one.wall for one in runs), median(one.cpu for one in runs)
        result.rows.append((f"{size // MIB} MiB", peak / MIB, *row))
        result.goals.append(Goal(f"{size // MIB} MiB, above the idle daemon", row[0], 40, " MiB"))
        result.raw += [{"size": size, "peak_rss": one.peak_rss, "cpu": one.cpu} for one in runs]
    return result


def _run(bench: Bench, size: int | None) -> Used:
    with bench.workspace() as workspace, bench.endpoint() as endpoint:
        files = workspace / "none" if size is None else recordings.sparse(bench.data, size)
        files.mkdir(exist_ok=True)
        count = 0 if size is None else 1
        bench.say(f"memory: {size or 0} bytes to three providers")
        places = [Place(cloud, endpoint.url, endpoint.authority) for cloud in Cloud]
        config = configured(workspace, files, places)
        used = bench.run(run_command(workspace, config, "--until-safe", "--expect", str(count)), 1800)
        _must_be_there(workspace, count)
    return used


def _must_be_there(workspace: Path, count: int) -> None:
    for cloud in Cloud:
        if span(workspace / "ledger.db", str(cloud)).verified != count:
            raise FailedError(f"{cloud} does not have it")
