"""A year of one-minute segments from 32 cameras, 16.8 million recordings: bounded, and quick?"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from tests.bench import ledgers, recordings, year
from tests.bench.bench import Bench
from tests.bench.daemon import Place, command, configured, run_command
from tests.bench.figures import MIB, Goal, Result, median, number, percentile
from tests.bench.jobs import Cloud
from tests.bench.measures.million import page
from tests.bench.meter import Metered, Used
from uploaderd.config import load

_QUIET: Final = 0.5

_NOWHERE: Final = "no-such-recording"

_COMMANDS: Final = {
    "status": ("status",),
    "status --json": ("status", "--json"),
    "list": ("list",),
    "list --source: a camera that is busy": ("list", "--source", "yard"),
    "list --source: one of long ago": ("list", "--source", "door"),
    "list --provider: one that is busy": ("list", "--provider", "gcs"),
    "list --provider: one of long ago": ("list", "--provider", "s3_2"),
    "list --state waiting": ("list", "--state", "waiting"),
    "history": ("history",),
    "why, by a path": ("why", "{path}"),
    "why, by a part of a name of today": ("why", "{part}"),
    "why, by a part of a name of long ago": ("why", "{old}"),
    "why, by a part that is nowhere": ("why", _NOWHERE),
    "history, by a part of a name of long ago": ("history", "{old}"),
}
_PAGES: Final = {
    "status page": "/",
    "its search: a part of a name of today": "/?q={part}",
    "its search: a part that is nowhere": f"/?q={_NOWHERE}",
    "its list of a source of long ago": "/?source=door",
    "metrics": "/metrics",
}


@dataclass(frozen=True, slots=True)
class _Scene:
    """A workspace with the year in it."""

    bench: Bench
    workspace: Path
    year: year.Year
    config: Path
    result: Result

    def told(self, what: str, *figures: float | None) -> None:
        """A row: seconds cold and warm, CPU seconds, MiB. Said at once too: the whole takes an hour."""
        row = (what, *("" if figure is None else figure for figure in figures))
        self.result.rows.append((*row, *[""] * (len(self.result.columns) - len(row))))
        shown = " / ".join("-" if figure is None else number(figure) for figure in figures)
        self.bench.say(f"sixteen_million: {what}: {shown}")

    @property
    def ledger(self) -> Path:
        return self.year.ledger

    def asked(self, question: str) -> int:
        return int(ledgers.asked(self.ledger, question) or 0)

    def cold(self) -> None:
        """Have nothing of the ledger in memory."""
        os.sync()
        with open(self.ledger, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    @property
    def newest(self) -> dict[str, int]:
        """The last row of each table."""
        return {
            table: self.asked(f"SELECT max(id) FROM {table}")
            for table in ("recordings", "attempts", "events")
        }

    def named(self, text: str) -> str:
        """With the names that this ledger has: a path, a part of it, and one of long ago."""
        newest = Path(os.fsdecode(ledgers.asked(self.ledger, "SELECT path FROM recordings WHERE past = 0")))
        oldest = Path(
            os.fsdecode(
                ledgers.asked(self.ledger, "SELECT path FROM recordings ORDER BY id LIMIT 1 OFFSET 99")
            )
        )
        return text.format(path=newest, part=newest.with_suffix(""), old=oldest.with_suffix(""))


def measure(bench: Bench) -> Result:
    days = bench.pick(365, 3)
    kept = bench.data / f"year-{days}"
    if not (kept / "whole").exists():
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        bench.say(f"sixteen_million: making a ledger of {days} days, once")
        year.made(kept, days, lambda text: bench.say(f"sixteen_million: {text}"))
        (kept / "whole").touch()
    lived = year.found(kept)
    size = lived.ledger.stat().st_size
    result = Result(
        f"a ledger of {lived.count:,} recordings, {size / 1e9:.1f} GB",
        ("what", "s, cold", "s, again", "CPU s", "MiB"),
    )
    with bench.workspace() as workspace, ExitStack() as ends:
        endpoint = ends.enter_context(bench.endpoint())
        places = [Place(cloud, endpoint.url, endpoint.authority) for cloud in Cloud]
        places.append(Place(Cloud.S3, endpoint.url, endpoint.authority, {"prefix": '"door"'}))
        scene = _Scene(bench, workspace, lived, _configured(workspace, lived, places, "forever"), result)
        targets = {name: provider.target for name, provider in load(scene.config).providers.items()}
        ledgers.retarget(lived.ledger, targets)
        _beside_a_daemon(scene)
        _retention(scene, places)
        _care(scene)
    return result


def _configured(workspace: Path, lived: year.Year, places: Sequence[Place], keep_for: str) -> Path:
    quiet = {"quiet_for": f'"{int(_QUIET * 1000)}ms"'}
    return configured(
        workspace,
        lived.root / "cameras",
        places,
        source={**quiet, "providers": '["s3"]'},
        ledger=lived.ledger,
        keep_for=keep_for,
        more={
            name: {**quiet, "path": f'"{lived.root / name}"', "providers": providers}
            for name, providers in (("yard", '["s3", "azure", "gcs"]'), ("door", '["s3_2"]'))
        },
    )


def _beside_a_daemon(scene: _Scene) -> None:
    before = scene.newest
    recordings.write(_fresh(scene, 0), MIB, random.Random(0))
    time.sleep(2 * _QUIET)  # it is not the quiet time that is measured
    scene.cold()
    begun = time.time()
    with scene.bench.running(run_command(scene.workspace, scene.config)) as daemon:
        attempt = f"SELECT min(started_at) FROM attempts WHERE id > {before['attempts']}"
        daemon.until(lambda: scene.asked(attempt) > 0, timeout=300)
        started = scene.asked(attempt) / 1000 - begun
        scene.told("start to the first attempt", started)
        scene.result.goals.append(Goal("start to working", started, 2, " s"))
        swept = "SELECT min(coalesce(last_sweep_at, 0)) FROM sources"
        daemon.until(lambda: scene.asked(swept) / 1000 > begun, timeout=300)
        scene.told("start to the end of the first sweep", time.time() - begun, None, None, _rss(daemon))
        count = scene.bench.pick(60, 6)
        idle = [_sent(scene, daemon, number) for number in range(1, count + 1)]
        _told_latencies(scene, "closed to safe", idle)
        for name, words in _COMMANDS.items():
            _timed(scene, name, [scene.named(word) for word in words], 0.5)
        socket = load(scene.config).web.socket
        for name, path in _PAGES.items():
            scene.cold()
            cold, *again = [page(socket, scene.named(path)) for _ in range(4)]
            scene.told(name, cold, median(again))
            scene.result.goals.append(Goal(name, median(again), 0.5, " s"))
        _timed(scene, f"ensure: a sweep of {year.DAY:,} files", ["ensure"], None)
        scene.told("peak memory of the daemon", None, None, None, _rss(daemon))


def _retention(scene: _Scene, places: Sequence[Place]) -> None:
    """A round that has the oldest day to take out, while recordings come in."""
    first, events = scene.asked("SELECT found_at FROM recordings ORDER BY id LIMIT 1"), scene.newest["events"]
    keep = int(time.time() - first / 1000 - 86_400)
    config = _configured(scene.workspace, scene.year, places, f"{keep}s")
    archive = scene.ledger.with_name("ledger.db.archive")
    size, kept = scene.ledger.stat().st_size, _bytes_in(archive)
    wal = 0
    taken: list[float] = []
    begun = time.monotonic()
    with scene.bench.running(run_command(scene.workspace, config)) as daemon:
        done = f"SELECT detail FROM events WHERE id > {events} AND kind = 'pruned'"
        while ledgers.asked(scene.ledger, done) is None:
            taken.append(_sent(scene, daemon, 1000 + len(taken)))
            wal = max(wal, scene.ledger.with_name("ledger.db-wal").stat().st_size)
        seconds = time.monotonic() - begun
        pruned = json.loads(ledgers.asked(scene.ledger, done))
        memory = _rss(daemon)
    used = daemon.used
    told = ", ".join(f"{pruned[name]:,} {name}" for name in ("recordings", "attempts", "events"))
    scene.told(f"retention of {told}", None, seconds, used.cpu, memory)
    _told_latencies(scene, "meanwhile, closed to safe", taken)
    grown = scene.ledger.stat().st_size - size
    free = scene.asked("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size")
    archived = _bytes_in(archive) - kept
    scene.result.notes += [
        f"archived {archived / 1e6:.0f} MB; the ledger grew by {grown:,} bytes",
        f"{free / 1e6:.0f} MB are free in it; its write-ahead log had {wal / 1e6:.0f} MB at most",
    ]
    scene.result.raw.append(
        {"retention": seconds, "pruned": pruned, "closed to safe": taken, "cpu": used.cpu}
    )


def _care(scene: _Scene) -> None:
    """What reads the whole ledger: once, for it takes its time."""
    copy = scene.workspace / "copy.db"
    for words in (["ledger", "backup", str(copy)], ["ledger", "check"]):
        name = " ".join(words[:2])
        scene.cold()
        used = _run(scene, words)
        copy.unlink(missing_ok=True)
        scene.told(name, used.wall, None, used.cpu, used.peak_rss / MIB)
        scene.result.raw.append({"what": name, "used": asdict(used)})


def _timed(scene: _Scene, name: str, words: Sequence[str], goal: float | None) -> None:
    """A command as a process: with nothing of the ledger in memory, then thrice again."""
    scene.cold()
    cold, *again = [_run(scene, words) for _ in range(4)]
    wall = median(used.wall for used in again)
    scene.told(name, cold.wall, wall, median(used.cpu for used in again), cold.peak_rss / MIB)
    if goal is not None:
        scene.result.goals.append(Goal(name, wall, goal, " s"))
    scene.result.raw.append({"what": name, "cold": asdict(cold), "again": [asdict(used) for used in again]})


def _run(scene: _Scene, words: Sequence[str]) -> Used:
    folder = scene.workspace / "command"
    folder.mkdir(exist_ok=True)
    told = command(folder, *words, "--config", str(scene.config))
    return scene.bench.run(replace(told, status=2 if _NOWHERE in words else 0), timeout=7200)


def _fresh(scene: _Scene, number: int) -> Path:
    """Where a camera is to write now: in turns one that is kept once, and thrice.

    A file of the day before is removed for it, so that the new one has the number of its inode.
    """
    source, camera = (("cameras", "cam00"), ("yard", "cam30"))[number % 2]
    oldest = next(path for path in sorted((scene.year.root / source / camera).rglob("*.mp4")))
    oldest.unlink()
    return oldest.parent / f"{time.time_ns()}.mp4"


def _sent(scene: _Scene, daemon: Metered, number: int) -> float:
    """Seconds from a file's closing until it is safe, above its quiet time."""
    before = scene.newest["recordings"]
    recordings.write(_fresh(scene, number), MIB, random.Random(number))
    closed = time.monotonic()
    safe = f"SELECT id FROM recordings WHERE id > {before} AND state = 'safe'"
    daemon.until(lambda: scene.asked(safe) > 0, timeout=120, pause=0.005)
    return time.monotonic() - closed - _QUIET


def _told_latencies(scene: _Scene, name: str, taken: Sequence[float]) -> None:
    for word, value in (("median", median(taken)), ("p99", percentile(taken, 0.99)), ("worst", max(taken))):
        scene.told(f"{name}, above quiet_for, of {len(taken)}: {word}", None, value)
    scene.result.raw.append({name: list(taken)})


def _rss(daemon: Metered) -> float:
    """Peak so far, in MiB: proc(5), status."""
    lines = Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir()) if folder.exists() else 0
