"""Retention: what is old and over leaves the ledger, after it was exported; nothing else does, ever."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.clocks import FakeClock
from tests.ledger.conftest import Bench
from tests.ledger.lived import claimed, live, made_safe
from tests.ledger.test_check import wrong
from tests.ledger.test_export import checked, exported
from uploaderd.errors import Fault
from uploaderd.ledger import Event, Transaction, chain, connect_readonly, intake, pruning, read, work
from uploaderd.model import FailureClass, Milliseconds
from uploaderd.retention import Pruned, Retention

DAY_MS = 86_400_000
KEEP = 30 * 86_400.0


@pytest.fixture
async def cams(bench: Bench, tmp_path: Path) -> Path:
    """The bench's source as a folder that is there."""
    folder = tmp_path / "cams"
    folder.mkdir()
    await bench.ledger.run(intake.register_source, "cameras", os.fsencode(folder))
    return folder


class Now(FakeClock):
    """The bench's time; pauses cost nothing."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._bench = bench

    def now(self) -> Milliseconds:
        return self._bench.hand.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def a_pass(bench: Bench) -> Pruned:
    return await a_pass_of(bench, KEEP)


async def a_pass_of(bench: Bench, keep: float) -> Pruned:
    return await Retention(keep, bench.ledger, Now(bench)).once()


def archive_of(bench: Bench, ending: str = "") -> Path:
    return bench.ledger.path.with_name(f"ledger.db.archive{ending}")


def archived(bench: Bench) -> list[Any]:
    folder = archive_of(bench)
    return [
        json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()
    ]


def left(bench: Bench) -> set[bytes]:
    with closing(connect_readonly(bench.ledger.path)) as conn:
        return {row.path for row in read.recordings(conn)}


async def test_what_is_old_and_gone_leaves_and_is_in_the_archive(bench: Bench, cams: Path) -> None:
    await made_safe(bench, b"old.mp4")
    before = exported(bench)
    bench.hand.at += 31 * DAY_MS
    await made_safe(bench, b"young.mp4")
    pruned = await a_pass(bench)
    assert pruned.recordings == 1
    assert left(bench) == {b"young.mp4"}
    assert {json.dumps(line) for line in archived(bench)} >= {
        json.dumps(json.loads(line)) for line in before if '"horizon"' not in line
    }, "whatever was in the ledger then is in the archive now"
    totals = await bench.ledger.run(lambda tx: read.totals(tx.conn))
    assert (totals.total, totals.safe) == (1, 1)
    assert wrong(bench.ledger.path) == {}


async def test_the_chain_is_whole_through_archive_and_ledger(bench: Bench, cams: Path) -> None:
    for _ in range(4):
        await made_safe(bench)
        bench.hand.at += 20 * DAY_MS
        await a_pass(bench)
    months = sorted(path.name for path in archive_of(bench).iterdir())
    assert len(months) >= 2, months
    history = [json.dumps(line) for line in archived(bench)]
    code, said = checked(history)
    assert code == 0, said
    code, said = checked(history + exported(bench))
    assert code == 0, said
    assert wrong(bench.ledger.path) == {}


async def test_a_file_that_is_there_keeps_its_recording(bench: Bench, cams: Path) -> None:
    """Or the next sweep would take it for new."""
    await made_safe(bench, b"kept.mp4")
    await made_safe(bench, b"gone.mp4")
    (cams / "kept.mp4").write_bytes(b"12345")
    bench.hand.at += 31 * DAY_MS
    await a_pass(bench)
    assert left(bench) == {b"kept.mp4"}


async def test_below_a_root_that_is_missing_nothing_counts_as_gone(bench: Bench, cams: Path) -> None:
    await made_safe(bench, b"safe.mp4")
    bench.hand.at += 31 * DAY_MS
    cams.rmdir()
    assert (await a_pass(bench)).recordings == 0
    assert left(bench) == {b"safe.mp4"}


async def test_what_is_not_over_stays(bench: Bench, cams: Path) -> None:
    await live(bench)
    bench.hand.at += 400 * DAY_MS
    await a_pass(bench)
    assert left(bench) == {b"failed.mp4", b"session.mp4", b"again.mp4"}
    states = {row.path: row.state for row in rows_of(bench)}
    assert states == {b"failed.mp4": "failed", b"session.mp4": "waiting", b"again.mp4": "waiting"}
    assert wrong(bench.ledger.path) == {}


def rows_of(bench: Bench) -> list[read.RecordingRow]:
    with closing(connect_readonly(bench.ledger.path)) as conn:
        return list(read.recordings(conn))


async def test_acknowledged_ones_leave_and_half_done_copies_stay(bench: Bench, cams: Path) -> None:
    lost = await bench.queued(b"lost.mp4")
    for provider in bench.providers:
        claim = await claimed(bench, provider)
        await bench.ledger.run(
            work.gone, claim.upload_id, Fault("gone", failure=FailureClass.RECORDING), claim.path
        )
    await bench.queued(b"one-of-two.mp4", needed=1)
    claim = await claimed(bench, "nas")
    from tests.ledger.lived import CONTENT, PROOF
    from uploaderd.model import ObjectInfo

    await bench.ledger.run(work.completing, claim.upload_id, CONTENT)
    await bench.ledger.run(work.verified, claim.upload_id, ObjectInfo(claim.key, 5), PROOF)
    bench.hand.at += 31 * DAY_MS
    await a_pass(bench)
    assert left(bench) == {b"lost.mp4", b"one-of-two.mp4"}
    await bench.ledger.run(
        lambda tx: tx.conn.execute("UPDATE recordings SET acknowledged_at = ? WHERE id = ?", (tx.now, lost))
    )
    await a_pass(bench)
    assert b"lost.mp4" in left(bench), "it was acknowledged just now"
    bench.hand.at += 31 * DAY_MS
    await a_pass(bench)
    assert left(bench) == {b"one-of-two.mp4"}, "a copy of it is still to be made"


async def test_an_archive_that_cannot_be_written_keeps_the_rows(bench: Bench, cams: Path) -> None:
    await made_safe(bench, b"old.mp4")
    bench.hand.at += 31 * DAY_MS
    await a_pass_of(bench, keep=KEEP * 2)
    archive_of(bench).write_bytes(b"a file in its place")
    with pytest.raises(OSError, match=r"exists|directory"):
        await a_pass(bench)
    assert left(bench) == {b"old.mp4"}


async def test_another_ledgers_archive_is_left_alone(bench: Bench, cams: Path) -> None:
    """The ledger that it belongs to was lost, or put aside; both number their rows from one."""
    archive_of(bench).mkdir()
    await made_safe(bench, b"old.mp4")
    bench.hand.at += 31 * DAY_MS
    await a_pass(bench)
    await a_pass(bench)
    assert not list(archive_of(bench).iterdir())
    assert list(archive_of(bench, "-2").iterdir())
    assert not archive_of(bench, "-3").exists()


async def test_a_crash_between_archive_and_ledger_loses_nothing(
    bench: Bench, cams: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made_safe(bench, b"old.mp4")
    bench.hand.at += 31 * DAY_MS

    def crash(tx: Transaction, *_: object) -> None:
        raise RuntimeError("killed")

    for name in ("prune_recordings", "prune_history"):
        with monkeypatch.context() as patched:
            patched.setattr(pruning, name, crash)
            with pytest.raises(RuntimeError):
                await a_pass(bench)
    (month,) = archive_of(bench).iterdir()
    with month.open("ab") as file:
        file.write(b'{"type":"attempt","id":')  # half a line, as a power cut leaves it
    await a_pass(bench)
    assert left(bench) == set()
    history = [json.dumps(line) for line in archived(bench)]
    assert checked(history + exported(bench))[0] == 0, "rows may be there twice, but none is missing"


async def test_a_clock_that_was_wrong_stops_nothing_for_good(bench: Bench, cams: Path) -> None:
    await made_safe(bench, b"first.mp4")
    bench.hand.at += 50 * 365 * DAY_MS
    await bench.ledger.run(lambda tx: tx.event(Event("noted")))
    bench.hand.at -= 50 * 365 * DAY_MS
    await made_safe(bench, b"second.mp4")
    bench.hand.at += 31 * DAY_MS
    await bench.ledger.run(lambda tx: tx.event(Event("noted")))
    assert (await a_pass(bench)).recordings == 2
    with closing(connect_readonly(bench.ledger.path)) as conn:
        assert chain.broken_at(conn, "events") is None
        kinds = [row[0] for row in conn.execute("SELECT kind FROM events ORDER BY id")]
    assert kinds == ["noted", "pruned"]


async def test_a_clock_of_1970_prunes_nothing(bench: Bench, cams: Path) -> None:
    await made_safe(bench, b"old.mp4")
    bench.hand.at = 60_000
    assert not await a_pass(bench)


async def test_many_go_in_small_transactions(
    bench: Bench, cams: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 7)
    for _ in range(20):
        await made_safe(bench)
    bench.hand.at += 31 * DAY_MS
    asked: list[str] = []
    run = bench.ledger.run

    async def counted(what: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(what.__name__)
        return await run(what, *args, **kwargs)

    monkeypatch.setattr(bench.ledger, "run", counted)
    assert await a_pass(bench) == Pruned(recordings=20, attempts=40, events=2)
    assert (asked.count("prune_recordings"), asked.count("prune_history")) == (3, 7)
    assert wrong(bench.ledger.path) == {}


async def test_year_in_year_out_the_ledger_keeps_its_size(bench: Bench, cams: Path) -> None:
    """The same number each day, for ten times as long as is kept: rows and pages are those of two days."""
    sizes: list[tuple[int, int]] = []
    for _ in range(20):
        for _ in range(10):
            await made_safe(bench)
        bench.hand.at += DAY_MS
        await a_pass_of(bench, 2 * 86_400.0)
        with closing(connect_readonly(bench.ledger.path)) as conn:
            (rows,) = conn.execute("SELECT count(*) FROM recordings").fetchone()
            (pages,) = conn.execute("PRAGMA page_count").fetchone()
        sizes.append((rows, pages))
    assert {rows for rows, _ in sizes[3:]} == {20}
    assert sizes[-1][1] <= sizes[4][1] + 2, sizes
    assert wrong(bench.ledger.path) == {}


async def test_forever_is_forever(bench: Bench) -> None:
    await asyncio.wait_for(Retention(None, bench.ledger, Now(bench)).run(), 10)
