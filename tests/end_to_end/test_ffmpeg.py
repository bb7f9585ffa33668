"""Two cameras, recorded by a real ffmpeg at natural speed, go to all four providers meanwhile."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.places import assert_whole
from tests.recorder import Recorder

SEGMENTS = 4
"""Of each camera, before the recording is stopped; the one being written then makes one more."""


async def test_each_closed_segment_reaches_all_four_and_none_while_it_is_written(
    box: Box, emulated: Mapping[str, Place]
) -> None:
    hall, yard = box.source("hall"), box.source("yard")
    box.send_to(emulated)
    looked_at: set[Path] = set()
    with box.run() as daemon:
        with Recorder(hall, container="ts") as one, Recorder(yard, container="mp4", pitch=660) as two:
            looks = 0
            while min(len(one.closed()), len(two.closed())) < SEGMENTS:
                looked_at |= await _nothing_of_what_is_written(box, emulated, [one, two])
                looks += 1
                await asyncio.sleep(0.1)  # between two looks
            stopping_at = time.time() * 1000
        recorded = [*one.closed(), *two.closed()]
        rows = await box.until_safe(len(recorded))

    assert len(looked_at) >= 2 * SEGMENTS
    assert looks >= len(looked_at)
    paths = {str(path.relative_to(hall if path.is_relative_to(hall) else yard)) for path in recorded}
    assert rows.keys() == paths
    for path in recorded:
        source, folder = ("hall", hall) if path.is_relative_to(hall) else ("yard", yard)
        row, content = rows[str(path.relative_to(folder))], path.read_bytes()
        assert (row.source, row.size, row.state) == (source, len(content), "safe")
        assert row.uploads.keys() == emulated.keys()
        for provider, upload in row.uploads.items():
            # Once, whole: nothing was sent before the segment was closed.
            assert (upload.state, upload.attempts, upload.bytes_sent) == ("verified", 1, len(content))
            assert upload.key.startswith(f"{source}/") and upload.key.endswith(f"/{path.name}")
            await assert_whole(emulated[provider], upload.key, content)
    for provider, place in emulated.items():
        assert await place.vendor.keys() == {row.uploads[provider].key for row in rows.values()}
    # A recording's first line names the providers that it goes to, its last that all have it.
    for event in ("recording queued", "recording safe"):
        lines = daemon.said(event)
        assert len(lines) == len(recorded)
        assert all(set(line["providers"]) == emulated.keys() for line in lines)
    for line in daemon.said("upload verified"):
        assert {"recording", "provider", "attempt"} <= line.keys()
    early = [row for row in rows.values() if row.safe_at is not None and row.safe_at < stopping_at]
    assert len(early) >= SEGMENTS, "nothing became safe while the cameras still recorded"


async def _nothing_of_what_is_written(
    box: Box, places: Mapping[str, Place], recorders: Sequence[Recorder]
) -> set[Path]:
    """One look, everywhere; the segments that were being written."""
    known = {os.path.basename(path) for path in box.recordings()}
    visible = set()
    for place in places.values():
        visible |= {os.path.basename(key) for key in await place.vendor.keys()}
    # Looked at last: what is being written now was so at each look before.
    writing = {path for recorder in recorders for path in recorder.writing()}
    assert not known & {path.name for path in writing}, "a segment was queued that is still written"
    assert not visible & {path.name for path in writing}, "a segment was sent that is still written"
    return writing
