"""A limit on the bandwidth over all providers: what leaves in a minute, to three of them at once."""

from __future__ import annotations

from contextlib import ExitStack

from tests.bench import ledgers, recordings
from tests.bench.bench import Bench
from tests.bench.daemon import Place, configured, run_command
from tests.bench.figures import MIB, Goal, Result, median
from tests.bench.jobs import Cloud

_RATE = 20e6 / 8


def measure(bench: Bench) -> Result:
    size = bench.pick(48, 8) * MIB
    files = recordings.folder_of(bench.data, 1, size)
    result = Result(
        f"{size // MIB} MiB to each of three providers, bandwidth = 20Mbit/s over all",
        ("run", "seconds", "Mbit/s", "of the limit"),
    )
    for turn in range(bench.runs):
        bench.say(f"limit: {turn + 1} of {bench.runs}")
        with bench.workspace() as workspace, ExitStack() as ends:
            served = [ends.enter_context(bench.endpoint()) for _ in Cloud]
            places = [Place(cloud, end.url, end.authority) for cloud, end in zip(Cloud, served, strict=True)]
            config = configured(workspace, files, places, daemon={"bandwidth": '"20Mbit/s"'})
            bench.run(run_command(workspace, config, "--until-safe", "--expect", "1"), timeout=300)
            took = "SELECT max(ended_at) - min(started_at) FROM attempts"
            seconds = ledgers.asked(workspace / "ledger.db", took) / 1000
        sent = sum(end.served.bytes for end in served)
        rate = sent / seconds
        result.raw.append({"seconds": seconds, "bytes": sent, "bytes_per_second": rate})
        result.rows.append((str(turn + 1), seconds, rate * 8 / 1e6, rate / _RATE))
    off = median(abs(one["bytes_per_second"] / _RATE - 1) for one in result.raw)
    result.goals.append(Goal("off the limit", 100 * off, 3, " %"))
    return result
