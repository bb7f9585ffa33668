"""Small files go without a look before, where the provider guards its keys and those were free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.pool.conftest import Rig, content_of
from tests.strict import Fault, Kind, StrictServer
from tests.strict.wire import Logged
from uploaderd.model import UploadState
from uploaderd.providers import s3_guard
from uploaderd.vacancy import LARGEST, ROW
from uploaderd.worker import Pool

pytestmark = pytest.mark.at("s3")

FIRST = 8
ENOUGH = FIRST + ROW + 4
"""Recordings after which the next may go unlooked."""


@pytest.fixture(autouse=True)
def asked_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_guard, "FIRST", FIRST)


@contextmanager
def quirks(strict: StrictServer, *names: str) -> Iterator[None]:
    strict.s3.quirks |= set(names)
    try:
        yield
    finally:
        strict.s3.quirks -= set(names)


async def sent(rig: Rig, pool: Pool, names: Sequence[str], size: int = 1000) -> list[str]:
    """Queue them, wait until all are safe; their keys."""
    rows = [await rig.queue(name, content_of(size, name)) for name in names]
    pool.wake()
    keys = []
    for row in rows:
        (upload,) = (await rig.settled(row)).uploads.values()
        assert upload.state == UploadState.VERIFIED, upload.error_message
        keys.append(upload.key)
    return keys


def asked(strict: StrictServer, key: str) -> list[str]:
    """What was asked of it about the key, in order."""
    return [entry.operation for entry in sorted(strict.log.entries(), key=at) if entry.key == key]


def at(entry: Logged) -> float:
    return entry.at


def trials(strict: StrictServer) -> list[Logged]:
    return [
        entry
        for entry in strict.log.entries("PutObject")
        if entry.headers.get("content-md5") == s3_guard.ON_TRIAL["ContentMD5"]
    ]


async def warmed_up(rig: Rig, pool: Pool, size: int = 1000) -> None:
    await sent(rig, pool, [f"early-{number}.mp4" for number in range(ENOUGH)], size)


async def test_a_look_before_is_left_out_once_the_store_was_seen_to_guard_its_keys(
    rig: Rig, strict: StrictServer
) -> None:
    strict.log.clear()
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        (key,) = await sent(rig, pool, ["a.mp4"])
        (large,) = await sent(rig, pool, ["large.mp4"], LARGEST + 1)
    assert asked(strict, key) == ["PutObject", "HeadObject"], "one to write, one for the proof"
    assert asked(strict, large)[0] == "HeadObject", "a large one is looked at first, ever"
    (trial,) = trials(strict)
    assert (trial.status, trial.code) == (412, "PreconditionFailed")
    assert asked(strict, "cams/early-0.mp4")[:2] == ["HeadObject", "PutObject"]


async def test_an_unlooked_write_never_goes_over_an_object(rig: Rig, strict: StrictServer) -> None:
    await rig.place.vendor.put("cams/a.mp4", b"somebody else's")
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        strict.log.clear()
        (key,) = await sent(rig, pool, ["a.mp4"])
        (then,) = await sent(rig, pool, ["b.mp4"])
    assert asked(strict, "cams/a.mp4") == ["PutObject", "HeadObject"], "refused, then looked at"
    theirs = await rig.place.vendor.get("cams/a.mp4")
    ours = await rig.place.vendor.get(key)
    assert theirs is not None and theirs.content == b"somebody else's"
    assert ours is not None and ours.content == content_of(1000, "a.mp4")
    assert asked(strict, then)[0] == "HeadObject", "where one was taken, others may be"


async def test_a_lost_reply_is_followed_by_a_look(rig: Rig, strict: StrictServer) -> None:
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        strict.log.clear()
        with strict.faults.expected(Fault(Kind.LOSE_REPLY, operation="PutObject", key="cams/a.mp4")):
            (key,) = await sent(rig, pool, ["a.mp4"])
    assert key == "cams/a.mp4"
    assert asked(strict, key).count("PutObject") == 1
    assert asked(strict, key)[1] == "HeadObject"


async def test_a_store_that_ignores_the_condition_is_asked_first_for_good(
    rig: Rig, strict: StrictServer
) -> None:
    strict.log.clear()
    await rig.place.vendor.put("cams/a.mp4", b"somebody else's")
    with quirks(strict, "ignores-preconditions"):
        async with rig.working() as pool:
            await warmed_up(rig, pool)
            (key,) = await sent(rig, pool, ["a.mp4"])
    (trial,) = trials(strict)
    assert (trial.status, trial.code) == (400, "BadDigest"), "nothing was written by it"
    assert asked(strict, key)[0] == "HeadObject"
    theirs = await rig.place.vendor.get("cams/a.mp4")
    assert theirs is not None and theirs.content == b"somebody else's"


async def test_a_store_that_ignores_all_has_the_same_bytes_again(rig: Rig, strict: StrictServer) -> None:
    """And one version of it more, which is the one that is proven."""
    strict.log.clear()
    strict.s3.buckets[rig.settings["bucket"]].versioning = True
    with quirks(strict, "ignores-preconditions", "ignores-md5"):
        async with rig.working() as pool:
            await warmed_up(rig, pool)
            (key,) = await sent(rig, pool, ["a.mp4"])
    (trial,) = trials(strict)
    assert trial.status == 200
    found = await rig.place.vendor.get(trial.key)
    assert found is not None and found.content == content_of(1000, trial.key.removeprefix("cams/"))
    assert asked(strict, key)[0] == "HeadObject"


async def test_a_trial_without_an_answer_is_made_again_later(rig: Rig, strict: StrictServer) -> None:
    strict.log.clear()
    fault = Fault(Kind.STATUS, operation="PutObject", skip=FIRST, count=1, status=503)
    with strict.faults.expected(fault):
        async with rig.working() as pool:
            for number in range(FIRST):  # one by one: the next write is the trial
                await sent(rig, pool, [f"early-{number}.mp4"])
            assert [trial.status for trial in trials(strict)] == [503]
            await sent(rig, pool, [f"more-{number}.mp4" for number in range(FIRST)])
            (key,) = await sent(rig, pool, ["a.mp4"])
    assert [trial.status for trial in trials(strict)] == [503, 412]
    assert asked(strict, key) == ["PutObject", "HeadObject"]


async def test_large_files_are_never_sent_twice_for_it(rig: Rig, strict: StrictServer) -> None:
    strict.log.clear()
    async with rig.working() as pool:
        await warmed_up(rig, pool, s3_guard.LARGEST + 1)
    assert trials(strict) == []


async def test_who_loses_the_right_to_look_is_told(rig: Rig, strict: StrictServer) -> None:
    """The key is taken, nobody may see by whom: the provider pauses, nothing is overwritten."""
    await rig.place.vendor.put("cams/a.mp4", b"somebody else's")
    denied = {"s3:GetObject", "s3:ListBucket"}
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        strict.log.clear()
        strict.s3.account.denied |= denied
        try:
            recording = await rig.queue("a.mp4", b"ours")
            pool.wake()
            await rig.until(lambda _, row: next(iter(row.uploads.values())).error_code is not None, recording)
            (upload,) = (await rig.row(recording)).uploads.values()
            assert upload.error_code == "unproven"
            assert asked(strict, "cams/a.mp4") == ["PutObject", "HeadObject"]
        finally:
            strict.s3.account.denied -= denied
        await rig.settled(recording)
    theirs = await rig.place.vendor.get("cams/a.mp4")
    assert theirs is not None and theirs.content == b"somebody else's"
