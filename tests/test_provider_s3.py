"""What is special about S3 as a provider: how bodies travel, what stores differ in, logins."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.contract import acts
from tests.strict import Fault, Kind, StrictServer
from uploaderd import checksum
from uploaderd.errors import CannotLook, Corrupted, FileChanged, SessionGone
from uploaderd.errors import Fault as ProviderFault
from uploaderd.model import FailureClass, ObjectInfo, Part
from uploaderd.provider import Provider
from uploaderd.providers.s3 import S3
from uploaderd.reader import WINDOW, OpenRecording

MIB = 2**20
PART = 5 * MIB
BUCKET = "recordings"
KEY = "cam1/a.mp4"

Open = Callable[..., Awaitable[S3]]
Record = Callable[[bytes], Awaitable[OpenRecording]]


@pytest.fixture
def server() -> Iterator[StrictServer]:
    with StrictServer() as running:
        running.s3.create_bucket(BUCKET)
        yield running
        assert running.crashes == []


def settings(server: StrictServer, **changes: Any) -> dict[str, Any]:
    return {
        "type": "s3",
        "bucket": BUCKET,
        "region": "us-east-1",
        "endpoint_url": server.url,
        "access_key_id": server.s3.account.access_key,
        "secret_access_key": server.s3.account.secret_key,
    } | changes


@pytest_asyncio.fixture
async def opened(server: StrictServer) -> AsyncIterator[Open]:
    """Opens a provider at the strict endpoint; a setting that is None is left out."""
    providers: list[Provider] = []

    async def opened(**changes: Any) -> S3:
        table = {name: value for name, value in settings(server, **changes).items() if value is not None}
        provider = await acts.opened(table, "s3_main")
        providers.append(provider)
        assert isinstance(provider, S3)
        return provider

    yield opened
    for provider in providers:
        await provider.aclose()


@pytest_asyncio.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    recordings: list[OpenRecording] = []

    async def record(content: bytes) -> OpenRecording:
        name = f"{len(recordings)}.mp4"
        (tmp_path / name).write_bytes(content)
        recordings.append(await OpenRecording.open(bytes(tmp_path), name.encode()))
        return recordings[-1]

    yield record
    for recording in recordings:
        await recording.close()


def noise(size: int) -> bytes:
    return hashlib.shake_128(b"noise").digest(size)


# How a body travels -------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_body_goes_unsigned_unchunked_and_without_waiting(record: Record, tls: bool) -> None:
    with StrictServer(tls=tls) as server:
        server.s3.create_bucket(BUCKET)
        table = settings(server) | ({"ca_file": str(server.ca_file)} if tls else {})
        provider = await acts.opened(table)
        recording = await record(noise(PART + 1))
        try:
            await acts.put_in_parts(provider, acts.spec_of(KEY, recording.size), recording, PART)
            await acts.put(provider, acts.spec_of("small", 3), await record(b"abc"))
        finally:
            await provider.aclose()
        sent = server.log.entries("UploadPart") + server.log.entries("PutObject")

    assert [entry.received for entry in sent] == [PART, 1, 3]
    for entry in sent:
        assert entry.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert int(entry.headers["content-length"]) == entry.received
        assert not {"expect", "content-encoding", "x-amz-trailer"} & set(entry.headers)


async def test_a_stalled_part_holds_little_and_leaves_the_pool_clean(
    server: StrictServer, opened: Open, record: Record
) -> None:
    """Nothing is read far ahead of the peer; a part that is cancelled hinders no other."""
    provider = await opened()
    recording = await record(noise(48 * MIB))
    session = await provider.open(acts.spec_of(KEY, recording.size), 48 * MIB)
    read = 0

    async def count(size: int) -> None:
        nonlocal read
        read += size

    stall = Fault(Kind.STALL_BODY, operation="UploadPart", after_bytes=MIB)
    with server.faults.expected(stall):
        part = asyncio.create_task(provider.put_part(session, 1, recording.body(0, 48 * MIB, pace=count)))
        await asyncio.to_thread(stall.wait_fired)
        before = -1
        while before != read:  # until the sockets' buffers are full; each round the loop turns
            before = read
            await provider.probe()
        assert read < 32 * MIB, "it goes on reading though nobody takes it"
        part.cancel()
        with pytest.raises(asyncio.CancelledError):
            await part
    sent = await provider.put_part(session, 1, recording.body(0, 48 * MIB))
    assert sent.checked == "crc64nvme"


async def test_a_file_cut_short_is_said_as_such(opened: Open, record: Record, tmp_path: Path) -> None:
    """What reading raised, not the broken connection that the library makes of it."""
    provider = await opened()
    recording = await record(noise(2 * PART))
    session = await provider.open(acts.spec_of(KEY, recording.size), 2 * PART)
    with (tmp_path / "0.mp4").open("r+b") as file:
        file.truncate(PART + 1)

    with pytest.raises(FileChanged):
        await provider.put_part(session, 1, recording.body(0, 2 * PART))


async def test_windows_are_views_of_what_was_read(opened: Open, record: Record) -> None:
    """aiohttp slices what it is given: a view costs nothing, bytes would be copied once more."""
    from uploaderd.providers.s3_body import Sending

    sending = Sending((await record(noise(WINDOW + 1))).body(0, WINDOW + 1))
    windows = [window async for window in sending]

    assert [type(window) for window in windows] == [memoryview, memoryview]
    assert sending.whole
    assert b"".join(windows) == noise(WINDOW + 1)


# What stores differ in ----------------------------------------------------------------------------


async def test_the_best_checksum_proves_the_whole(server: StrictServer, opened: Open, record: Record) -> None:
    content = noise(2 * PART + 7)
    provider = await opened()
    recording = await record(content)
    session = await provider.open(acts.spec_of(KEY, len(content)), PART)
    parts = await acts.put_rest(provider, session, recording)
    assert [part.checked for part in parts] == ["crc64nvme"] * 3
    held = await provider.parts(session)
    assert [part.crc64nvme for part in held] == [part.checksum.crc64nvme for part in parts]

    written = await acts.complete(provider, session, parts)

    truth = checksum.of(content)
    assert written.crc64nvme == truth.crc64nvme
    assert provider.limits.proves_whole
    (stored,) = server.s3.objects(BUCKET).values()
    assert stored.checksum_type == "FULL_OBJECT"
    claim = server.log.entries("CompleteMultipartUpload")[-1].headers
    assert claim["x-amz-checksum-crc64nvme"] == checksum.b64_crc64nvme(truth.crc64nvme)
    assert claim["x-amz-mp-object-size"] == str(len(content))


@pytest.mark.parametrize("operation", ["UploadPart", "PutObject"])
@pytest.mark.parametrize("algorithm", ["crc64nvme", "crc32c", "md5"])
async def test_damage_on_the_way_is_noticed(
    server: StrictServer, opened: Open, record: Record, operation: str, algorithm: str
) -> None:
    provider = await opened(checksum=algorithm)
    recording = await record(noise(70_000))
    spec = acts.spec_of(KEY, recording.size)
    session = await provider.open(spec, PART)

    async def write() -> ObjectInfo | Part:
        if operation == "PutObject":
            return await acts.put(provider, spec, recording)
        return await acts.put_part(provider, session, recording, 0)

    with server.faults.expected(Fault(Kind.FLIP_IN_TRANSIT, operation=operation, at_byte=69_999)):
        with pytest.raises(Corrupted):
            await write()

    assert server.s3.objects(BUCKET) == {}
    written = await write()
    assert not isinstance(written, Part) or written.checked == algorithm


async def test_a_store_without_checksums_is_written_to_with_md5(
    server: StrictServer, opened: Open, record: Record
) -> None:
    server.s3.quirks.add("no-checksums")
    provider = await opened()
    content = noise(PART + 1)
    recording = await record(content)
    hoped = provider.limits
    assert not hoped.wants_md5

    await acts.put(provider, acts.spec_of("small", 3), await record(b"abc"))
    session = await provider.open(acts.spec_of(KEY, len(content)), PART)
    parts = await acts.put_rest(provider, session, recording)
    await acts.complete(provider, session, parts)

    assert [part.checked for part in parts] == ["md5", "md5"]
    found_out = provider.limits
    assert (found_out.wants_md5, found_out.proves_whole) == (True, False)
    small, large = await provider.stat("small"), await provider.stat(KEY)
    assert small is not None
    assert small.md5 == hashlib.md5(b"abc").digest()
    assert large is not None
    assert large.md5 is None, "an ETag of many parts is not the content's MD5"
    # Found out once: the next write begins with what stood.
    refused = len([entry for entry in server.log.entries() if entry.status == 501])
    await acts.put(provider, acts.spec_of("next", 3), await record(b"abc"))
    assert len([entry for entry in server.log.entries() if entry.status == 501]) == refused


async def test_a_checksum_that_was_chosen_is_not_given_up(
    server: StrictServer, opened: Open, record: Record
) -> None:
    server.s3.quirks.add("no-checksums")
    provider = await opened(checksum="crc64nvme")

    with pytest.raises(ProviderFault) as caught:
        await acts.put(provider, acts.spec_of(KEY, 3), await record(b"abc"))

    assert caught.value.code == "NotImplemented"
    assert server.s3.objects(BUCKET) == {}


async def test_conditions_are_left_out_where_they_are_unknown(
    server: StrictServer, opened: Open, record: Record
) -> None:
    provider = await opened(checksum="crc64nvme")
    with server.faults.expected(Fault(Kind.STATUS, operation="PutObject", status=501, code="NotImplemented")):
        await acts.put(provider, acts.spec_of(KEY, 3), await record(b"abc"))

    first, second = server.log.entries("PutObject")
    assert first.headers["if-none-match"] == "*"
    assert "if-none-match" not in second.headers


async def test_a_store_that_wants_a_checksum_with_each_part_gets_it(
    server: StrictServer, opened: Open, record: Record
) -> None:
    """MinIO: "checksum missing, want CRC64NVME"."""
    provider = await opened()
    recording = await record(noise(1000))
    session = await provider.open(acts.spec_of(KEY, 1000), PART)
    refusal = Fault(Kind.STATUS, operation="UploadPart", status=400, code="InvalidArgument")
    with server.faults.expected(refusal), pytest.raises(ProviderFault) as caught:
        await acts.put_part(provider, session, recording, 0)
    assert (caught.value.failure, caught.value.recognised) == (FailureClass.TRANSIENT, True)

    part = await acts.put_part(provider, session, recording, 0)

    assert part.checked == "crc64nvme"
    assert "x-amz-checksum-crc64nvme" in server.log.entries("UploadPart")[-1].headers


async def test_parts_are_asked_for_page_by_page(server: StrictServer, opened: Open, record: Record) -> None:
    server.s3.max_page = 2
    provider = await opened()
    recording = await record(noise(1000))
    session = await provider.open(acts.spec_of(KEY, 50 * PART), PART)
    for number in (1, 2, 3, 5, 50):
        await provider.put_part(session, number, recording.body(0, 1000))

    held = await provider.parts(session)

    assert [(part.number, part.offset) for part in held] == [(n, (n - 1) * PART) for n in (1, 2, 3, 5, 50)]


@pytest.mark.parametrize("in_parts", [False, True], ids=["put", "in parts"])
async def test_what_the_configuration_gives_every_object(
    server: StrictServer, opened: Open, record: Record, in_parts: bool
) -> None:
    provider = await opened(
        storage_class="STANDARD_IA",
        sse="aws:kms",
        kms_key_id="alias/recordings",
        tags={"team": "video & sound"},
    )
    recording = await record(b"abc")
    write = acts.put_in_parts(provider, acts.spec_of(KEY, 3), recording, PART) if in_parts else None
    await (write or acts.put(provider, acts.spec_of(KEY, 3), recording))

    stored = server.s3.objects(BUCKET)[KEY]
    assert stored.headers["x-amz-storage-class"] == "STANDARD_IA"
    assert stored.headers["x-amz-server-side-encryption"] == "aws:kms"
    assert stored.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/recordings"
    assert stored.tags == "team=video%20%26%20sound"
    info = await provider.stat(KEY)
    assert info is not None
    assert info.md5 is None, "under KMS an ETag is no MD5"


@pytest.mark.parametrize("in_parts", [False, True], ids=["put", "in parts"])
@pytest.mark.parametrize(
    ("action", "settings"),
    [
        ("s3:PutObjectTagging", {"tags": {"team": "sound"}}),
        ("kms:GenerateDataKey", {"sse": "aws:kms", "kms_key_id": "alias/recordings"}),
        ("s3:PutObjectRetention", {"lock_mode": "governance", "retain_for": "1h"}),
        ("s3:PutObjectLegalHold", {"legal_hold": True}),
    ],
)
async def test_what_a_setting_needs_beyond_writing_is_named(
    server: StrictServer, opened: Open, record: Record, action: str, settings: dict[str, Any], in_parts: bool
) -> None:
    """S3 answers AccessDenied to each, as if the object itself could not be written."""
    server.s3.account.denied = {action}
    provider = await opened(**settings)
    recording, spec = await record(b"abc"), acts.spec_of(KEY, 3)

    with pytest.raises(ProviderFault) as refused:
        await (provider.open(spec, PART) if in_parts else acts.put(provider, spec, recording))

    assert refused.value.failure is FailureClass.PROVIDER
    assert f"do s3:PutObject, {action}" in refused.value.hint


# Sessions -----------------------------------------------------------------------------------------


async def test_a_forgotten_session_is_gone(server: StrictServer, opened: Open, record: Record) -> None:
    provider = await opened()
    recording = await record(noise(1000))
    session = await provider.open(acts.spec_of(KEY, 1000), PART)
    parts = await acts.put_rest(provider, session, recording)
    server.s3.forget_uploads(BUCKET)

    with pytest.raises(SessionGone):
        await provider.parts(session)
    with pytest.raises(SessionGone):
        await acts.put_part(provider, session, recording, 0)
    with pytest.raises(SessionGone):
        await acts.complete(provider, session, parts)
    assert await provider.abort(session)


async def test_a_conflicting_completion_means_a_new_session(
    server: StrictServer, opened: Open, record: Record
) -> None:
    provider = await opened()
    session = await provider.open(acts.spec_of(KEY, 3), PART)
    parts = await acts.put_rest(provider, session, await record(b"abc"))
    conflict = Fault(Kind.STATUS, operation="CompleteMultipartUpload", status=409)
    with server.faults.expected(conflict), pytest.raises(SessionGone) as caught:
        await acts.complete(provider, session, parts)
    assert caught.value.code == "ConditionalRequestConflict"


async def test_an_error_inside_a_200_is_an_error(server: StrictServer, opened: Open, record: Record) -> None:
    provider = await opened()
    session = await provider.open(acts.spec_of(KEY, 3), PART)
    parts = await acts.put_rest(provider, session, await record(b"abc"))
    with server.faults.expected(Fault(Kind.ERROR_IN_200, operation="CompleteMultipartUpload")):
        with pytest.raises(ProviderFault) as caught:
            await acts.complete(provider, session, parts)
    assert (caught.value.failure, caught.value.recognised) == (FailureClass.TRANSIENT, True)

    assert (await acts.complete(provider, session, parts)).size == 3


async def test_an_abort_that_may_not_look_believes_the_answer(
    server: StrictServer, opened: Open, record: Record
) -> None:
    provider = await opened()
    session = await provider.open(acts.spec_of(KEY, 3), PART)
    server.s3.account.denied = {"s3:ListMultipartUploadParts"}

    assert await provider.abort(session)

    assert server.s3.open_uploads(BUCKET) == []


async def test_write_only_credentials_write_and_cannot_look(
    server: StrictServer, opened: Open, record: Record
) -> None:
    server.s3.account.denied = {"s3:GetObject", "s3:ListBucket", "s3:ListMultipartUploadParts"}
    provider = await opened()
    await provider.probe()

    written = await acts.put(provider, acts.spec_of(KEY, 3), await record(b"abc"))

    assert written.crc64nvme == checksum.of(b"abc").crc64nvme
    for key in (KEY, "never-there"):
        with pytest.raises(CannotLook, match=rf"^looking at '{key}' in s3://{BUCKET} at http"):
            await provider.stat(key)
