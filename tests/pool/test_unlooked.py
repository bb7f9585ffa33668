"""Small files go without a look before, where the provider guards its keys and those were free."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.contract.place import Backend
from tests.pool.conftest import Rig, content_of
from tests.pool.test_lock import locked_bucket
from tests.strict import Fault, Kind, StrictServer
from tests.strict.wire import Logged
from uploaderd import guarding, vacancy
from uploaderd.ledger.read import RecordingRow
from uploaderd.model import OnConflict, OnNewVersion, UploadState
from uploaderd.provider import Provider
from uploaderd.providers.azure import Azure
from uploaderd.providers.gcs import Gcs
from uploaderd.worker import Pool

ROW = 4
LARGEST = 500_000
LARGEST_TRIAL = 400_000
ENOUGH = ROW + 4
"""Recordings after which the next may go unlooked."""

WRITE = {"s3": "PutObject", "azure": "PutBlob", "gcs": "InsertObject"}
LOOK = {"s3": "HeadObject", "azure": "GetBlobProperties", "gcs": "GetObject"}
NOBODYS = "A" * 22 + "=="
"""The MD5 that a trial is sent with."""


@pytest.fixture(autouse=True)
def tried_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vacancy, "ROW", ROW)
    monkeypatch.setattr(vacancy, "TRIAL", ROW)
    monkeypatch.setattr(vacancy, "LARGEST", LARGEST)
    monkeypatch.setattr(vacancy, "LARGEST_TRIAL", LARGEST_TRIAL)


@contextmanager
def quirks(strict: StrictServer, *names: str) -> Iterator[None]:
    strict.s3.quirks |= set(names)
    try:
        yield
    finally:
        strict.s3.quirks -= set(names)


@contextmanager
def denied(strict: StrictServer, *actions: str) -> Iterator[None]:
    strict.s3.account.denied |= set(actions)
    try:
        yield
    finally:
        strict.s3.account.denied -= set(actions)


def promises(provider: Provider) -> None:
    """As the services' own endpoints do, which no test can reach."""
    match provider:
        case Azure():
            provider._microsoft = True
        case Gcs():
            provider._limits = dataclasses.replace(provider._limits, guards_keys=True)
        case _:
            pass  # it is seen at this one
    assert "S3" in type(provider).__name__ or provider.limits.guards_keys


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


async def warmed_up(rig: Rig, pool: Pool, size: int = 1000) -> None:
    await sent(rig, pool, [f"early-{number}.mp4" for number in range(ENOUGH)], size)


def asked(strict: StrictServer, key: str) -> list[str]:
    """What was asked of it about the key, in order. GCS' InsertObject has the key in its body only."""
    return [
        entry.operation
        for entry in sorted(strict.log.entries(), key=began)
        if entry.key == key or entry.operation == "InsertObject"
    ]


def began(entry: Logged) -> float:
    return entry.at


def told(row: RecordingRow) -> bool:
    """Whether an attempt failed."""
    (upload,) = row.uploads.values()
    return upload.error_code is not None


def trials(strict: StrictServer) -> list[Logged]:
    return [one for one in strict.log.entries("PutObject") if one.headers.get("content-md5") == NOBODYS]


async def theirs_is_kept(rig: Rig, key: str = "cams/a.mp4") -> None:
    found = await rig.place.vendor.get(key)
    assert found is not None and found.content == b"somebody else's"


# --- unlooked ----------------------------------------------------------------------------------------


@pytest.mark.at("s3", "azure", "gcs")
async def test_a_look_before_is_left_out_where_keys_are_guarded(
    rig: Rig, backend: Backend, strict: StrictServer
) -> None:
    rig.tuned = promises
    write, look = WRITE[backend.type], LOOK[backend.type]
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        strict.log.clear()
        (key,) = await sent(rig, pool, ["a.mp4"])
        assert asked(strict, key) == [write, look], "one to write, one for the proof"
        strict.log.clear()
        (large,) = await sent(rig, pool, ["large.mp4"], LARGEST + 1)
        assert asked(strict, large)[0] == look, "a large one is looked at first, ever"


@pytest.mark.at("s3", "azure", "gcs")
@pytest.mark.parametrize("policy", [OnConflict.SUFFIX, OnConflict.OVERWRITE, OnConflict.FAIL])
async def test_what_is_at_the_key_is_treated_as_if_it_had_been_looked_at(
    rig: Rig, backend: Backend, strict: StrictServer, policy: OnConflict
) -> None:
    rig.tuned, rig.on_conflict = promises, policy
    await rig.place.vendor.put("cams/a.mp4", b"somebody else's")
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        strict.log.clear()
        recording = await rig.queue("a.mp4", b"ours")
        pool.wake()
        (upload,) = (await rig.settled(recording)).uploads.values()
        assert asked(strict, "cams/a.mp4")[:2] == [WRITE[backend.type], LOOK[backend.type]]
        strict.log.clear()
        await sent(rig, pool, ["b.mp4"])
        assert asked(strict, "cams/b.mp4")[0] == LOOK[backend.type], "where one was taken, others may be"
    found = await rig.place.vendor.get(upload.key)
    if policy is OnConflict.FAIL:
        assert (upload.state, upload.error_code) == (UploadState.FAILED, "key-taken")
    else:
        assert found is not None and found.content == b"ours"
    if policy is not OnConflict.OVERWRITE:
        await theirs_is_kept(rig)


@pytest.mark.at("s3", "azure", "gcs")
async def test_the_same_content_at_the_key_is_adopted(rig: Rig) -> None:
    rig.tuned = promises
    await rig.place.vendor.put("cams/a.mp4", content_of(1000, "a.mp4"))
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        assert await sent(rig, pool, ["a.mp4"]) == ["cams/a.mp4"]
    (upload,) = (await rig.row(ENOUGH + 1)).uploads.values()
    assert str(upload.proof_kind).startswith("adopted")


@pytest.mark.at("s3", "azure", "gcs")
@pytest.mark.parametrize("on_new_version", list(OnNewVersion))
async def test_a_newer_version_finds_the_old_one(rig: Rig, on_new_version: OnNewVersion) -> None:
    rig.tuned, rig.on_new_version = promises, on_new_version
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        await sent(rig, pool, ["a.mp4"])
        recording = await rig.queue("a.mp4", b"newer")
        pool.wake()
        (upload,) = (await rig.settled(recording)).uploads.values()
    found = await rig.place.vendor.get(upload.key)
    assert found is not None and found.content == b"newer"
    assert (upload.key == "cams/a.mp4") is (on_new_version is OnNewVersion.REPLACE)
    assert await rig.place.vendor.leftovers() == 0


@pytest.mark.at("azure", "gcs")
async def test_what_goes_in_parts_is_looked_at_first(
    rig: Rig, backend: Backend, strict: StrictServer
) -> None:
    """However small: parts that were sent in vain would stay."""
    rig.tuned = promises
    await rig.place.vendor.put("cams/a.mp4", b"somebody else's")
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        strict.log.clear()
        (key,) = await sent(rig, pool, ["a.mp4"], rig.place.part_size + 1)
    assert asked(strict, "cams/a.mp4") == [LOOK[backend.type]], "nothing was sent there"
    assert key != "cams/a.mp4"
    await theirs_is_kept(rig)
    assert await rig.place.vendor.leftovers() == 0


@pytest.mark.at("s3", "azure", "gcs")
async def test_a_lost_reply_is_followed_by_a_look(rig: Rig, backend: Backend, strict: StrictServer) -> None:
    rig.tuned = promises
    write, look = WRITE[backend.type], LOOK[backend.type]
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        strict.log.clear()
        with strict.faults.expected(Fault(Kind.LOSE_REPLY, operation=write)):
            (key,) = await sent(rig, pool, ["a.mp4"])
    assert key == "cams/a.mp4"
    done = asked(strict, key)
    assert done[:2] == [write, look] and done.count(write) == 1


@pytest.mark.at("s3")
async def test_after_an_unlooked_write_that_failed_the_next_are_looked_at(
    rig: Rig, strict: StrictServer
) -> None:
    """The refusal of a body that is on its way may be lost with its connection."""
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        with strict.faults.expected(Fault(Kind.LOSE_REQUEST, operation="PutObject")):
            await sent(rig, pool, ["a.mp4"])
        strict.log.clear()
        (key,) = await sent(rig, pool, ["b.mp4"])
    assert asked(strict, key)[0] == "HeadObject"


@pytest.mark.at("s3")
async def test_who_loses_the_right_to_look_is_told(rig: Rig, strict: StrictServer) -> None:
    """The key is taken, nobody may see by whom: the provider pauses, nothing is overwritten."""
    await rig.place.vendor.put("cams/a.mp4", b"somebody else's")
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        strict.log.clear()
        with denied(strict, "s3:GetObject", "s3:ListBucket"):
            recording = await rig.queue("a.mp4", b"ours")
            pool.wake()
            await rig.until(lambda _, row: told(row), recording)
            (upload,) = (await rig.row(recording)).uploads.values()
            assert upload.error_code == "unproven"
            assert asked(strict, "cams/a.mp4") == ["PutObject", "HeadObject"]
        await rig.settled(recording)
    await theirs_is_kept(rig)


@pytest.mark.at("s3")
async def test_a_conflict_that_is_settled_is_no_trouble_of_the_login(rig: Rig, strict: StrictServer) -> None:
    """Who may not list gets 403 for the free key that is looked at last: it was decided by then."""
    await rig.place.vendor.put("cams/a.mp4", b"somebody else's")
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        with denied(strict, "s3:ListBucket"):
            await sent(rig, pool, ["a.mp4"])
    assert [one["outcome"] for one in await rig.attempts(ENOUGH + 1)] == ["verified"]
    await theirs_is_kept(rig)


# --- the trial that shows it ---------------------------------------------------------------------------


@pytest.mark.at("s3")
async def test_a_store_is_seen_to_guard_its_keys_once(rig: Rig, strict: StrictServer) -> None:
    strict.log.clear()
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        await sent(rig, pool, [f"more-{number}.mp4" for number in range(4 * ROW)])
    (trial,) = trials(strict)
    assert (trial.status, trial.code) == (412, "PreconditionFailed")
    (upload,) = (await rig.row(int(trial.key.removeprefix("cams/early-")[:-4]) + 1)).uploads.values()
    assert upload.bytes_sent == 2000, "the trial's are among them"


@pytest.mark.at("s3")
async def test_after_an_outage_it_has_to_be_seen_again(rig: Rig, strict: StrictServer) -> None:
    """Another store may answer at the address by then."""
    providers: list[Provider] = []
    rig.tuned = providers.append
    async with rig.working() as pool:
        await warmed_up(rig, pool)
        (provider,) = providers
        guarded = [provider.limits.guards_keys]
        await provider.probe()  # as is done to a provider that was down
        guarded.append(provider.limits.guards_keys)
        assert guarded == [True, False]
        strict.log.clear()
        await sent(rig, pool, [f"more-{number}.mp4" for number in range(4 * ROW)])
        assert asked(strict, "cams/more-0.mp4")[0] == "HeadObject"
    assert [trial.status for trial in trials(strict)] == [412]


@pytest.mark.at("s3")
@pytest.mark.parametrize("more", [(), ("ignores-md5",)], ids=["checks MD5", "checks its own checksums"])
async def test_a_store_that_ignores_the_condition_is_asked_first_for_good(
    rig: Rig, strict: StrictServer, more: Sequence[str]
) -> None:
    strict.log.clear()
    await rig.place.vendor.put("cams/a.mp4", b"somebody else's")
    with quirks(strict, "ignores-preconditions", *more):
        async with rig.working() as pool:
            await warmed_up(rig, pool)
            (key,) = await sent(rig, pool, ["a.mp4"])
    (trial,) = trials(strict)
    assert (trial.status, trial.code) == (400, "BadDigest"), "nothing was written by it"
    assert asked(strict, key)[0] == "HeadObject"
    await theirs_is_kept(rig)


@pytest.mark.at("s3")
async def test_a_store_that_ignores_all_has_the_same_bytes_again(rig: Rig, strict: StrictServer) -> None:
    strict.log.clear()
    strict.s3.buckets[rig.settings["bucket"]].versioning = True
    with quirks(strict, "ignores-preconditions", "ignores-digests"):
        async with rig.working() as pool:
            await warmed_up(rig, pool)
            (key,) = await sent(rig, pool, ["a.mp4"])
    (trial,) = trials(strict)
    assert trial.status == 200
    found = await rig.place.vendor.get(trial.key)
    assert found is not None and found.content == content_of(1000, trial.key.removeprefix("cams/"))
    assert asked(strict, key)[0] == "HeadObject"


@pytest.mark.at("s3")
async def test_what_a_trial_damages_is_found_by_the_look_that_follows(rig: Rig, strict: StrictServer) -> None:
    """At a store that ignores all, on a line that flips a bit."""
    strict.log.clear()
    flip = Fault(Kind.FLIP_IN_TRANSIT, operation="PutObject", key="cams/last.mp4", skip=1)
    with quirks(strict, "ignores-preconditions", "ignores-digests"), strict.faults.expected(flip):
        async with rig.working() as pool:
            await sent(rig, pool, [f"early-{number}.mp4" for number in range(ROW - 1)])
            recording = await rig.queue("last.mp4", content_of(1000))
            pool.wake()
            row = await rig.until(lambda _, row: row.state == "safe" or told(row), recording)
            (upload,) = row.uploads.values()
            assert upload.error_code == "stored-different", "it was not taken for verified"
            await rig.settled(recording)
    found = await rig.place.vendor.get("cams/last.mp4")
    assert found is not None and found.content == content_of(1000)


@pytest.mark.at("s3")
async def test_of_a_file_that_changed_nothing_is_sent_again(rig: Rig, strict: StrictServer) -> None:
    strict.log.clear()
    hold = Fault(Kind.HOLD_REPLY, operation="PutObject", key="cams/last.mp4")
    async with rig.working() as pool:
        await sent(rig, pool, [f"early-{number}.mp4" for number in range(ROW - 1)])
        with strict.faults.expected(hold):
            recording = await rig.queue("last.mp4", content_of(300_000))
            pool.wake()
            await asyncio.to_thread(hold.wait_fired)
            (rig.folder / "last.mp4").write_bytes(content_of(300_000, "another"))
            hold.release()
            await rig.settled(recording)
    assert trials(strict) == []
    found = await rig.place.vendor.get("cams/last.mp4")
    assert found is not None and found.content == content_of(300_000)


@pytest.mark.at("s3")
@pytest.mark.parametrize(
    ("status", "code"),
    [(503, "SlowDown"), (409, "ConditionalRequestConflict"), (403, "ExpiredToken"), (529, "")],
)
async def test_a_trial_without_an_answer_is_made_again_later(
    rig: Rig, strict: StrictServer, status: int, code: str
) -> None:
    strict.log.clear()
    with strict.faults.expected(
        Fault(Kind.STATUS, operation="PutObject", skip=ROW, status=status, code=code)
    ):
        async with rig.working() as pool:
            for number in range(ROW):  # one by one: the next write is the trial
                await sent(rig, pool, [f"early-{number}.mp4"])
            assert [trial.status for trial in trials(strict)] == [status]
            await sent(rig, pool, [f"more-{number}.mp4" for number in range(ROW)])
            (key,) = await sent(rig, pool, ["a.mp4"])
    assert [trial.status for trial in trials(strict)] == [status, 412]
    assert asked(strict, key) == ["PutObject", "HeadObject"]


@pytest.mark.at("s3")
async def test_a_trial_that_hangs_costs_its_upload_nothing_but_a_moment(
    rig: Rig, strict: StrictServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarding, "SECONDS", 0.2)
    with strict.faults.expected(Fault(Kind.HOLD, operation="PutObject", skip=ROW)) as (hold,):
        async with rig.working() as pool:
            for number in range(ROW):
                await sent(rig, pool, [f"early-{number}.mp4"])
            hold.release()
            await sent(rig, pool, [f"more-{number}.mp4" for number in range(2 * ROW)])
    for recording in range(1, 3 * ROW + 1):
        assert [one["outcome"] for one in await rig.attempts(recording)] == ["verified"]
    assert [trial.status for trial in trials(strict)][-1] == 412, "there was another"


@pytest.mark.at("s3")
async def test_who_may_not_look_makes_no_trial(rig: Rig, strict: StrictServer) -> None:
    """Nothing would tell what became of the object."""
    strict.log.clear()
    with denied(strict, "s3:GetObject", "s3:ListBucket"):
        async with rig.working() as pool:
            await warmed_up(rig, pool)
            await sent(rig, pool, [f"more-{number}.mp4" for number in range(2 * ROW)])
    async with rig.working() as pool:
        await sent(rig, pool, [f"large-{number}.mp4" for number in range(ROW)], LARGEST_TRIAL + 1)
        with denied(strict, "s3:GetObject", "s3:ListBucket"):
            await sent(rig, pool, ["a.mp4"])
    assert trials(strict) == []


@pytest.mark.at("s3")
async def test_large_files_are_never_sent_twice_for_it(rig: Rig, strict: StrictServer) -> None:
    strict.log.clear()
    async with rig.working() as pool:
        await warmed_up(rig, pool, LARGEST_TRIAL + 1)
    assert trials(strict) == []


@pytest.mark.at("s3")
async def test_what_is_locked_is_never_written_over(rig: Rig, strict: StrictServer) -> None:
    """A version more would stay as long as the lock does."""
    strict.log.clear()
    async with rig.working(**locked_bucket(rig, strict)) as pool:
        await warmed_up(rig, pool)
    assert trials(strict) == []
    for recording in range(1, ENOUGH + 1):
        (upload,) = (await rig.row(recording)).uploads.values()
        assert upload.bytes_sent == 1000
