"""How long from a file's closing to its copy's verification, beside an idle daemon."""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path

from tests.bench import ledgers, recordings
from tests.bench.bench import Bench
from tests.bench.daemon import Place, configured, run_command
from tests.bench.figures import MIB, Goal, Result, median, percentile
from tests.bench.jobs import Cloud

_QUIET = 0.5
_VERIFIED = "SELECT sum(count) FROM upload_totals WHERE state = 'verified'"


def measure(bench: Bench) -> Result:
    count = bench.pick(100, 15)
    generator = random.Random(1)
    taken: list[float] = []
    with bench.workspace() as workspace, bench.endpoint() as endpoint:
        files = workspace / "files"
        files.mkdir()
        place = Place(Cloud.S3, endpoint.url, endpoint.authority)
        config = configured(workspace, files, [place], source={"quiet_for": f'"{int(_QUIET * 1000)}ms"'})
        ledger = workspace / "ledger.db"
        bench.say(f"latency: {count} files, one after another")
        with bench.running(run_command(workspace, config)) as daemon:
            # The first ones start it up, and are not counted.
            for number in range(-3, count):
                recordings.write(files / f"{number + 3:06d}.mp4", MIB, generator)
                closed = time.monotonic()
                daemon.until(partial(_verified, ledger, number + 4), timeout=30, pause=0.002)
                if number >= 0:
                    taken.append(time.monotonic() - closed - _QUIET)
                # The next one finds it idle, at no fixed phase of its timers.
                time.sleep(generator.uniform(0.1, 0.6))
    worst = percentile(taken, 0.99)
    return Result(
        f"file closed to verified, 1 MiB to S3 over TLS, above quiet_for = {_QUIET:g} s, {count} files",
        ("median s", "p90 s", "p99 s", "worst s"),
        [(median(taken), percentile(taken, 0.9), worst, max(taken))],
        [Goal("median", median(taken), 0.3, " s"), Goal("99 of 100", worst, 1.0, " s")],
        raw=[{"seconds": taken}],
    )


def _verified(ledger: Path, count: int) -> bool:
    return bool(ledgers.asked(ledger, _VERIFIED) == count)
