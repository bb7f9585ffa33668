"""`uploaderd status --json` as a process, beside a running daemon."""

from __future__ import annotations

from tests.bench import ledgers, recordings
from tests.bench.bench import Bench
from tests.bench.daemon import Place, command, configured, run_command
from tests.bench.figures import MIB, Goal, Result, median
from tests.bench.jobs import Cloud

_SAFE = "SELECT sum(count) FROM recording_totals WHERE state = 'safe'"


def measure(bench: Bench) -> Result:
    files = recordings.folder_of(bench.data, bench.pick(200, 20), MIB)
    count = len(list(files.iterdir()))
    taken: list[float] = []
    with bench.workspace() as workspace, bench.endpoint() as endpoint:
        config = configured(workspace, files, [Place(Cloud.S3, endpoint.url, endpoint.authority)])
        ledger = workspace / "ledger.db"
        with bench.running(run_command(workspace, config)) as daemon:
            daemon.until(lambda: ledgers.asked(ledger, _SAFE) == count, timeout=120)
            folder = workspace / "command"
            folder.mkdir()
            bench.say("status")
            for _ in range(4 * bench.runs):
                used = bench.run(command(folder, "status", "--json", "--config", str(config)))
                taken.append(used.wall)
    return Result(
        f"`uploaderd status --json` as a process, {count} recordings, daemon running",
        ("median s", "worst s"),
        [(median(taken), max(taken))],
        [Goal("median", median(taken), 0.3, " s")],
        raw=[{"seconds": taken}],
    )
