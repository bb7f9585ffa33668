"""A link on which no part of the usual size gets through in its time: S3 refuses it after 15 minutes."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest

from tests.pool.conftest import Rig, content_of
from tests.strict import Fault, Kind, StrictServer
from uploaderd import attempts, plan, send
from uploaderd.model import Claim
from uploaderd.wishes import Wishes

MIB = 1024 * 1024


@pytest.mark.at("azure")
async def test_parts_become_as_small_as_the_link_is_slow(
    rig: Rig, strict: StrictServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds stand for what are minutes: two parts at a time, 8 MiB a second for both, a second for each."""
    monkeypatch.setattr(attempts, "Conditions", functools.partial(send.Conditions, part_seconds=1.0))
    monkeypatch.setattr(plan, "LONGEST_SECONDS", 0.25)
    wishes = rig._wishes

    def by_the_link(claim: Claim, rate: float | None) -> Wishes:
        return replace(wishes(claim, rate), part_size=None, rate=rate)

    monkeypatch.setattr(rig, "_wishes", by_the_link)
    content = content_of(24 * MIB)
    strict.log.clear()
    slow = Fault(Kind.THROTTLE, operation="PutBlock", rate=8 * MIB, count=None)
    with strict.faults.expected(slow):
        async with rig.working():
            recording = await rig.queue("long.ts", content)
            row = await rig.settled(recording)
    upload = row.uploads["tested"]
    outcomes = [(one["outcome"], one["code"]) for one in reversed(await rig.attempts(recording))]
    assert outcomes[0] == ("retrying", "deadline"), "the link was fast enough: this shows nothing"
    assert (row.state, outcomes[-1][0]) == ("safe", "verified")
    assert len(outcomes) <= 3
    assert upload.bytes_sent <= 3 * len(content)
    found = await rig.place.vendor.get(upload.key)
    assert found is not None and found.content == content
    taken = [entry.received for entry in strict.log.entries("PutBlock") if entry.status == 201]
    assert max(taken) <= 4 * MIB


@pytest.mark.at("s3")
@pytest.mark.parametrize(("parts", "lanes"), [(0.5, 1), (1.5, 2), (3.5, 2)])
async def test_a_speed_is_shared_among_the_requests_that_there_were(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, parts: float, lanes: int
) -> None:
    """Two parts are allowed at a time; a file of one request has the whole speed to itself."""
    made: list[send.Progress] = []

    def progress(size: int) -> send.Progress:
        made.append(send.Progress(size))
        return made[-1]

    monkeypatch.setattr(attempts, "Progress", progress)
    recording = await rig.queue("a.ts", content_of(int(parts * rig.place.part_size)))
    async with rig.working():
        await rig.settled(recording)
    assert [one.lanes for one in made] == [lanes]
