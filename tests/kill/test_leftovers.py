"""What is half-done and will never be gone on with: aborted where that can be, named where it cannot."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.contract.place import Backend
from tests.end_to_end.box import Box
from tests.kill.test_lost_replies import settled, stopped_after_a_part
from tests.pool.conftest import Rig, content_of
from tests.strict import Fault, Kind, StrictServer
from uploaderd.ledger import connect_readonly


def told(rig: Rig) -> list[tuple[str, str]]:
    with closing(connect_readonly(rig.ledger.path)) as conn:
        return [*conn.execute("SELECT kind, detail FROM events WHERE kind LIKE 'leftover%'")]


async def test_the_history_says_what_became_of_them(rig: Rig, backend: Backend) -> None:
    await rig.queue("a.mp4", content_of(int(2.5 * rig.place.part_size), "first"))
    await stopped_after_a_part(rig)
    recording = await rig.queue("a.mp4", content_of(1000, "second"))
    async with rig.working():
        await settled(rig, recording)
    expected = {
        "azure": [("leftover-expires", '{"key":"cams/a.mp4","within_days":7}')],
    }.get(backend.type, [("leftover-aborted", '{"key":"cams/a.mp4"}')])
    assert told(rig) == expected
    assert await rig.place.vendor.leftovers() == 0


@pytest.mark.at("s3")
async def test_a_conflicting_write_at_completion_begins_anew(rig: Rig, strict: StrictServer) -> None:
    """S3's 409: "initiate a new multipart upload and re-upload each part"."""
    content = content_of(int(2.5 * rig.place.part_size))
    recording = await rig.queue("a.mp4", content)
    conflict = Fault(
        Kind.STATUS, operation="CompleteMultipartUpload", status=409, code="ConditionalRequestConflict"
    )
    with strict.faults.expected(conflict):
        async with rig.working():
            row = await settled(rig, recording)
    assert len(strict.log.entries("CreateMultipartUpload")) == 2
    found = await rig.place.vendor.get("cams/a.mp4")
    assert found is not None
    assert (found.content, found.token) == (content, row.uploads["tested"].token)
    assert await rig.place.vendor.leftovers() == 0
    assert await rig.place.vendor.keys() == {"cams/a.mp4"}


async def test_a_held_recording_whose_file_vanishes_stays_in_the_alarm(box: Box) -> None:
    """Nobody was asked yet: that it is gone does not make it forgotten."""
    folder = box.source(container_check="require")
    target = box.folder / "nas"
    target.mkdir()
    box.providers["nas"] = {"type": "directory", "path": str(target)}
    (folder / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isommp42\0\0\x10\0mdat" + bytes(100))
    with box.run():
        await box.until(lambda: box.recordings()["a.mp4"].state == "held" if box.recordings() else False)
        (folder / "a.mp4").unlink()
        (folder / "b.mp3").write_bytes(b"another")
        assert (await box.uploaderd("ensure", "--timeout", "30s")).code in (0, 1)
        assert box.recordings()["a.mp4"].state == "held"
        status = await box.status()
        assert (status["state"], status["recordings"]["held"]) == ("FAILING", 1)
