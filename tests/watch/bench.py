"""python -m tests.watch.bench: how soon a closed file is queued, and what a sweep of known files costs.

On this machine, with real files, events and leases, beside whatever else it does.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import structlog

from tests.watch.conftest import Site, until
from uploaderd.ledger import Transaction, intake
from uploaderd.ledger.intake import NewRecording, NewUpload
from uploaderd.model import FileIdentity, FinishedBy, FoundBy, Milliseconds
from uploaderd.walk import Tally, walk

GOAL_LATE = 0.3
"""Seconds above `quiet_for` until a closed file is queued, in the median (issue 4)."""

GOAL_SWEEP = 3.0
"""Seconds of one core for a sweep of 100,000 known files with a warm cache (issue 4)."""

BATCH = 5_000


async def known(site: Site, files: int) -> None:
    """So many files, 100 in a folder, that the ledger knows."""
    for number in range(files):
        site.write(f"known/{number // 100:04}/{number:06}.mp4", b"x", age=3600)
    root = bytes(site.root)
    found = walk(root, b"", lambda _: True, lambda path, error: None, Tally())
    ids = iter(range(files))
    while batch := list(islice(found, BATCH)):
        rows = [_recording(site, one.path, one.identity, next(ids)) for one in batch]
        await site.ledger.run(_enqueue, rows)


def _enqueue(tx: Transaction, rows: list[NewRecording]) -> None:
    intake.enqueue(tx, rows)


def _recording(site: Site, path: bytes, identity: FileIdentity, number: int) -> NewRecording:
    now = Milliseconds(time.time_ns() // 1_000_000)
    upload = NewUpload(1, f"known/{number}", required=True)
    source = site.ids["cameras"]
    return NewRecording(source, path, identity, FoundBy.SWEEP, FinishedBy.LEASE, now, (upload,), needed=1)


async def sweeps(files: int, runs: int) -> list[tuple[float, float]]:
    """Seconds by the clock and of processor time, for each sweep."""
    with tempfile.TemporaryDirectory(prefix="watch-bench-") as folder:
        site = Site(Path(folder))
        await site.open()
        try:
            await known(site, files)
            watcher = site.watcher()
            await watcher.sweep()  # warms the cache
            figures = []
            for _ in range(runs):
                wall, cpu = time.monotonic(), time.process_time()
                result = await watcher.sweep()
                figures.append((time.monotonic() - wall, time.process_time() - cpu))
                assert (result.files, result.queued) == (files, 0)
            return figures
        finally:
            await site.ledger.close()


async def late(count: int, beside: int, quiet: float) -> list[float]:
    """Seconds above the quiet time from a file's close until it is queued, beside so many known files."""
    with tempfile.TemporaryDirectory(prefix="watch-bench-") as folder:
        site = Site(Path(folder))
        await site.open({"cameras": {"quiet_for": f"{quiet}s"}})
        try:
            await known(site, beside)
            closed: dict[bytes, float] = {}
            async with site.watching():
                for number in range(count):
                    name = f"new-{number}.mp4"
                    with (site.root / name).open("wb") as file:
                        for _ in range(10):
                            file.write(b"x" * 1000)
                            await asyncio.sleep(0.01)  # a recorder at work
                    closed[name.encode()] = time.time()
                await until(lambda: site.count() == beside + count, "all files", patience=60 + quiet)
            rows = dict(site.rows("SELECT path, found_at FROM recordings"))
            return sorted(rows[path] / 1000 - at - quiet for path, at in closed.items())
        finally:
            await site.ledger.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.watch.bench", description=__doc__)
    parser.add_argument("--files", type=int, default=100_000, help="known files in the sweep")
    parser.add_argument("--runs", type=int, default=5, help="of the sweep")
    parser.add_argument("--closed", type=int, default=200, help="files closed one after another")
    parser.add_argument("--quiet-for", type=float, default=2.0, help="seconds")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    times = asyncio.run(late(options.closed, options.files // 10, options.quiet_for))
    middle = statistics.median(times)
    most = times[int(len(times) * 0.95)]
    print(
        f"close to queued, above quiet_for = {options.quiet_for} s, {len(times)} files beside"
        f" {options.files // 10} known ones: median {middle:.3f} s, 95 % {most:.3f} s,"
        f" longest {times[-1]:.3f} s (goal: median at most {GOAL_LATE} s)"
    )
    figures = asyncio.run(sweeps(options.files, options.runs))
    wall = statistics.median(wall for wall, _ in figures)
    cpu = statistics.median(cpu for _, cpu in figures)
    print(
        f"sweep of {options.files} known files: {wall:.2f} s, {cpu:.2f} s of one core,"
        f" median of {len(figures)} (goal: at most {GOAL_SWEEP} s of one core for 100000)"
    )
    return 0 if middle <= GOAL_LATE and cpu <= GOAL_SWEEP * max(1.0, options.files / 100_000) else 1


if __name__ == "__main__":
    sys.exit(main())
