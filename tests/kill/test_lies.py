"""A provider that says it has what it has not: bits flipped, parts cut short or dropped, errors inside a 200.

Beyond reach is a provider that stores other bytes than it computed its checksum of: what it says of itself is
believed, as docs/guarantees.md tells, until `uploaderd verify --deep` reads the object back.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.place import Backend
from tests.kill.figures import Record
from tests.kill.test_lost_replies import settled, stopped_after
from tests.pool.conftest import Rig, content_of
from tests.strict import Fault, Kind, StrictServer

PART = {"s3": "UploadPart", "azure": "PutBlock", "gcs": "ResumableChunk"}
VISIBLE = {
    "s3": ("PutObject", "CompleteMultipartUpload"),
    "azure": ("PutBlob", "PutBlockList"),
    "gcs": ("InsertObject", "ResumableChunk"),
}
PARTS = 3


@pytest.mark.at("s3", "azure", "gcs")
async def test_a_bit_flips_on_the_way_in_any_part(
    rig: Rig, backend: Backend, strict: StrictServer, record: Record
) -> None:
    await _one_part_after_another(rig, backend, strict, Kind.FLIP_IN_TRANSIT, record)


# A chunk's reply says how much GCS holds of it: that it was cut short there is no lie.
@pytest.mark.at("s3", "azure")
@pytest.mark.parametrize("kind", [Kind.TRUNCATE, Kind.DISCARD], ids=lambda kind: kind.value)
async def test_any_part_is_cut_or_dropped_and_the_reply_says_200(
    rig: Rig, backend: Backend, strict: StrictServer, kind: Kind, record: Record
) -> None:
    await _one_part_after_another(rig, backend, strict, kind, record)


async def _one_part_after_another(
    rig: Rig, backend: Backend, strict: StrictServer, kind: Kind, record: Record
) -> None:
    size = (PARTS - 1) * rig.place.part_size + 1000
    resent = 0
    for number in range(PARTS):
        content = content_of(size, str(number))
        key = f"cams/{number}.mp4"
        recording = await rig.queue(f"{number}.mp4", content)
        fault = Fault(
            kind, protocol=backend.type, operation=PART[backend.type], key=key, skip=number, at_byte=77
        )
        with strict.faults.expected(fault):
            async with rig.working():
                row = await settled(rig, recording)
        resent += row.uploads["tested"].bytes_sent - size
        found = await rig.place.vendor.get(key)
        assert found is not None
        assert found.content == content
        assert await rig.place.vendor.leftovers() == 0
    assert await rig.place.vendor.keys() == {f"cams/{number}.mp4" for number in range(PARTS)}
    record("parts", PARTS)
    record("sent again", resent)


@pytest.mark.at("s3", "azure", "gcs")
@pytest.mark.parametrize(
    "kind", [Kind.FLIP_IN_TRANSIT, Kind.TRUNCATE, Kind.DISCARD], ids=lambda kind: kind.value
)
async def test_a_lie_about_a_whole_object(
    rig: Rig, backend: Backend, strict: StrictServer, kind: Kind
) -> None:
    content = content_of(100_000)
    recording = await rig.queue("a.mp4", content)
    fault = Fault(kind, protocol=backend.type, operation=VISIBLE[backend.type][0], at_byte=5000)
    with strict.faults.expected(fault):
        async with rig.working():
            await settled(rig, recording)
    found = await rig.place.vendor.get("cams/a.mp4")
    assert found is not None
    assert found.content == content
    assert await rig.place.vendor.keys() == {"cams/a.mp4"}
    outcomes = [attempt["outcome"] for attempt in await rig.attempts(recording)]
    assert outcomes == ["verified", "retrying"], "it was noticed"


@pytest.mark.at("s3", "azure", "gcs")
@pytest.mark.parametrize("kind", [Kind.TRUNCATE, Kind.DISCARD], ids=lambda kind: kind.value)
async def test_a_lie_about_the_completion(
    rig: Rig, backend: Backend, strict: StrictServer, kind: Kind
) -> None:
    """200, and what became visible is half of it, or nothing did."""
    content = content_of(int(2.5 * rig.place.part_size))
    recording = await rig.queue("a.mp4", content)
    operation = VISIBLE[backend.type][1]
    skip = 2 if operation == "ResumableChunk" else 0
    with strict.faults.expected(Fault(kind, protocol=backend.type, operation=operation, skip=skip)):
        async with rig.working():
            await settled(rig, recording)
    found = await rig.place.vendor.get("cams/a.mp4")
    assert found is not None
    assert found.content == content
    assert await rig.place.vendor.keys() == {"cams/a.mp4"}
    assert await rig.place.vendor.leftovers() == 0


@pytest.mark.at("s3")
@pytest.mark.parametrize("times", [1, 3])
async def test_an_error_inside_a_200(rig: Rig, strict: StrictServer, times: int) -> None:
    """CompleteMultipartUpload answers 200 before it knows, and says in the body that it failed."""
    content = content_of(int(1.5 * rig.place.part_size))
    recording = await rig.queue("a.mp4", content)
    fault = Fault(Kind.ERROR_IN_200, operation="CompleteMultipartUpload", count=times)
    with strict.faults.expected(fault):
        async with rig.working():
            row = await settled(rig, recording)
    assert fault.fired == times
    found = await rig.place.vendor.get("cams/a.mp4")
    assert found is not None
    assert found.content == content
    assert row.uploads["tested"].bytes_sent == len(content), "the parts were not sent again for it"
    assert await rig.place.vendor.leftovers() == 0


@pytest.mark.at("directory")
async def test_a_bit_that_flips_on_the_disk_while_nobody_looks(rig: Rig) -> None:
    """What an earlier process wrote and read back is read back again before it is given its name."""
    content = content_of(4 * rig.place.part_size)
    recording = await rig.queue("a.mp4", content)
    await stopped_after(rig, "part_done")
    incoming = Path(rig.place.settings["path"]) / ".uploaderd" / "incoming"
    (temporary,) = incoming.iterdir()
    with temporary.open("r+b") as file:
        file.seek(1000)
        file.write(bytes([content[1000] ^ 1]))
    async with rig.working():
        await settled(rig, recording)
    found = await rig.place.vendor.get("cams/a.mp4")
    assert found is not None
    assert found.content == content
    assert [a["outcome"] for a in await rig.attempts(recording)] == ["verified", "retrying", "stopped"]


@pytest.mark.at("azure")
async def test_blocks_of_another_content_are_never_mixed_in(rig: Rig, strict: StrictServer) -> None:
    """An earlier content's blocks lie uncommitted under the same name: Azure cannot discard them."""
    before, after = (content_of(4 * rig.place.part_size, seed) for seed in ("before", "after"))
    await rig.queue("a.mp4", before)
    await stopped_after(rig, "part_done")
    container = strict.azure.container(rig.settings["container"])
    assert container.uncommitted["cams/a.mp4"]
    recording = await rig.queue("a.mp4", after)
    async with rig.working():
        await settled(rig, recording)
    found = await rig.place.vendor.get("cams/a.mp4")
    assert found is not None
    assert found.content == after
    assert not container.uncommitted.get("cams/a.mp4")
