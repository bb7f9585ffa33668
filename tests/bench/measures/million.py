"""A ledger with a million recordings: does anybody feel its weight?"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench import ledgers, recordings
from tests.bench.bench import Bench
from tests.bench.daemon import Place, command, configured, run_command
from tests.bench.figures import Goal, Result, median
from tests.bench.jobs import Cloud
from tests.bench.meter import FailedError
from uploaderd.config import load
from uploaderd.ledger import Ledger, Transaction, queue, samples, schema, tally
from uploaderd.ledger.intake import NewRecording, NewUpload, enqueue
from uploaderd.model import FileIdentity, FinishedBy, FoundBy, Milliseconds
from uploaderd.report.unix_http import UnixConnection

_CLAIMS = 200


def measure(bench: Bench) -> Result:
    count = bench.pick(1_000_000, 20_000)
    kept = _kept(bench, count)
    result = Result(
        f"a ledger of {count} recordings, {3 * count} uploads, {5 * count} attempts",
        ("what", "s, or bytes"),
    )
    bytes_each = kept.stat().st_size / count
    with bench.workspace() as workspace, ExitStack() as ends:
        ledger = workspace / "ledger.db"
        shutil.copyfile(kept, ledger)
        ledger.chmod(0o600)
        os.sync()  # or the daemon's first fsync waits until all of the copy is written
        endpoint = ends.enter_context(bench.endpoint())
        files = workspace / "files"
        files.mkdir()
        places = [Place(cloud, endpoint.url, endpoint.authority) for cloud in Cloud]
        config = configured(workspace, files, places)
        providers = load(config).providers
        ledgers.retarget(ledger, {name: provider.target for name, provider in providers.items()})
        # With its old time: a new one would be waited for until its quiet time is over.
        shutil.copy2(recordings.folder_of(bench.data, 1, 1) / "000000.mp4", files / "new.mp4")
        bench.say("million: start, status, list")
        begun = time.time()
        with bench.running(run_command(workspace, config)) as daemon:
            attempt = f"SELECT min(started_at) FROM attempts WHERE recording_id > {count}"
            daemon.until(lambda: ledgers.asked(ledger, attempt) is not None, timeout=60)
            started = ledgers.asked(ledger, attempt) / 1000 - begun
            status = [_wall(bench, workspace, config, "status") for _ in range(4 * bench.runs)]
            listed = [_wall(bench, workspace, config, "list") for _ in range(4 * bench.runs)]
            pages = [page(load(config).web.socket, "/") for _ in range(4 * bench.runs)]
        bench.say("million: claims")
        claims = asyncio.run(_claims(ledger))
    shown = {
        "start to the first attempt": started,
        "status": median(status),
        "list": median(listed),
        "status page": median(pages),
    }
    result.rows += [
        *shown.items(),
        ("claim, without its fsync", median(claims)),
        ("bytes a recording", bytes_each),
    ]
    result.goals += [
        Goal("status", shown["status"], 0.3, " s"),
        Goal("claim, without its fsync", 1000 * median(claims), 1, " ms"),
        Goal("first page of list", shown["list"], 0.3, " s"),
        Goal("status page with the first page of the table", shown["status page"], 0.3, " s"),
        Goal("start to working", started, 2, " s"),
    ]
    result.raw.append({"status": status, "list": listed, "pages": pages, "claims": claims, "start": started})
    return result


def _kept(bench: Bench, count: int) -> Path:
    """The ledger, made once for each version of the schema."""
    source = "".join(inspect.getsource(module) for module in (schema, tally, samples, ledgers))
    version = hashlib.sha256(source.encode()).hexdigest()[:12]
    path = bench.data / f"ledger-{count}-{version}.db"
    if not path.exists():
        bench.say(f"million: making a ledger of {count} recordings, once")
        making = path.with_suffix(".making")
        providers = {str(cloud): (str(cloud), "set later") for cloud in Cloud}
        ledgers.fill(making, ledgers.long_gone(count), Path("/nowhere"), providers, retries=2)
        making.rename(path)
    return path


def _wall(bench: Bench, workspace: Path, config: Path, word: str) -> float:
    """Seconds that a command takes as a process."""
    folder = workspace / "command"
    folder.mkdir(exist_ok=True)
    return bench.run(command(folder, word, "--config", str(config))).wall


def page(socket: Path, path: str) -> float:
    """Seconds until the whole answer is there."""
    begun = time.perf_counter()
    connection = UnixConnection(socket, 60)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise FailedError(f"{path} answers {answer.status}")
    return time.perf_counter() - begun


async def _claims(path: Path) -> list[float]:
    """Seconds of each of many claims, inside their transactions."""
    ledger = Ledger(path, lambda: Milliseconds(int(time.time() * 1000)), "bench")
    await ledger.open()
    try:
        await ledger.run(enqueue, [_waiting(number) for number in range(_CLAIMS)])
        return [await ledger.run(_timed_claim) for _ in range(_CLAIMS)]
    finally:
        await ledger.close()


def _timed_claim(tx: Transaction) -> float:
    begun = time.perf_counter()
    claims = queue.claim(tx, 1, 1)
    taken = time.perf_counter() - begun
    if len(claims) != 1:
        raise FailedError("nothing was there to claim")
    return taken


def _waiting(number: int) -> NewRecording:
    return NewRecording(
        source_id=1,
        path=b"waiting/%06d.mp4" % number,
        identity=FileIdentity(1, number, 10**9 + number, 1, number.to_bytes(16, "big")),
        found_by=FoundBy.EVENT,
        finished_by=FinishedBy.LEASE,
        finished_at=Milliseconds(int(time.time() * 1000)),
        uploads=tuple(
            NewUpload(provider, f"waiting/{number:06d}.mp4", required=True) for provider in (1, 2, 3)
        ),
        needed=3,
    )
