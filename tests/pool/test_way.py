"""From the queue to a verified copy, at every provider, whatever happens on the way."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from tests.contract.place import Backend
from tests.pool.conftest import Rig, content_of
from tests.strict import Fault, Kind, StrictServer
from uploaderd.errors import SourceMissing
from uploaderd.model import OnConflict, OnNewVersion, UploadState

MIB = 2**20


def only(row: Any) -> Any:
    (upload,) = row.uploads.values()
    return upload


async def stored(rig: Rig, key: str) -> bytes | None:
    found = await rig.place.vendor.get(key)
    return found.content if found is not None else None


@pytest.mark.parametrize("parts", [0, 0.5, 1, 3.5])
async def test_what_is_queued_arrives_whole_and_proven(rig: Rig, parts: float) -> None:
    content = content_of(int(parts * rig.place.part_size))
    recording = await rig.queue("a.mp4", content)
    async with rig.working():
        row = await rig.settled(recording)
    upload = only(row)
    assert (row.state, upload.state) == ("safe", UploadState.VERIFIED)
    assert await stored(rig, upload.key) == content
    assert upload.bytes_sent == len(content)
    assert upload.proof_kind
    assert row.crc32c is not None
    assert await rig.place.vendor.leftovers() == 0
    assert rig.safe == [b"a.mp4"]


async def stop_after_two_parts(rig: Rig) -> None:
    """Work, and stop cleanly in mid-file."""
    stopping = asyncio.Event()

    async def after_two_parts(name: str, seen: list[int] = []) -> None:  # noqa: B006 -- counts on purpose
        if name == "part_done":
            seen.append(1)
            if len(seen) == 2:
                stopping.set()

    rig.ledger.hook = after_two_parts
    async with rig.working():
        await asyncio.wait_for(stopping.wait(), 30)
    rig.ledger.hook = None


async def test_a_stop_in_mid_file_goes_on_where_it_was(rig: Rig) -> None:
    content = content_of(6 * rig.place.part_size)
    recording = await rig.queue("a.mp4", content)
    await stop_after_two_parts(rig)
    assert only(await rig.row(recording)).state == UploadState.QUEUED
    assert await stored(rig, "cams/a.mp4") is None, "nothing unfinished is visible"
    async with rig.working():
        row = await rig.settled(recording)
    assert await stored(rig, "cams/a.mp4") == content
    upload = only(row)
    assert upload.resumed_from >= 2 * rig.place.part_size
    assert upload.bytes_sent == len(content), "not one byte was sent twice"
    assert [attempt["outcome"] for attempt in await rig.attempts(recording)] == ["verified", "stopped"]


async def test_parts_of_a_file_that_was_replaced_are_never_mixed_in(rig: Rig) -> None:
    """By one of the same size, time, beginning and end, in between: only its middle tells."""
    old = content_of(6 * rig.place.part_size)
    new = old[:100_000] + b"repaired" + old[100_008:]
    recording = await rig.queue("a.mp4", old)
    path = rig.folder / "a.mp4"
    await stop_after_two_parts(rig)
    assert only(await rig.row(recording)).state == UploadState.QUEUED
    other = rig.write("repaired.mp4", new)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)
    async with rig.working():
        row = await rig.settled(recording)
    assert await stored(rig, only(row).key) == new


async def test_another_object_at_the_key_keeps_its_place(rig: Rig) -> None:
    await rig.place.vendor.put("cams/a.mp4", b"somebody else's")
    recording = await rig.queue("a.mp4", b"ours, and longer")
    async with rig.working():
        row = await rig.settled(recording)
    upload = only(row)
    assert row.state == "safe"
    assert upload.key != "cams/a.mp4"
    assert upload.key.startswith("cams/a.")
    assert upload.key.endswith(".mp4")
    assert await stored(rig, "cams/a.mp4") == b"somebody else's"
    assert await stored(rig, upload.key) == b"ours, and longer"


async def test_the_same_content_at_the_key_is_adopted(rig: Rig) -> None:
    content = content_of(1000)
    await rig.place.vendor.put("cams/a.mp4", content)
    recording = await rig.queue("a.mp4", content)
    async with rig.working():
        row = await rig.settled(recording)
    upload = only(row)
    assert (row.state, upload.key) == ("safe", "cams/a.mp4")
    assert upload.proof_kind.startswith("adopted")
    assert upload.bytes_sent == 0


async def test_a_conflict_can_be_made_to_fail(rig: Rig) -> None:
    await rig.place.vendor.put("cams/a.mp4", b"somebody else's")
    rig.on_conflict = OnConflict.FAIL
    recording = await rig.queue("a.mp4", b"ours")
    async with rig.working():
        row = await rig.settled(recording)
    assert (row.state, only(row).error_class) == ("failed", "conflict")
    assert "on_conflict" in only(row).error_hint
    assert await rig.place.vendor.keys() == {"cams/a.mp4"}


@pytest.mark.parametrize("parts", [0.5, 2.5])
async def test_a_conflict_can_be_made_to_overwrite(rig: Rig, parts: float) -> None:
    await rig.place.vendor.put("cams/a.mp4", b"somebody else's")
    rig.on_conflict = OnConflict.OVERWRITE
    content = content_of(int(parts * rig.place.part_size))
    recording = await rig.queue("a.mp4", content)
    async with rig.working():
        row = await rig.settled(recording)
    assert row.state == "safe"
    assert await stored(rig, "cams/a.mp4") == content


@pytest.mark.parametrize("on_new_version", list(OnNewVersion))
async def test_a_new_version_is_no_conflict(rig: Rig, on_new_version: OnNewVersion) -> None:
    """Whatever strangers' objects get, our own earlier version is kept beside, or replaced."""
    rig.on_new_version, rig.on_conflict = on_new_version, OnConflict.FAIL
    first = await rig.queue("a.mp4", b"the first version")
    async with rig.working():
        await rig.settled(first)
    second = await rig.queue("a.mp4", b"the second one, longer")
    async with rig.working():
        row = await rig.settled(second)
    assert row.state == "safe"
    assert await stored(rig, only(row).key) == b"the second one, longer"
    replaced = on_new_version is OnNewVersion.REPLACE
    assert len(await rig.place.vendor.keys()) == (1 if replaced else 2)
    assert (only(row).key == "cams/a.mp4") is replaced


async def test_an_unplugged_mount_loses_nothing(rig: Rig) -> None:
    """The file looks vanished, and the sweep that was to find it says that the whole source is gone."""
    recording = await rig.queue("a.mp4", b"x" * 100)
    path = rig.folder / "a.mp4"
    path.rename(rig.folder.with_name("aside"))

    async def gone(source: str) -> None:
        raise SourceMissing("the mount is gone", code="ENODEV")

    rig.resweep = gone
    async with rig.working():
        await rig.until(lambda _, row: only(row).error_code == "ENODEV", recording)
        rig.folder.with_name("aside").rename(path)
        row = await rig.settled(recording)
    assert row.state == "safe"


@pytest.mark.parametrize("parts", [0.5, 3.5])
async def test_nothing_of_a_mixture_is_completed(rig: Rig, parts: float) -> None:
    """The file changes once the first bytes are under way: same size, another content."""
    size = int(parts * rig.place.part_size)
    old, new = content_of(size, "old"), content_of(size, "new")
    recording = await rig.queue("a.mp4", old)
    changed = asyncio.Event()

    async def change(name: str) -> None:
        if name == ("part_done" if parts > 1 else "claim") and not changed.is_set():
            changed.set()
            path = rig.write("a.mp4", new)
            os.utime(path, ns=(1, 1))

    rig.ledger.hook = change
    async with rig.working():
        await rig.until(lambda rig, _: bool(rig.offered), recording)
    assert rig.offered[0] == b"a.mp4", "the watcher is told to look again"
    visible = await stored(rig, "cams/a.mp4")
    assert visible in (None, old), "whole or not at all"
    assert visible is None or parts < 1


async def test_unlinked_in_mid_file_is_finished_from_the_descriptor(rig: Rig) -> None:
    content = content_of(3 * rig.place.part_size)
    recording = await rig.queue("a.mp4", content)
    path = rig.folder / "a.mp4"

    async def unlink(name: str) -> None:
        if name == "part_done":
            path.unlink(missing_ok=True)

    rig.ledger.hook = unlink
    async with rig.working():
        row = await rig.settled(recording)
    assert not path.exists()
    assert (row.state, row.local) == ("safe", "removed")
    assert await stored(rig, "cams/a.mp4") == content


async def test_vanished_before_it_was_sent_is_lost(rig: Rig) -> None:
    recording = await rig.queue("a.mp4", b"x" * 100)
    (rig.folder / "a.mp4").unlink()
    async with rig.working():
        row = await rig.settled(recording)
    assert row.state == "lost"
    assert await rig.place.vendor.keys() == set()


async def test_what_comes_back_under_its_name_is_not_lost(rig: Rig) -> None:
    """Its recorder had it aside for a moment, to remux it perhaps."""
    recording = await rig.queue("a.mp4", b"x" * 100)
    path = rig.folder / "a.mp4"
    path.rename(rig.folder.with_name("aside"))

    async def comes_back(source: str) -> None:
        rig.folder.with_name("aside").rename(path)

    rig.resweep = comes_back
    async with rig.working():
        row = await rig.settled(recording)
    assert (row.state, only(row).attempts) == ("safe", 2)


async def test_a_source_that_is_gone_loses_nothing(rig: Rig) -> None:
    recording = await rig.queue("a.mp4", b"x" * 100)
    rig.folder.rename(rig.folder.with_name("elsewhere"))
    async with rig.working():
        await rig.until(lambda _, row: only(row).error_code == "ENOENT", recording)
        rig.folder.with_name("elsewhere").rename(rig.folder)
        row = await rig.settled(recording)
    assert row.state == "safe"


async def test_a_file_that_is_written_to_again_is_not_completed(rig: Rig) -> None:
    content = content_of(100)
    recording = await rig.queue("a.mp4", content)
    with (rig.folder / "a.mp4").open("ab"):
        async with rig.working():
            row = await rig.until(lambda _, row: only(row).error_code == "writer", recording)
    assert only(row).state == UploadState.RETRYING
    assert await rig.place.vendor.keys() == set()


@pytest.mark.at("s3", "azure", "gcs")
async def test_a_wrong_login_pauses_the_provider_and_heals(rig: Rig) -> None:
    recording = await rig.queue("a.mp4", b"x" * 100)
    right, rig.settings = rig.settings, rig.place.wrong_login
    async with rig.working():
        await rig.until(lambda rig, _: True, recording)
        await paused(rig, recording)
    assert only(await rig.row(recording)).attempts <= 2, "a paused provider's uploads write no attempts"
    rig.settings = right
    async with rig.working():
        assert (await rig.settled(recording)).state == "safe"


async def test_a_missing_bucket_pauses_the_provider_with_a_hint(rig: Rig) -> None:
    recording = await rig.queue("a.mp4", b"x" * 100)
    right, rig.settings = rig.settings, rig.place.missing_bucket
    async with rig.working():
        problem = await paused(rig, recording)
    assert problem
    rig.settings = right
    async with rig.working():
        assert (await rig.settled(recording)).state == "safe"


async def paused(rig: Rig, recording: int) -> str:
    """Wait until the provider is paused, with a hint; the hint."""
    from uploaderd.ledger import Ledger, read

    while True:
        rig.ledger.moved.clear()
        (row,) = await Ledger.run(rig.ledger, lambda tx: read.providers(tx.conn))
        if row.state == "paused":
            assert row.problem_class == "provider"
            assert row.problem_hint
            return row.problem_hint
        await asyncio.wait_for(rig.ledger.moved.wait(), 60)


VISIBLE = {
    "s3": ("PutObject", "CompleteMultipartUpload"),
    "azure": ("PutBlob", "PutBlockList"),
    "gcs": ("InsertObject", "ResumableChunk"),
}
PART = {"s3": "UploadPart", "azure": "PutBlock", "gcs": "ResumableChunk"}


@pytest.mark.at("s3", "azure", "gcs")
@pytest.mark.parametrize("parts", [0.5, 2.5])
async def test_a_lost_reply_to_the_last_call_leaves_one_object(
    rig: Rig, backend: Backend, strict: StrictServer, parts: float
) -> None:
    content = content_of(int(parts * rig.place.part_size))
    recording = await rig.queue("a.mp4", content)
    operation = VISIBLE[backend.type][parts > 1]
    skip = 2 if operation == "ResumableChunk" else 0
    fault = Fault(Kind.LOSE_REPLY, protocol=backend.type, operation=operation, skip=skip)
    with strict.faults.expected(fault):
        async with rig.working():
            row = await rig.settled(recording)
    assert row.state == "safe"
    assert await rig.place.vendor.keys() == {"cams/a.mp4"}
    assert await stored(rig, "cams/a.mp4") == content
    assert await rig.place.vendor.leftovers() == 0


@pytest.mark.at("s3", "azure", "gcs")
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (Kind.LOSE_REPLY, {}),
        (Kind.LOSE_REQUEST, {}),
        (Kind.RESET_BODY, {"after_bytes": 100_000}),
        (Kind.STATUS, {"status": 503, "retry_after": 7}),
        (Kind.FLIP_IN_TRANSIT, {"at_byte": 1234}),
    ],
)
async def test_a_fault_in_one_part_costs_that_part(
    rig: Rig, backend: Backend, strict: StrictServer, kind: Kind, more: dict[str, Any]
) -> None:
    size = rig.place.part_size
    content = content_of(int(4.5 * size))
    recording = await rig.queue("a.mp4", content)
    fault = Fault(kind, protocol=backend.type, operation=PART[backend.type], skip=1, **more)
    with strict.faults.expected(fault):
        async with rig.working():
            row = await rig.settled(recording)
    assert row.state == "safe"
    assert await stored(rig, "cams/a.mp4") == content
    if kind is not Kind.FLIP_IN_TRANSIT or backend.type == "azure":
        assert only(row).bytes_sent <= len(content) + size


@pytest.mark.at("s3", "azure", "gcs")
async def test_a_stalled_part_is_given_up_and_sent_again(
    rig: Rig, backend: Backend, strict: StrictServer
) -> None:
    content = content_of(int(3.5 * rig.place.part_size))
    rig.stall_seconds = 0.5
    recording = await rig.queue("a.mp4", content)
    fault = Fault(Kind.STALL_BODY, protocol=backend.type, operation=PART[backend.type], after_bytes=1000)
    with strict.faults.expected(fault):
        async with rig.working():
            row = await rig.settled(recording)
    fault.release()
    assert row.state == "safe"
    assert await stored(rig, "cams/a.mp4") == content


@pytest.mark.at("s3", "azure", "gcs")
async def test_forgotten_sessions_start_anew(rig: Rig, backend: Backend, strict: StrictServer) -> None:
    content = content_of(int(3.5 * rig.place.part_size))
    recording = await rig.queue("a.mp4", content)
    operation = "CompleteMultipartUpload" if backend.type == "s3" else VISIBLE[backend.type][1]
    with strict.faults.expected(
        Fault(Kind.FORGET_SESSION, protocol=backend.type, operation=operation, skip=0)
    ):
        async with rig.working():
            row = await rig.settled(recording)
    assert row.state == "safe"
    assert await stored(rig, "cams/a.mp4") == content
    assert await rig.place.vendor.leftovers() == 0


@pytest.mark.at("s3", "azure", "gcs")
@pytest.mark.parametrize("kind", [Kind.DISCARD, Kind.TRUNCATE])
@pytest.mark.parametrize("parts", [0.5, 2.5])
async def test_a_provider_that_lies_is_not_believed(
    rig: Rig, backend: Backend, strict: StrictServer, kind: Kind, parts: float
) -> None:
    content = content_of(int(parts * rig.place.part_size))
    recording = await rig.queue("a.mp4", content)
    operation = VISIBLE[backend.type][parts > 1]
    skip = 2 if operation == "ResumableChunk" else 0
    with strict.faults.expected(Fault(kind, protocol=backend.type, operation=operation, skip=skip)):
        async with rig.working():
            row = await rig.settled(recording)
    assert row.state == "safe"
    assert await stored(rig, only(row).key) == content
    assert len(await rig.attempts(recording)) >= 2


@pytest.mark.at("s3", "azure", "gcs")
async def test_an_outage_writes_few_attempts_and_is_caught_up(
    rig: Rig, backend: Backend, strict: StrictServer
) -> None:
    """Everything answers 503 for two virtual hours; then it is back."""
    recordings = [await rig.queue(f"{number}.mp4", content_of(100, str(number))) for number in range(20)]
    outage = Fault(Kind.STATUS, protocol=backend.type, count=None)
    start = rig.clock.now()
    with strict.faults.expected(outage):
        async with rig.working():
            while rig.clock.now() < start + 7_200_000:
                rig.ledger.moved.clear()
                await asyncio.wait_for(rig.ledger.moved.wait(), 60)
    attempts = sum([len(await rig.attempts(recording)) for recording in recordings])
    assert attempts <= 10
    async with rig.working():
        for recording in recordings:
            assert (await rig.settled(recording)).state == "safe"


@pytest.mark.at("s3")
async def test_an_attempt_that_takes_too_long_goes_on_from_its_parts(rig: Rig, strict: StrictServer) -> None:
    """The third part hangs, well before the watchdog for stalled parts would see it."""
    content = content_of(4 * rig.place.part_size)
    recording = await rig.queue("a.mp4", content)
    fault = Fault(Kind.STALL_BODY, protocol="s3", operation="UploadPart", skip=2, after_bytes=1000)
    with strict.faults.expected(fault):
        async with rig.working(attempt_timeout=1.0):
            row = await rig.settled(recording)
    upload = only(row)
    assert await stored(rig, upload.key) == content
    assert [attempt["code"] for attempt in await rig.attempts(recording)] == [None, "AttemptTimeout"]
    assert upload.resumed_from >= 2 * rig.place.part_size
