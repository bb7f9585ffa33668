"""An upload's way through the queue, and the counters beside it."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.ledger.conftest import Bench, Hand
from uploaderd.errors import Fault, FileChanged, FileVanished, StaleTransition
from uploaderd.ledger import Ledger, chain, intake, leftovers, queue, read, work
from uploaderd.model import (
    Checksum,
    Claim,
    FailureClass,
    Milliseconds,
    ObjectInfo,
    ObjectSpec,
    Part,
    Proof,
    RecordingState,
    Session,
)

T = TypeVar("T")

CONTENT = Checksum(5, 0x11223344, 0xFFEEDDCCBBAA9988)
PROOF = Proof("crc64nvme full object, stat", "value")
TRANSIENT = Fault("connection refused", code="ECONNREFUSED")


def object_of(claim: Claim) -> ObjectInfo:
    return ObjectInfo(claim.key, 5, etag="e", token=claim.token)


async def claimed(bench: Bench, provider: str = "nas") -> Claim:
    (claim,) = await bench.ledger.run(queue.claim, bench.providers[provider], 1)
    return claim


async def state_of(bench: Bench, recording: int) -> read.RecordingRow:
    (row,) = await bench.ledger.run(lambda tx: read.by_rows(tx.conn, [recording]))
    return row


async def test_safe_only_when_every_required_copy_is_verified(bench: Bench) -> None:
    recording = await bench.queued()
    first = await claimed(bench, "nas")
    await bench.ledger.run(work.completing, first.upload_id, CONTENT)
    assert await bench.ledger.run(work.verified, first.upload_id, object_of(first), PROOF) == []
    assert (await state_of(bench, recording)).state == RecordingState.WAITING
    second = await claimed(bench, "s3_main")
    await bench.ledger.run(work.completing, second.upload_id, CONTENT)
    bench.hand.at += 5
    holders = await bench.ledger.run(work.verified, second.upload_id, object_of(second), PROOF)
    assert holders == ["s3_main", "nas"]
    row = await state_of(bench, recording)
    assert (row.state, row.safe_at) == (RecordingState.SAFE, bench.hand.at)
    assert (row.crc32c, row.crc64nvme) == (CONTENT.crc32c, CONTENT.crc64nvme.to_bytes(8, "big"))


async def test_one_of_two_is_enough_where_one_is_required(bench: Bench) -> None:
    recording = await bench.queued(needed=1)
    doomed = await claimed(bench, "s3_main")
    await bench.ledger.run(work.failed, doomed.upload_id, Fault("no", failure=FailureClass.CONFLICT))
    assert (await state_of(bench, recording)).state == RecordingState.WAITING
    good = await claimed(bench, "nas")
    assert await bench.ledger.run(work.verified, good.upload_id, object_of(good), PROOF) == ["nas"]


async def test_a_failed_required_copy_fails_the_recording(bench: Bench) -> None:
    recording = await bench.queued()
    claim = await claimed(bench)
    await bench.ledger.run(work.failed, claim.upload_id, Fault("no", failure=FailureClass.RECORDING))
    assert (await state_of(bench, recording)).state == RecordingState.FAILED


async def test_the_content_must_be_the_same_for_all_providers(bench: Bench) -> None:
    await bench.queued()
    first, second = await claimed(bench, "nas"), await claimed(bench, "s3_main")
    await bench.ledger.run(work.completing, first.upload_id, CONTENT)
    with pytest.raises(FileChanged):
        await bench.ledger.run(work.completing, second.upload_id, Checksum(5, 1, 2))


async def test_no_transition_from_a_state_it_does_not_expect(bench: Bench) -> None:
    await bench.queued()
    claim = await claimed(bench)
    await bench.ledger.run(work.verified, claim.upload_id, object_of(claim), PROOF)
    spec = ObjectSpec(claim.key, 5, claim.token, "video/mp4")
    for act in (
        lambda: bench.ledger.run(work.verified, claim.upload_id, object_of(claim), PROOF),
        lambda: bench.ledger.run(work.failed, claim.upload_id, TRANSIENT),
        lambda: bench.ledger.run(work.requeue, claim.upload_id, TRANSIENT),
        lambda: bench.ledger.run(work.stopped, claim.upload_id),
        lambda: bench.ledger.run(work.intend, claim.upload_id),
        lambda: bench.ledger.run(work.opened, claim.upload_id, Session(spec, 1, "h")),
        lambda: bench.ledger.run(work.charge, claim.upload_id, 1),
        lambda: bench.ledger.run(work.completing, claim.upload_id, CONTENT),
        lambda: bench.ledger.run(work.abandon, claim.upload_id),
    ):
        with pytest.raises(StaleTransition):
            await act()
    (count,) = await bench.ledger.run(lambda tx: tx.conn.execute("SELECT count(*) FROM attempts").fetchone())
    assert count == 1, "a refused transition appends nothing"


async def test_a_retry_waits_for_its_time_and_goes_before_what_is_new(bench: Bench) -> None:
    await bench.queued()
    claim = await claimed(bench)
    later = Milliseconds(bench.hand.at + 10_000)
    await bench.ledger.run(work.retry_later, claim.upload_id, TRANSIENT, later, progress=False)
    assert await bench.ledger.run(queue.claim, bench.providers["nas"], 9) == []
    assert await bench.ledger.run(lambda tx: queue.next_due(tx.conn, bench.providers["nas"])) == later
    await bench.queued()
    bench.hand.at += 10_000
    again, new = await bench.ledger.run(queue.claim, bench.providers["nas"], 9)
    assert (again.upload_id, again.attempt, again.failures) == (claim.upload_id, 2, 1)
    assert new.attempt == 1


async def test_progress_starts_the_count_of_failures_anew(bench: Bench) -> None:
    await bench.queued()
    for _ in range(3):
        claim = await claimed(bench)
        await bench.ledger.run(work.retry_later, claim.upload_id, TRANSIENT, bench.hand.now(), progress=False)
    claim = await claimed(bench)
    assert claim.failures == 3
    await bench.ledger.run(work.retry_later, claim.upload_id, TRANSIENT, bench.hand.now(), progress=True)
    assert (await claimed(bench)).failures == 1


async def test_a_crash_is_written_down_and_the_session_goes_on(bench: Bench) -> None:
    recording = await bench.queued()
    claim = await claimed(bench)
    session = Session(ObjectSpec(claim.key, 5, claim.token, "video/mp4"), 8, "handle")
    part = Part(1, 0, CONTENT, "etag", "crc64nvme")
    await bench.ledger.run(work.intend, claim.upload_id)
    await bench.ledger.run(work.opened, claim.upload_id, session)
    await bench.ledger.run(work.charge, claim.upload_id, 5)
    await bench.ledger.run(work.part_done, claim.upload_id, part)
    await bench.ledger.run(work.completing, claim.upload_id, CONTENT)
    await bench.ledger.close()

    ledger = Ledger(bench.ledger.path, bench.hand.now, "test")
    await ledger.open()
    assert await ledger.run(work.recover) == 1
    (again,) = await ledger.run(queue.claim, bench.providers["nas"], 1)
    assert (again.handle, again.part_size, again.parts) == ("handle", 8, (part,))
    assert (again.completing, again.attempt) == (True, 2)
    assert (again.token, again.content) == (claim.token, CONTENT)
    (attempt,) = await ledger.run(lambda tx: read.attempts(tx.conn, recording, 9))
    assert (attempt["outcome"], attempt["bytes_sent"]) == ("interrupted", 5)
    await ledger.close()


async def test_the_handle_of_a_session_is_in_no_repr(bench: Bench) -> None:
    session = Session(ObjectSpec("k", 5, (await _token(bench)).token, ""), 8, "bearer-secret")
    assert "bearer-secret" not in repr(session)


async def _token(bench: Bench) -> Claim:
    await bench.queued()
    return await claimed(bench)


async def test_lost_only_if_it_was_not_renamed(bench: Bench) -> None:
    recording = await bench.queued(b"a.mp4")
    claim = await claimed(bench)
    vanished = FileVanished("a.mp4 is not there any more", code="ENOENT")
    await bench.ledger.run(intake.renamed, recording, b"b.mp4", ("a.mp4", "b.mp4"))
    assert await bench.ledger.run(work.gone, claim.upload_id, vanished, b"a.mp4") is False
    again = await claimed(bench)
    assert again.path == b"b.mp4"
    assert await bench.ledger.run(work.gone, again.upload_id, vanished, b"b.mp4") is True
    assert (await state_of(bench, recording)).state == RecordingState.LOST


async def test_a_lost_file_whose_other_copy_completes_is_safe_after_all(bench: Bench) -> None:
    recording = await bench.queued(needed=1)
    unlucky, lucky = await claimed(bench, "nas"), await claimed(bench, "s3_main")
    await bench.ledger.run(work.gone, unlucky.upload_id, FileVanished("gone"), lucky.path)
    assert (await state_of(bench, recording)).state == RecordingState.LOST
    await bench.ledger.run(work.verified, lucky.upload_id, object_of(lucky), PROOF)
    assert (await state_of(bench, recording)).state == RecordingState.SAFE


async def test_an_abandoned_session_is_left_to_be_aborted(bench: Bench) -> None:
    await bench.queued()
    claim = await claimed(bench)
    session = Session(ObjectSpec(claim.key, 5, claim.token, "video/mp4"), 8, "handle")
    await bench.ledger.run(work.opened, claim.upload_id, session)
    await bench.ledger.run(work.abandon, claim.upload_id)
    nas = bench.providers["nas"]
    left = await bench.ledger.run(leftovers.due, nas)
    assert left is not None
    assert (left.session.handle, left.session.spec.token) == ("handle", claim.token)
    assert await bench.ledger.run(leftovers.due, nas) is None, "put off at once"
    bench.hand.at += leftovers.AGAIN_MS[0]
    assert await bench.ledger.run(leftovers.due, nas) is not None, "until the provider says it is gone"
    await bench.ledger.run(leftovers.gone, left, "nas")
    assert await bench.ledger.run(leftovers.next_due, nas) is None


async def test_ids_sort_by_time_and_lead_back(bench: Bench) -> None:
    rows = [await bench.queued() for _ in range(3)]
    public = []
    for row in rows:
        bench.hand.at += 1000
        public.append((await state_of(bench, row)).id)
    assert public == sorted(public)
    found = await bench.ledger.run(lambda tx: read.recording(tx.conn, public[1]))
    assert found is not None
    assert found.row == rows[1]
    assert await bench.ledger.run(lambda tx: read.recording(tx.conn, "01J" + "0" * 23)) is None
    assert await bench.ledger.run(lambda tx: read.recording(tx.conn, "nonsense")) is None


async def test_listing_pages_through_everything_newest_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "PAGE", 3)
    rows = [await bench.queued() for _ in range(8)]
    listed = await bench.ledger.run(lambda tx: [row.row for row in read.recordings(tx.conn)])
    assert listed == rows[::-1]
    some = await bench.ledger.run(
        lambda tx: [r.row for r in read.recordings(tx.conn, state="waiting", limit=4)]
    )
    assert some == rows[:3:-1]
    assert await bench.ledger.run(lambda tx: list(read.recordings(tx.conn, provider="unknown"))) == []


class QueueMachine(RuleBasedStateMachine):
    """Any interleaving of transitions leaves counters, states and chain as a recount finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.hand = Hand()
        self.ledger = Ledger(Path(self.folder.name) / "ledger.db", self.hand.now, "test")
        self.do(self.ledger.open())
        self.bench = Bench(
            self.ledger, self.hand, self.do(self.ledger.run(intake.register_source, "s", b"/s"))
        )
        for name in ("s3_main", "nas"):
            self.bench.providers[name] = self.do(
                self.ledger.run(intake.register_provider, name, "directory", name)
            )
        self.working: list[Claim] = []

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        self.do(self.ledger.close())
        self.loop.close()
        self.folder.cleanup()

    @rule(path=st.sampled_from([b"a", b"b", b"c"]), needed=st.integers(1, 2))
    def queue(self, path: bytes, needed: int) -> None:
        self.do(self.bench.queued(path, needed=needed))

    @rule(provider=st.sampled_from(["s3_main", "nas"]), minutes=st.integers(0, 3))
    def claim(self, provider: str, minutes: int) -> None:
        self.hand.at += minutes * 60_000
        self.working += self.do(self.ledger.run(queue.claim, self.bench.providers[provider], 1))

    @precondition(lambda self: self.working)
    @rule(
        end=st.sampled_from(["verify", "retry", "requeue", "fail", "gone", "stop", "abandon"]), data=st.data()
    )
    def end(self, end: str, data: st.DataObject) -> None:
        claim = self.working.pop(data.draw(st.integers(0, len(self.working) - 1)))
        run, id_ = self.ledger.run, claim.upload_id
        match end:
            case "verify":
                self.do(run(work.completing, id_, CONTENT, 5))
                self.do(run(work.verified, id_, object_of(claim), PROOF))
            case "retry":
                at = Milliseconds(self.hand.at + 60_000)
                self.do(run(work.retry_later, id_, TRANSIENT, at, progress=False))
            case "requeue":
                self.do(run(work.requeue, id_, TRANSIENT))
            case "fail":
                self.do(run(work.failed, id_, TRANSIENT))
            case "gone":
                self.do(run(work.gone, id_, FileVanished("gone"), claim.path))
            case "stop":
                self.do(run(work.stopped, id_))
            case "abandon":
                self.do(run(work.abandon, id_))
                self.working.append(claim)

    @rule()
    def crash(self) -> None:
        self.do(self.ledger.run(work.recover))
        self.working.clear()

    @invariant()
    def counters_agree_with_a_recount(self) -> None:
        self.do(self.ledger.run(lambda tx: _recount(tx.conn)))


def _recount(conn: sqlite3.Connection) -> None:
    for table, columns, totals in (
        (
            "recordings",
            "source_id, state, acknowledged_at IS NOT NULL, local = 'present'",
            "recording_totals",
        ),
        ("uploads", "provider_id, state", "upload_totals"),
    ):
        counted = conn.execute(f"SELECT {columns}, count(*) FROM {table} GROUP BY {columns}").fetchall()
        kept = conn.execute(f"SELECT * FROM {totals} WHERE count <> 0").fetchall()
        assert {row[:-1]: row[-1] for row in counted} == {
            row[: len(columns.split(","))]: row[len(columns.split(","))] for row in kept
        }
    for needed, verified, state, safe_at in conn.execute(
        "SELECT needed, (SELECT count(*) FROM uploads u WHERE u.recording_id = r.id AND u.required"
        " AND u.state = 'verified'), state, safe_at FROM recordings r"
    ):
        if state == "safe":
            assert verified >= needed
            assert safe_at is not None
        elif state != "superseded":
            assert verified < needed
    paths = [row[0] for row in conn.execute("SELECT path FROM recordings WHERE past = 0")]
    assert len(paths) == len(set(paths))
    assert chain.broken_at(conn, "attempts") is None
    assert chain.broken_at(conn, "events") is None


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
