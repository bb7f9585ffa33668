"""A provider that says "slow down" is sent less at once, and more again as that goes well."""

from __future__ import annotations

import pytest

from tests.contract.place import Backend
from tests.pool.conftest import Rig, content_of
from tests.strict import Fault, Kind, StrictServer

PARTS = {"s3": "UploadPart", "azure": "PutBlock"}


@pytest.mark.at("s3", "azure")
async def test_fewer_at_once_after_slow_down_and_more_again(
    rig: Rig, backend: Backend, strict: StrictServer
) -> None:
    operation, key = PARTS[backend.type], "cams/*"  # a trial write is of the same kind, at another key
    strict.log.clear()
    recording = await rig.queue("long.ts", content_of(8 * rig.place.part_size))
    with (
        strict.faults.expected(Fault(Kind.LATENCY, operation=operation, key=key, seconds=0.1, count=None)),
        strict.faults.expected(Fault(Kind.STATUS, operation=operation, key=key, status=503, count=2)),
    ):
        async with rig.working():
            row = await rig.settled(recording)
    assert row.state == "safe"
    parts = [entry for entry in strict.log.entries(operation) if entry.key.startswith("cams/")]
    beside = [entry.beside for entry in sorted(parts, key=lambda entry: entry.at)]
    assert beside[:2] == [0, 1], "two were refused together"
    assert beside[2:4] == [0, 0], "then one at a time"
    assert 1 in beside[4:], "and two again"
