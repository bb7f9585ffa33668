"""A provider behind a link of 1 MB/s beside two fast ones: what do the fast ones lose?"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.bench import ledgers, recordings
from tests.bench.bench import Bench
from tests.bench.daemon import Place, configured, run_command, span
from tests.bench.endpoint import Link
from tests.bench.figures import MIB, Goal, Result, median, ratio
from tests.bench.jobs import Cloud

_FAST = (Cloud.S3, Cloud.AZURE)
_SIZE = 16 * MIB
_RATE = 100e6
"""Bytes a second of a fast one: a link's, not a core's, or the third one's share of the core would show."""


def measure(bench: Bench) -> Result:
    count = bench.pick(64, 16)
    files = recordings.folder_of(bench.data, count, _SIZE)
    result = Result(
        f"{count} x 16 MiB to two providers at {_RATE / 1e6:g} MB/s, with and without a third one at 1 MB/s",
        ("provider", "alone MB/s", "beside MB/s", "kept"),
    )
    for turn in range(bench.runs):
        for slow in (False, True):
            bench.say(f"neighbour: {turn + 1} of {bench.runs}, {'with' if slow else 'without'} the slow one")
            for cloud, seconds in _seconds(bench, files, count, slow=slow).items():
                speed = count * _SIZE / seconds
                result.raw.append({"cloud": str(cloud), "slow_neighbour": slow, "bytes_per_second": speed})
    for cloud in _FAST:
        alone, beside = (
            median(
                one["bytes_per_second"]
                for one in result.raw
                if (one["cloud"], one["slow_neighbour"]) == (cloud, slow)
            )
            for slow in (False, True)
        )
        kept = ratio(beside, alone)
        result.rows.append((str(cloud), alone / 1e6, beside / 1e6, kept))
        result.goals.append(Goal(f"speed that {cloud} keeps", 100 * kept, 95, " %", at_least=True))
    return result


def _seconds(bench: Bench, files: Path, count: int, *, slow: bool) -> dict[Cloud, float]:
    """How long each fast provider took to get all files. The slow one is not waited for."""
    with bench.workspace() as workspace, ExitStack() as ends:
        places = []
        rates = dict.fromkeys(_FAST, _RATE) | ({Cloud.GCS: 1e6} if slow else {})
        for cloud, rate in rates.items():
            end = ends.enter_context(bench.endpoint(Link(rate)))
            places.append(Place(cloud, end.url, end.authority))
        config = configured(workspace, files, places, source={"required": '["s3", "azure"]'})
        ledger = workspace / "ledger.db"
        safe = "SELECT sum(count) FROM recording_totals WHERE state = 'safe'"
        with bench.running(run_command(workspace, config)) as daemon:
            daemon.until(lambda: ledgers.asked(ledger, safe) == count, timeout=600)
        return {cloud: span(ledger, str(cloud)).seconds for cloud in _FAST}
