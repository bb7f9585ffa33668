"""The kernel's limits: its queue of events overflows, its watches run out. Nothing is missed for that."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.needs import lacking
from tests.watch.conftest import Site, until
from tests.watch.test_writers import sizes
from uploaderd.listener import LIMIT

QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


@contextmanager
def queue_of(events: int) -> Iterator[None]:
    """Queues that are made meanwhile, on the whole machine, hold so many events.

    A process of its own puts it back when its input ends, so that it is put back however this one ends.
    """
    before = QUEUE.read_text().strip()
    guard = subprocess.Popen(
        ["sh", "-c", f"trap '' INT TERM; cat > /dev/null; echo {before} > {QUEUE}"], stdin=subprocess.PIPE
    )
    try:
        try:
            QUEUE.write_text(str(events))
        except OSError as error:
            lacking(f"this machine does not let us set {QUEUE}: {error}")
        yield
    finally:
        guard.communicate()
    assert QUEUE.read_text().strip() == before


BURST = """
import pathlib, sys
input()
for number in range(20_000):
    pathlib.Path(sys.argv[1], f"{number}.mp4").write_bytes(b"%d" % number)
"""


@pytest.mark.usefixtures("as_root")
@pytest.mark.slow
@pytest.mark.timeout(300)  # 36 s on a quarter of a core: a crowded machine has less
async def test_twenty_thousand_files_with_a_queue_of_sixteen(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    await site.open()
    # From another process: this one's loop is to take events in meanwhile.
    made = subprocess.Popen([sys.executable, "-c", BURST, str(site.root)], stdin=subprocess.PIPE)
    with queue_of(16):
        # The limit counts when a queue is made: the machine's others are left alone from here on.
        watching = site.watching()
        await watching.__aenter__()
    try:
        assert made.stdin is not None
        made.stdin.write(b"\n")
        made.stdin.close()
        await until(lambda: made.poll() is not None, "the burst", patience=120)
        # Nobody asks for a sweep here, and none is due for an hour: the overflow must have been noticed.
        await until(lambda: site.count() == 20_000, "all files", patience=120)
        by_event = sum(found == "event" for found in site.queued().values())
    finally:
        await watching.__aexit__(None, None, None)
        made.kill()
        made.wait()
    record_property("by event", by_event)
    assert by_event < 20_000, "the queue did not overflow"
    site.figures(record_property, sizes(site.root))


# --- watches ----------------------------------------------------------------------------------------

WATCHES = """
import asyncio, json, sys
from pathlib import Path
from tests.watch.conftest import Site, until

async def main(tmp):
    site = Site(Path(tmp))
    await site.open()
    for number in range(20):
        (site.root / str(number)).mkdir()
    Path("/proc/sys/user/max_inotify_watches").write_text(sys.argv[2])
    watcher = site.watcher()
    task = asyncio.create_task(watcher.run())
    await until(lambda: task.done() or watcher.state["polling"], "polling")
    for number in range(40):
        site.write(f"{number}/a.mp4")
    await until(lambda: task.done() or site.count() == 40, "all files")
    print(json.dumps({"count": site.count(), "polling": watcher.state["polling"]}))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await site.ledger.close()

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("limit", [0, 10])
def test_without_watches_the_tree_is_polled(
    tmp_path: Path, record_property: Callable[[str, object], None], limit: int
) -> None:
    """In a user namespace, whose limit is nobody else's."""
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", WATCHES]
    done = subprocess.run(
        [*command, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        cwd=Path(__file__).parents[2],
    )
    if "unshare" in done.stderr and done.returncode:
        lacking(f"this machine has no user namespaces: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert told == {"count": 40, "polling": LIMIT}
    assert "fs.inotify.max_user_watches" in LIMIT
    for name, count in {"in": 40, "sent": told["count"], "missed": 40 - told["count"], "early": 0}.items():
        record_property(name, count)
