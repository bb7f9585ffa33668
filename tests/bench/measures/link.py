"""A link as people have them, 200 Mbit/s and 30 ms away: how much of it is used?"""

from __future__ import annotations

from tests.bench import recordings
from tests.bench.bench import Bench
from tests.bench.daemon import Place, configured, run_command, span
from tests.bench.endpoint import Link
from tests.bench.figures import MIB, Goal, Result, median
from tests.bench.jobs import AT_ONCE, Cloud

_RATE = 200e6 / 8
_LATENCY = 0.030


def measure(bench: Bench) -> Result:
    result = Result(
        "a link of 200 Mbit/s with 30 ms of latency, S3 over TLS",
        ("files", "seconds", "MB/s", "link used %"),
    )
    for count, size in ((1, bench.pick(512, 128) * MIB), (bench.pick(1000, 250), MIB // 2)):
        used = _measure(bench, count, size, result)
        text = "one large file" if count == 1 else "many small files"
        result.goals.append(Goal(f"link used by {text}", used, 95, " %", at_least=True))
    result.notes.append("seconds: from the first attempt's beginning to the last copy's verification")
    return result


def _measure(bench: Bench, count: int, size: int, result: Result) -> float:
    files = recordings.folder_of(bench.data, count, size)
    seconds: list[float] = []
    for turn in range(bench.runs):
        bench.say(f"link: {count} x {size}, {turn + 1} of {bench.runs}")
        with bench.workspace() as workspace, bench.endpoint(Link(_RATE, _LATENCY)) as endpoint:
            more = {"max_uploads": str(AT_ONCE)} if count > 1 else {}
            place = Place(Cloud.S3, endpoint.url, endpoint.authority, more)
            config = configured(workspace, files, [place])
            bench.run(run_command(workspace, config, "--until-safe", "--expect", str(count)))
            seconds.append(span(workspace / "ledger.db", "s3").seconds)
        result.raw.append({"count": count, "size": size, "seconds": seconds[-1]})
    speed = count * size / median(seconds)
    name = f"{count} x {size / MIB:g} MiB"
    result.rows.append((name, median(seconds), speed / 1e6, 100 * speed / _RATE))
    return 100 * speed / _RATE
