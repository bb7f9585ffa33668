"""The copies, at real providers: deleted, replaced, changed or out of sight, the local file stays."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cleanup.conftest import Yard
from tests.strict import Fault, Kind, StrictServer
from uploaderd.ledger import Ledger
from uploaderd.model import UploadState
from uploaderd.provider import Deletes

CONTENT = b"a recording " * 100


def only(row: Any) -> Any:
    (upload,) = row.uploads.values()
    return upload


async def delete(yard: Yard, key: str) -> None:
    assert isinstance(yard.provider, Deletes)
    await yard.provider.delete(key)


async def test_what_is_still_there_lets_the_file_go(yard: Yard) -> None:
    recording = await yard.safe(content=CONTENT)
    async with yard.cleaning(keep_for="0s"):
        removed = await yard.event("removed", recording)
    (copy,) = removed["detail"]["copies"]
    assert copy["how"] in ("same ETag", "same generation")
    assert yard.left() == []


async def test_a_copy_that_is_gone_keeps_the_file_and_is_verified_no_more(yard: Yard) -> None:
    recording = await yard.safe(content=CONTENT)
    await delete(yard, "cams/a.mp4")
    async with yard.cleaning(keep_for="0s"):
        gone = await yard.event("copy-gone", recording)
        kept = await yard.event("kept", recording)
    assert gone["provider"] == "tested"
    assert kept["detail"]["why"] == "copy-gone"
    assert yard.left() == ["a.mp4"]
    row = await yard.row(recording)
    assert (row.state, row.safe_at, only(row).state) == ("failed", None, UploadState.FAILED)
    assert (only(row).error_code, only(row).proof_kind) == ("copy-gone", None)
    assert "uploaderd retry" in only(row).error_hint
    assert "removing" not in await yard.kinds(recording), "the file was not even touched"


async def test_a_copy_that_goes_while_the_file_is_aside_brings_it_back(yard: Yard) -> None:
    recording = await yard.safe(content=CONTENT)

    async def after_intent(name: str) -> None:
        if name == "begin":
            await delete(yard, "cams/a.mp4")

    yard.rig.ledger.hook = after_intent
    async with yard.cleaning(keep_for="0s"):
        await yard.event("kept", recording)
    assert await yard.kinds(recording) == ["removing", "copy-gone", "kept"]
    assert yard.left() == ["a.mp4"]
    assert (yard.rig.folder / "a.mp4").read_bytes() == CONTENT
    assert (await yard.row(recording)).state == "failed"


@pytest.mark.parametrize("other", [b"somebody else's", CONTENT[::-1]])
async def test_another_object_at_the_key_keeps_the_file(yard: Yard, other: bytes) -> None:
    recording = await yard.safe(content=CONTENT)
    await yard.rig.place.vendor.put("cams/a.mp4", other)
    async with yard.cleaning(keep_for="0s"):
        told = await asyncio.wait_for(_either(yard, recording, "copy-replaced", "copy-unproven"), 20)
    assert told["detail"]["found"]["size"] == len(other)
    assert "removed" not in await yard.kinds(recording)
    assert yard.left() == ["a.mp4"]


async def _either(yard: Yard, recording: int, *kinds: str) -> dict[str, Any]:
    waits = [asyncio.ensure_future(yard.event(kind, recording)) for kind in kinds]
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in pending:
        wait.cancel()
    return done.pop().result()


async def test_a_replaced_copy_is_shown_as_a_conflict(yard: Yard) -> None:
    recording = await yard.safe(content=CONTENT)
    await delete(yard, "cams/a.mp4")
    await yard.rig.place.vendor.put("cams/a.mp4", b"somebody else's")
    async with yard.cleaning(keep_for="0s"):
        await yard.event("kept", recording)
    row = await yard.row(recording)
    assert (row.state, only(row).error_class, only(row).error_code) == ("failed", "conflict", "copy-replaced")


@pytest.mark.at("directory")
@pytest.mark.parametrize("damaged", [False, True])
async def test_a_copy_that_was_touched_is_proven_anew_or_written_over(yard: Yard, damaged: bool) -> None:
    recording = await yard.safe(content=CONTENT)
    copy = Path(yard.rig.settings["path"]) / "cams/a.mp4"
    if damaged:
        with copy.open("r+b") as file:
            file.write(b"X")
    os.utime(copy, (1_700_000_000, 1_700_000_000))
    async with yard.cleaning(keep_for="0s") as cleaner:
        await yard.event("copy-unproven", recording)
        row = await yard.rig.until(lambda _, row: only(row).state == UploadState.VERIFIED, recording)
        assert (yard.rig.folder / "a.mp4").exists(), "not before it is proven again"
        cleaner.wake()
        await yard.event("removed", recording)
    assert copy.read_bytes() == CONTENT
    assert only(row).bytes_sent == len(CONTENT) * (2 if damaged else 1)
    kinds = await yard.kinds(recording)
    assert kinds.index("copy-unproven") < kinds.index("removed")


@pytest.mark.at("directory")
async def test_a_copy_that_is_touched_while_the_file_is_aside_is_proven_once_it_is_back(yard: Yard) -> None:
    recording = await yard.safe(content=CONTENT)
    copy = Path(yard.rig.settings["path"]) / "cams/a.mp4"
    found: list[tuple[object, ...]] = []

    async def after(name: str) -> None:
        if name == "begin" and not found:
            os.utime(copy, (1_700_000_000, 1_700_000_000))
        elif name == "copy_lost":
            query = "SELECT state, next_attempt_at > ? FROM uploads"
            now = yard.rig.clock.now() + 60_000
            found.extend(
                await Ledger.run(yard.rig.ledger, lambda tx: tx.conn.execute(query, (now,)).fetchall())
            )

    yard.rig.ledger.hook = after
    async with yard.cleaning(keep_for="0s") as cleaner:
        await yard.event("kept", recording)
        await yard.rig.until(lambda _, row: only(row).state == UploadState.VERIFIED, recording)
        cleaner.wake()
        await yard.event("removed", recording)
    assert found == [("retrying", True)], "nobody looks for the file while it is aside"
    assert "lost" not in await yard.kinds(recording)


@pytest.mark.at("directory")
async def test_a_missing_mount_is_not_a_missing_copy(yard: Yard) -> None:
    recording = await yard.safe(content=CONTENT)
    marker = Path(yard.rig.settings["path"]) / ".uploaderd" / "marker"
    marker.rename(marker.with_name("moved"))
    await _put_off_then(yard, recording, lambda: marker.with_name("moved").rename(marker))


@pytest.mark.at("s3")
async def test_a_missing_bucket_is_not_a_missing_copy(yard: Yard, strict: StrictServer) -> None:
    recording = await yard.safe(content=CONTENT)
    name = yard.rig.settings["bucket"]
    bucket = strict.s3.buckets.pop(name)
    await _put_off_then(yard, recording, lambda: strict.s3.buckets.update({name: bucket}))


async def _put_off_then(yard: Yard, recording: int, mend: Any) -> None:
    """It is looked at, put off without an event, and removed after `mend`."""
    put_off = asyncio.Event()

    async def notice(name: str) -> None:
        if name == "put_off" and not put_off.is_set():
            put_off.set()
            assert await yard.kinds(recording) == []
            assert (await yard.row(recording)).state == "safe"
            assert yard.left() == ["a.mp4"]
            mend()

    yard.rig.ledger.hook = notice
    async with yard.cleaning(keep_for="0s"):
        await asyncio.wait_for(put_off.wait(), 60)
        await yard.event("removed", recording)


@pytest.mark.at("s3")
async def test_credentials_that_may_not_look_any_more_keep_the_file(yard: Yard, strict: StrictServer) -> None:
    recording = await yard.safe(content=CONTENT)
    strict.s3.account.denied = {"s3:GetObject", "s3:ListBucket"}
    async with yard.cleaning(keep_for="0s"):
        kept = await yard.event("kept", recording)
        assert kept["detail"]["why"] == "cannot-look"
        assert yard.left() == ["a.mp4"]
        assert (await yard.row(recording)).state == "safe"
        strict.s3.account.denied = set()
        await yard.event("removed", recording)


@pytest.mark.at("s3")
async def test_credentials_that_never_could_look_let_it_go_by_the_reply(
    yard: Yard, strict: StrictServer
) -> None:
    strict.s3.account.denied = {"s3:GetObject", "s3:ListBucket"}
    recording = await yard.safe(content=CONTENT)
    assert only(await yard.row(recording)).proof_kind.endswith(", reply")
    async with yard.cleaning(keep_for="0s"):
        removed = await yard.event("removed", recording)
    (copy,) = removed["detail"]["copies"]
    assert "reply alone" in copy["how"]


@pytest.mark.at("s3", "azure", "gcs")
async def test_a_provider_that_breaks_down_leaves_the_file_alone(yard: Yard, strict: StrictServer) -> None:
    recording = await yard.safe(content=CONTENT)
    with strict.faults.expected(Fault(Kind.STATUS, operation="*", status=503, count=3)):
        async with yard.cleaning(keep_for="0s"):
            await yard.event("removed", recording)
    assert await yard.kinds(recording) == ["removing", "removed"]
