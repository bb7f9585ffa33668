"""The reply to each kind of call is lost, once: whatever was done is found, nothing is done twice.

Which calls there are is not written down here: a run without a fault shows them, in the endpoint's log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from tests.contract.place import Backend
from tests.kill.figures import Record
from tests.pool.conftest import Rig, content_of
from tests.strict import Fault, Kind, StrictServer
from tests.strict.foreign import put as put_foreign
from tests.strict.s3_state import Upload, random_id
from uploaderd.ledger import Ledger, Transaction, leftovers, read


@dataclass
class Play:
    """A scenario on a rig: how it goes, and the content that must be there at its end."""

    rig: Rig
    name: str

    @property
    def key(self) -> str:
        return f"cams/{self.name}"

    def content(self, parts: float, seed: str = "") -> bytes:
        return content_of(int(parts * self.rig.place.part_size), self.name + seed)


async def small(play: Play) -> bytes:
    content = play.content(0.4)
    recording = await play.rig.queue(play.name, content)
    async with play.rig.working():
        await settled(play.rig, recording)
    return content


async def in_parts(play: Play) -> bytes:
    content = play.content(2.5)
    recording = await play.rig.queue(play.name, content)
    async with play.rig.working():
        await settled(play.rig, recording)
    return content


async def resumed(play: Play) -> bytes:
    content = play.content(3.5)
    recording = await play.rig.queue(play.name, content)
    await stopped_after_a_part(play.rig)
    async with play.rig.working():
        await settled(play.rig, recording)
    return content


async def superseded(play: Play) -> bytes:
    """Another content takes the path of a half-done upload: what was sent is aborted."""
    await play.rig.queue(play.name, play.content(3.5, "before"))
    await stopped_after_a_part(play.rig)
    content = play.content(0.4)
    recording = await play.rig.queue(play.name, content)
    async with play.rig.working():
        await settled(play.rig, recording)
    return content


async def adopted(play: Play) -> bytes:
    """Somebody put the same content there: it is read back where no checksum is told."""
    content = play.content(0.4)
    await play.rig.place.vendor.put(play.key, content)
    recording = await play.rig.queue(play.name, content)
    async with play.rig.working():
        await settled(play.rig, recording)
    return content


SCENARIOS: list[Callable[[Play], Awaitable[bytes]]] = [small, in_parts, resumed, superseded, adopted]


@pytest.mark.at("s3", "azure", "gcs")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_each_reply_may_be_lost(
    rig: Rig,
    backend: Backend,
    strict: StrictServer,
    scenario: Callable[[Play], Awaitable[bytes]],
    record: Record,
) -> None:
    await scenario(Play(rig, "reference.mp4"))
    # What the vendor's own client asks to arrange and to look is left out.
    ours = [
        entry
        for entry in strict.log.entries(protocol=backend.type)
        if "uploaderd/" in entry.headers["user-agent"]
    ]
    calls: dict[str, int] = {}
    for entry in ours:
        calls[entry.operation] = calls.get(entry.operation, 0) + 1
    points = {(operation, skip) for operation, count in calls.items() for skip in {0, count - 1}}
    assert points
    lost = 0
    for operation, skip in sorted(points):
        play = Play(rig, f"{operation}-{skip}.mp4")
        fault = Fault(Kind.LOSE_REPLY, protocol=backend.type, operation=operation, skip=skip)
        with strict.faults.expected(fault):
            content = await scenario(play)
        lost += fault.fired
        found = await rig.place.vendor.get(play.key)
        assert found is not None
        assert found.content == content, fault
        if operation == "OpenResumable":
            # Nobody can list them; they hold nothing, cost nothing and expire after a week.
            (session,) = strict.gcs.open_sessions(rig.settings["bucket"])
            assert session.held == 0
            strict.gcs.forget_sessions(rig.settings["bucket"])
        assert await rig.place.vendor.leftovers() == 0, fault
    keys = await rig.place.vendor.keys()
    assert len(keys) == len(points) + 1, "no second object"
    record("kinds of call", len(calls))
    record("lost", lost)


@pytest.mark.at("s3", "azure", "gcs")
@pytest.mark.parametrize("parts", [0.4, 2.5])
async def test_a_strangers_object_at_the_key_is_never_taken_for_ours(
    rig: Rig, backend: Backend, strict: StrictServer, parts: float
) -> None:
    """It appears in the moment before ours becomes visible, has our size, and the reply is lost."""
    play = Play(rig, "a.mp4")
    content, foreign = play.content(parts), play.content(parts, "foreign")
    recording = await rig.queue("a.mp4", content)

    bucket = rig.settings.get("bucket") or rig.settings["container"]

    async def take_the_key(name: str) -> None:
        if name == "completing":
            rig.ledger.hook = None
            strict.call(lambda: put_foreign(strict, backend.type, bucket, play.key, data=foreign))

    rig.ledger.hook = take_the_key
    operation = VISIBLE[backend.type][parts > 1]
    skip = 2 if operation == "ResumableChunk" else 0
    fault = Fault(Kind.LOSE_REPLY, protocol=backend.type, operation=operation, skip=skip)
    with strict.faults.expected(fault):
        async with rig.working():
            await settled(rig, recording)
    found = await rig.place.vendor.get(play.key)
    assert found is not None
    assert (found.content, found.token) == (foreign, None), "a stranger's object stays what it is"
    (upload,) = (await rig.row(recording)).uploads.values()
    assert upload.key != play.key
    ours = await rig.place.vendor.get(upload.key)
    assert ours is not None
    assert (ours.content, ours.token) == (content, upload.token)
    assert await rig.place.vendor.leftovers() == 0


@pytest.mark.at("s3")
async def test_only_our_own_half_done_uploads_are_aborted(rig: Rig, strict: StrictServer) -> None:
    """The reply to the opening is lost; beside it lie uploads that are none of ours."""
    bucket = rig.settings["bucket"]
    other = strict.s3.add_account("somebody-else", "not-a-real-secret")
    play = Play(rig, "a.mp4")

    def begin(key: str, login: str, ago: float) -> str:
        upload = Upload(
            random_id(), key, strict.clock.now() - ago, login, {}, {}, "", "crc64nvme", "FULL_OBJECT", False
        )
        strict.s3.buckets[bucket].uploads[upload.id] = upload
        return upload.id

    ours = strict.s3.account.access_key
    kept = {
        begin(play.key, ours, 3600),  # before we ever meant to open one
        begin(play.key, other.access_key, -5),
        begin(play.key + ".part", ours, -5),
    }
    recording = await rig.queue("a.mp4", play.content(2.5))
    with strict.faults.expected(Fault(Kind.LOSE_REPLY, operation="CreateMultipartUpload")):
        async with rig.working():
            await settled(rig, recording)
    assert len(strict.log.entries("CreateMultipartUpload")) == 2
    assert {upload.id for upload in strict.s3.open_uploads(bucket)} == kept


@pytest.mark.at("s3", "directory")
async def test_an_opening_nobody_knows_of_is_cleaned_up_though_the_recording_is_gone(
    rig: Rig, backend: Backend, strict: StrictServer
) -> None:
    """The reply was lost, and before it is tried again another content takes the path."""
    play = Play(rig, "a.mp4")
    first = await rig.queue("a.mp4", play.content(2.5))
    if backend.type == "s3":
        with strict.faults.expected(Fault(Kind.LOSE_REPLY, operation="CreateMultipartUpload")):
            await stopped_after(rig, "retry_later")
    else:
        await stopped_after(rig, "opened")
        # As if the daemon had died before it could write that down.
        await Ledger.run(rig.ledger, forget_the_opening, first)
    assert await rig.place.vendor.leftovers() == 1
    recording = await rig.queue("a.mp4", play.content(0.4))
    async with rig.working():
        await settled(rig, recording)
    assert await rig.place.vendor.leftovers() == 0
    assert len(await rig.place.vendor.keys()) == 1


def forget_the_opening(tx: Transaction, recording: int) -> None:
    tx.conn.execute("DELETE FROM parts")
    tx.conn.execute(
        "UPDATE uploads SET session = NULL, intent_at = ? WHERE recording_id = ?", (tx.now - 1, recording)
    )


VISIBLE = {
    "s3": ("PutObject", "CompleteMultipartUpload"),
    "azure": ("PutBlob", "PutBlockList"),
    "gcs": ("InsertObject", "ResumableChunk"),
}


async def settled(rig: Rig, recording: int) -> read.RecordingRow:
    """Wait until the recording is safe, and nothing is left to be aborted."""
    row = await rig.settled(recording)
    assert row.state == "safe", row
    async with asyncio.timeout(60):
        while True:
            rig.ledger.moved.clear()
            if await Ledger.run(rig.ledger, leftovers.next_due, rig.provider) is None:
                return row
            await rig.ledger.moved.wait()


async def stopped_after_a_part(rig: Rig) -> None:
    await stopped_after(rig, "part_done")


async def stopped_after(rig: Rig, step: str) -> None:
    """Work until the ledger has taken that step, then stop cleanly."""
    reached = asyncio.Event()

    async def hook(name: str) -> None:
        if name == step:
            pool.stop()  # at once: nothing further is begun
            reached.set()

    async with rig.working() as pool:
        rig.ledger.hook = hook
        await asyncio.wait_for(reached.wait(), 30)
    rig.ledger.hook = None
