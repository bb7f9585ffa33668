"""What is special about GCS: the tail that waits, logins, faults and what they must not tell."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import traceback
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from yarl import URL

from tests.contract import acts
from tests.strict import Fault as Wrong
from tests.strict import Kind, StrictServer, gcs_uploads
from tests.strict.gcs_auth import GcsAuth, ServiceAccount
from tests.strict.wire import Clock, Reply
from uploaderd import checksum
from uploaderd.config import GcsProvider
from uploaderd.errors import CannotLook, Corrupted, Fault, FileChanged, KeyRefused, KeyTaken, SessionGone
from uploaderd.model import FailureClass, Session
from uploaderd.providers import gcs_login, gcs_wire
from uploaderd.providers.gcs import Gcs, connect
from uploaderd.providers.gcs_resumable import CHUNK
from uploaderd.reader import OpenRecording

BUCKET = "recordings"
KEY = "cam1/a b.mp4"


@pytest.fixture(scope="module")
def account() -> ServiceAccount:
    """Made once: a key takes a second."""
    return GcsAuth(Clock()).add_account()


@pytest.fixture
def server(account: ServiceAccount) -> Iterator[StrictServer]:
    with StrictServer() as server:
        server.gcs.create_bucket(BUCKET)
        server.gcs.auth.accounts[account.email] = replace(account, denied=set())
        yield server
        assert server.crashes == []


@pytest.fixture
def key_file(server: StrictServer, tmp_path: Path) -> Path:
    return server.gcs.write_credentials(tmp_path / "key.json")


@pytest.fixture
def settings(server: StrictServer, key_file: Path) -> dict[str, Any]:
    return {
        "type": "gcs",
        "bucket": BUCKET,
        "endpoint_url": server.gcs_url,
        "credentials_file": str(key_file),
    }


async def opened(settings: dict[str, Any]) -> Gcs:
    return await connect("gcs", GcsProvider.model_validate(settings))


@pytest_asyncio.fixture
async def provider(settings: dict[str, Any]) -> AsyncIterator[Gcs]:
    provider = await opened(settings)
    yield provider
    await provider.aclose()


@pytest_asyncio.fixture
async def recording(tmp_path: Path) -> AsyncIterator[OpenRecording]:
    """Four chunks and five bytes."""
    (tmp_path / "a.mp4").write_bytes(random.Random(4).randbytes(4 * CHUNK + 5))
    async with await OpenRecording.open(bytes(tmp_path), b"a.mp4") as recording:
        yield recording


async def small(folder: Path, content: bytes = b"abc") -> OpenRecording:
    (folder / "small.mp4").write_bytes(content)
    return await OpenRecording.open(bytes(folder), b"small.mp4")


def everything_told(fault: BaseException) -> str:
    return "".join(traceback.format_exception(fault)) + repr(vars(fault))


# The tail ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "sent"),
    [(1, 0), (CHUNK, 0), (CHUNK + 1, CHUNK), (2 * CHUNK, CHUNK), (3 * CHUNK - 1, 2 * CHUNK)],
)
async def test_the_end_of_an_object_is_sent_only_when_it_is_completed(
    provider: Gcs, server: StrictServer, tmp_path: Path, size: int, sent: int
) -> None:
    async with await small(tmp_path, bytes(size)) as recording:
        session = await provider.open(acts.spec_of(KEY, size), 8 * CHUNK)
        part = await provider.put_part(session, 1, recording.body(0, size))

        assert [open_one.held for open_one in server.gcs.open_sessions(BUCKET)] == [sent]
        assert part.checksum == checksum.of(bytes(size))
        assert sum(held.size for held in await provider.parts(session)) == sent
        assert server.gcs.objects(BUCKET) == {}


async def test_asking_does_not_complete_an_empty_object(provider: Gcs, server: StrictServer) -> None:
    session = await provider.open(acts.spec_of(KEY, 0), CHUNK)

    assert await provider.parts(session) == []
    assert server.gcs.objects(BUCKET) == {}
    await provider.complete(session, [], checksum.EMPTY)
    assert server.gcs.objects(BUCKET)[KEY].content.size == 0


async def test_a_new_process_is_told_to_send_the_tail_again(
    provider: Gcs, settings: dict[str, Any], server: StrictServer, recording: OpenRecording
) -> None:
    session = await provider.open(acts.spec_of(KEY, recording.size), 2 * CHUNK)
    parts = await acts.put_rest(provider, session, recording)
    other = await opened(settings)
    try:
        with pytest.raises(Fault) as caught:
            await acts.complete(other, session, parts)
        assert (caught.value.code, caught.value.failure) == ("TailNotSent", FailureClass.TRANSIENT)

        held = await other.parts(session)
        assert [part.size for part in held] == [4 * CHUNK]
        await acts.complete(other, session, await acts.put_rest(other, session, recording, held))
    finally:
        await other.aclose()
    assert server.gcs.objects(BUCKET)[KEY].content.size == recording.size


async def test_the_tails_in_memory_are_bounded(provider: Gcs, tmp_path: Path) -> None:
    sessions = []
    async with await small(tmp_path, bytes(CHUNK)) as recording:
        for number in range(100):
            session = await provider.open(acts.spec_of(f"{number}.mp4", CHUNK), CHUNK)
            sessions.append((session, await acts.put_rest(provider, session, recording)))
        assert len(provider._resumable._sessions) < 32

        forgotten, parts = sessions[0]
        with pytest.raises(Fault, match="sent again"):
            await acts.complete(provider, forgotten, parts)
        await acts.complete(provider, forgotten, await acts.put_rest(provider, forgotten, recording))


async def test_nothing_is_remembered_of_a_session_that_ended(provider: Gcs, recording: OpenRecording) -> None:
    for end in ("complete", "abort"):
        session = await provider.open(acts.spec_of(f"{end}.mp4", recording.size), 8 * CHUNK)
        parts = await acts.put_rest(provider, session, recording)
        assert provider._resumable._sessions
        if end == "complete":
            await acts.complete(provider, session, parts)
        else:
            await provider.abort(session)
        assert not provider._resumable._sessions


# Lost, cut and short ----------------------------------------------------------------------------


async def test_a_lost_reply_to_completing_is_asked_for_again(
    provider: Gcs, server: StrictServer, recording: OpenRecording
) -> None:
    session = await provider.open(acts.spec_of(KEY, recording.size), 2 * CHUNK)
    parts = await acts.put_rest(provider, session, recording)
    # aiohttp itself sends a PUT again when a kept connection drops: that reply is lost too.
    with server.faults.expected(Wrong(Kind.LOSE_REPLY, operation="ResumableChunk", count=2)) as (lost,):
        while lost.fired < 2:
            with pytest.raises(Fault) as caught:
                await acts.complete(provider, session, parts)
            assert caught.value.failure is FailureClass.TRANSIENT
    made = server.gcs.objects(BUCKET)[KEY].generation

    info = await acts.complete(provider, session, parts)

    assert info.generation == info.version_id == str(made)
    assert info.token == session.spec.token
    assert server.gcs.objects(BUCKET)[KEY].generation == made


async def test_a_session_that_completed_is_gone_for_whoever_asks(
    provider: Gcs, settings: dict[str, Any], recording: OpenRecording
) -> None:
    session = await provider.open(acts.spec_of(KEY, recording.size), 2 * CHUNK)
    await acts.complete(provider, session, await acts.put_rest(provider, session, recording))
    other = await opened(settings)
    try:
        with pytest.raises(SessionGone):
            await other.parts(session)
        with pytest.raises(SessionGone):
            await other.put_part(session, 1, recording.body(0, 2 * CHUNK))
    finally:
        await other.aclose()


@pytest.mark.parametrize("kept", [True, False], ids=["whole chunks are kept", "nothing is kept"])
async def test_a_part_that_broke_off_goes_on_where_the_service_is(
    provider: Gcs, server: StrictServer, recording: OpenRecording, kept: bool
) -> None:
    server.gcs.keep_after_cut = kept
    session = await provider.open(acts.spec_of(KEY, recording.size), 4 * CHUNK)
    cut = Wrong(Kind.RESET_BODY, operation="ResumableChunk", after_bytes=CHUNK + CHUNK // 2)
    with server.faults.expected(cut), pytest.raises(Fault) as caught:
        await acts.put_part(provider, session, recording, 0)
    assert caught.value.failure is FailureClass.TRANSIENT
    assert caught.value.recognised

    if kept:
        with pytest.raises(Fault, match=f"the session ends at byte {CHUNK}$"):
            await acts.put_part(provider, session, recording, 0)
    held = await provider.parts(session)
    assert sum(part.size for part in held) == (CHUNK if kept else 0)
    await acts.complete(provider, session, await acts.put_rest(provider, session, recording, held))

    content = server.gcs.objects(BUCKET)[KEY].content.bytes()
    assert checksum.of(content) == await recording.body(0, recording.size).digest()


async def test_a_part_of_which_less_was_kept_than_sent_is_a_fault(
    provider: Gcs, recording: OpenRecording, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await provider.open(acts.spec_of(KEY, recording.size), 2 * CHUNK)
    with monkeypatch.context() as lying:
        less = Reply(308, {"range": f"bytes=0-{CHUNK - 1}"})
        lying.setattr(gcs_uploads, "_incomplete", lambda session: less)
        with pytest.raises(Fault) as caught:
            await acts.put_part(provider, session, recording, 0)
    assert (caught.value.code, caught.value.failure) == ("ShortWrite", FailureClass.TRANSIENT)


async def test_a_file_that_changes_while_it_is_sent_says_so(
    provider: Gcs, tmp_path: Path, server: StrictServer
) -> None:
    path = tmp_path / "small.mp4"
    async with await small(tmp_path, bytes(4 * CHUNK)) as recording:
        session = await provider.open(acts.spec_of(KEY, recording.size), 4 * CHUNK)
        with path.open("r+b") as file:
            file.truncate(CHUNK + 7)
        with pytest.raises(FileChanged):
            await acts.put_part(provider, session, recording, 0)
        assert await provider.abort(session)
    assert server.gcs.objects(BUCKET) == {}


async def test_a_cancelled_part_leaves_nothing_in_the_pool(
    provider: Gcs, server: StrictServer, recording: OpenRecording
) -> None:
    session = await provider.open(acts.spec_of(KEY, recording.size), 4 * CHUNK)
    with server.faults.expected(Wrong(Kind.STALL_BODY, operation="ResumableChunk", after_bytes=9)) as (
        stall,
    ):
        sending = asyncio.create_task(acts.put_part(provider, session, recording, 0))
        await asyncio.to_thread(stall.wait_fired)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    wire = provider._wire._session
    assert wire is not None
    assert isinstance(wire.connector, aiohttp.TCPConnector)
    assert not wire.connector._acquired

    held = await provider.parts(session)
    await acts.complete(provider, session, await acts.put_rest(provider, session, recording, held))
    assert server.gcs.objects(BUCKET)[KEY].content.size == recording.size


async def test_only_the_reply_has_a_time_limit_not_the_body(
    settings: dict[str, Any], server: StrictServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_wire, "_TIMEOUT", aiohttp.ClientTimeout(total=None, sock_read=1.0))
    provider = await opened(settings)
    try:
        # More than the kernel's buffers hold: the body is two seconds under way.
        async with await small(tmp_path, bytes(32 * 2**20 + 1)) as recording:
            session = await provider.open(acts.spec_of(KEY, recording.size), 32 * 2**20)
            slow = Wrong(Kind.THROTTLE, operation="ResumableChunk", rate=16 * 2**20)
            with server.faults.expected(slow):
                await acts.put_part(provider, session, recording, 0)
        with server.faults.expected(Wrong(Kind.HOLD_REPLY, operation="GetObject")):
            with pytest.raises(Fault, match="no reply in time") as caught:
                await provider.stat(KEY)
    finally:
        await provider.aclose()
    assert caught.value.failure is FailureClass.TRANSIENT


# Faults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason", "failure", "hint"),
    [
        (400, "invalid", FailureClass.PROVIDER, "storage_class"),
        (401, "authError", FailureClass.PROVIDER, "login"),
        (403, "forbidden", FailureClass.PROVIDER, "roles/storage.objectUser"),
        (403, "accountDisabled", FailureClass.PROVIDER, "billing"),
        (403, "quotaExceeded", FailureClass.PROVIDER, "quota"),
        (403, "rateLimitExceeded", FailureClass.TRANSIENT, ""),
        (403, "userRateLimitExceeded", FailureClass.TRANSIENT, ""),
        (404, "notFound", FailureClass.PROVIDER, f"create the bucket '{BUCKET}'"),
        (408, "requestTimeout", FailureClass.TRANSIENT, ""),
        (412, "conditionNotMet", FailureClass.CONFLICT, ""),
        (429, "rateLimitExceeded", FailureClass.TRANSIENT, ""),
        (500, "internalError", FailureClass.TRANSIENT, ""),
        (503, "backendError", FailureClass.TRANSIENT, ""),
    ],
)
async def test_refusals_are_classified(
    provider: Gcs, server: StrictServer, status: int, reason: str, failure: FailureClass, hint: str
) -> None:
    wrong = Wrong(Kind.STATUS, operation="OpenResumable", status=status, code=reason, retry_after=17)
    with server.faults.expected(wrong), pytest.raises(Fault) as caught:
        await provider.open(acts.spec_of(KEY, 1), CHUNK)

    fault = caught.value
    assert fault.failure is failure
    assert hint in fault.hint
    assert bool(fault.hint) == bool(hint)
    assert fault.recognised
    if not isinstance(fault, KeyTaken):
        assert (fault.http_status, fault.code, fault.retry_after) == (status, reason, 17)


async def test_an_unknown_refusal_is_transient_and_marked(provider: Gcs, server: StrictServer) -> None:
    with server.faults.expected(Wrong(Kind.STATUS, operation="OpenResumable", status=418, code="teapot")):
        with pytest.raises(Fault) as caught:
            await provider.open(acts.spec_of(KEY, 1), CHUNK)
    assert (caught.value.failure, caught.value.recognised) == (FailureClass.TRANSIENT, False)


@pytest.mark.parametrize("status", [404, 410])
async def test_a_forgotten_session_is_gone(
    provider: Gcs, server: StrictServer, recording: OpenRecording, status: int
) -> None:
    session = await provider.open(acts.spec_of(KEY, recording.size), 2 * CHUNK)
    parts = await acts.put_rest(provider, session, recording)
    with server.faults.expected(
        Wrong(Kind.STATUS, operation="ResumableChunk", status=status, code="gone"),
        Wrong(Kind.STATUS, operation="QueryResumable", status=status, code="gone"),
    ):
        with pytest.raises(SessionGone):
            await acts.complete(provider, session, parts)
        with pytest.raises(SessionGone):
            await provider.parts(session)
    assert not provider._resumable._sessions


async def test_a_refused_put_tells_bad_content_from_bad_settings(
    provider: Gcs, server: StrictServer, tmp_path: Path
) -> None:
    async with await small(tmp_path) as recording:
        put = Wrong(Kind.STATUS, operation="InsertObject", status=400, code="invalid")
        with server.faults.expected(put), pytest.raises(Corrupted):
            await acts.put(provider, acts.spec_of(KEY, 3), recording)
        both = Wrong(Kind.STATUS, operation="*", status=400, code="invalid", count=2, protocol="gcs")
        with server.faults.expected(both), pytest.raises(Fault) as caught:
            await acts.put(provider, acts.spec_of(KEY, 3), recording)
    assert caught.value.failure is FailureClass.PROVIDER
    assert "storage_class" in caught.value.hint
    assert server.gcs.open_sessions(BUCKET) == []


async def test_a_store_that_lies_about_what_it_took_is_not_believed(
    provider: Gcs, server: StrictServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_uploads, "check_hashes", lambda claims, digests: None)
    async with await small(tmp_path, bytes(CHUNK + 1)) as recording:
        session = await provider.open(acts.spec_of(KEY, recording.size), CHUNK)
        parts = await acts.put_rest(provider, session, recording)
        with pytest.raises(Corrupted):
            await provider.complete(session, parts, checksum.of(bytes(CHUNK) + b"x"))


async def test_whoever_may_only_write_can_write(
    provider: Gcs, server: StrictServer, recording: OpenRecording
) -> None:
    server.gcs.auth.add_account().denied |= {
        "storage.objects.get",
        "storage.objects.list",
        "storage.buckets.get",
    }

    await provider.probe()
    info = await acts.put_in_parts(provider, acts.spec_of(KEY, recording.size), recording, 2 * CHUNK)
    with pytest.raises(CannotLook):
        await provider.stat(KEY)

    assert info.crc32c == (await recording.body(0, recording.size).digest()).crc32c


async def test_a_key_of_the_customers_needs_a_grant_of_its_own(
    settings: dict[str, Any], server: StrictServer, recording: OpenRecording
) -> None:
    """To Google's own account; its absence is a 403 that looks as if the login could not write."""
    server.gcs.auth.add_account().denied |= {"storage.objects.create"}
    for more, told in (
        ({}, False),
        ({"kms_key_name": "projects/p/locations/l/keyRings/r/cryptoKeys/k"}, True),
    ):
        provider = await opened(settings | more)
        with pytest.raises(Fault) as refused:
            await provider.open(acts.spec_of(KEY, recording.size), CHUNK)
        await provider.aclose()
        assert "roles/storage.objectUser" in refused.value.hint
        assert ("roles/cloudkms.cryptoKeyEncrypterDecrypter" in refused.value.hint) is told


async def test_a_limit_of_the_rate_is_not_taken_for_blindness(provider: Gcs, server: StrictServer) -> None:
    limited = Wrong(Kind.STATUS, operation="GetObject", status=403, code="rateLimitExceeded")
    with server.faults.expected(limited), pytest.raises(Fault) as caught:
        await provider.stat(KEY)
    assert not isinstance(caught.value, CannotLook)
    assert caught.value.failure is FailureClass.TRANSIENT


async def test_nobody_at_the_address_is_transient(provider: Gcs, server: StrictServer) -> None:
    await provider.probe()
    with server.switched_off():
        with pytest.raises(Fault) as caught:
            await provider.probe()
        assert caught.value.failure is FailureClass.TRANSIENT
        assert caught.value.recognised
    await provider.probe()


@pytest.mark.parametrize("key", [".", "..", "a\nb", "a\rb", ".well-known/acme-challenge/x"])
async def test_a_name_that_the_service_refuses_holds_the_recording_only(
    provider: Gcs, tmp_path: Path, key: str
) -> None:
    async with await small(tmp_path) as recording:
        for write in (
            provider.open(acts.spec_of(key, 3), CHUNK),
            acts.put(provider, acts.spec_of(key, 3), recording),
        ):
            with pytest.raises(KeyRefused):
                await write


async def test_a_read_that_is_cut_does_not_pass_for_the_whole(
    provider: Gcs, server: StrictServer, recording: OpenRecording
) -> None:
    await acts.put_in_parts(provider, acts.spec_of(KEY, recording.size), recording, 2 * CHUNK)
    with server.faults.expected(Wrong(Kind.CUT_REPLY, operation="GetMedia", after_bytes=CHUNK)):
        with pytest.raises(Fault) as caught:
            async for _ in provider.read(KEY):
                pass
    assert caught.value.failure is FailureClass.TRANSIENT


async def test_settings_go_with_every_write(
    settings: dict[str, Any], server: StrictServer, recording: OpenRecording, tmp_path: Path
) -> None:
    provider = await opened(
        settings
        | {"storage_class": "NEARLINE", "kms_key_name": "projects/p/locations/l/keyRings/r/cryptoKeys/k"}
    )
    try:
        await acts.put_in_parts(provider, acts.spec_of("parts", recording.size), recording, 2 * CHUNK)
        async with await small(tmp_path) as one:
            await acts.put(provider, acts.spec_of("put", 3), one)
    finally:
        await provider.aclose()
    for operation in ("OpenResumable", "InsertObject"):
        (entry,) = server.log.entries(operation)
        assert entry.query["kmsKeyName"] == "projects/p/locations/l/keyRings/r/cryptoKeys/k"
        assert entry.query["ifGenerationMatch"] == "0"
    for item in server.gcs.objects(BUCKET).values():
        assert item.fields["storageClass"] == "NEARLINE"


# Secrets ----------------------------------------------------------------------------------------


async def test_no_fault_tells_the_address_of_a_session(
    provider: Gcs, server: StrictServer, recording: OpenRecording
) -> None:
    session = await provider.open(acts.spec_of(KEY, recording.size), 2 * CHUNK)
    secret = session.handle.partition("upload_id=")[2]
    assert len(secret) > 20
    told = [repr(session), repr(provider)]

    async def collect(wrong: Wrong) -> None:
        with server.faults.expected(wrong), pytest.raises(Fault) as caught:
            await provider.put_part(session, 1, recording.body(0, 2 * CHUNK))
        fault = caught.value
        told.append(everything_told(fault))
        # A reply's id repeats the session's, and aiohttp's text can hold the address: neither is kept.
        assert fault.request_id is None
        assert fault.__cause__ is None
        assert fault.__context__ is None or fault.__suppress_context__

    await collect(Wrong(Kind.RESET_BODY, operation="ResumableChunk", after_bytes=CHUNK // 2))
    await collect(Wrong(Kind.LOSE_REQUEST, operation="QueryResumable", count=None))
    for status in (400, 401, 403, 418, 500):
        await collect(Wrong(Kind.STATUS, operation="QueryResumable", status=status))
    await collect(Wrong(Kind.FORGET_SESSION, operation="QueryResumable"))
    told.append(everything_told(SessionGone("as a check of the check")))

    assert len(told) == 11
    assert not [text for text in told if secret in text]


async def test_a_session_needs_no_login_and_is_given_none(
    provider: Gcs, server: StrictServer, recording: OpenRecording
) -> None:
    session = await provider.open(acts.spec_of(KEY, recording.size), 2 * CHUNK)
    server.gcs.auth.revoke_all()
    with server.faults.expected(Wrong(Kind.LATENCY, operation="ResumableChunk", count=None)):
        await acts.complete(provider, session, await acts.put_rest(provider, session, recording))
    assert len(server.log.entries("Token")) == 1


# Logins -----------------------------------------------------------------------------------------


async def test_one_login_serves_all(provider: Gcs, server: StrictServer) -> None:
    await asyncio.gather(*(provider.stat(f"{number}") for number in range(20)))

    assert len(server.log.entries("Token")) == 1
    assert provider.login == "credentials file: service account key"


async def test_a_cancelled_call_does_not_cancel_the_login_of_others(
    provider: Gcs, server: StrictServer
) -> None:
    with server.faults.expected(Wrong(Kind.HOLD, operation="Token")) as (held,):
        first = asyncio.create_task(provider.stat(KEY))
        await asyncio.to_thread(held.wait_fired)
        others = [asyncio.create_task(provider.stat(KEY)) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        assert await asyncio.gather(*others) == [None] * 3
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_revoked_token_is_refused_once_and_then_renewed(provider: Gcs, server: StrictServer) -> None:
    await provider.probe()
    server.gcs.auth.revoke_all()

    with pytest.raises(Fault) as caught:
        await provider.probe()
    assert (caught.value.failure, caught.value.http_status) == (FailureClass.PROVIDER, 401)
    await provider.probe()


async def test_a_token_is_renewed_before_it_ends(provider: Gcs, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(gcs_login, "time", SimpleNamespace(monotonic=lambda: now))
    first = await provider._login.headers()
    now += 3600 - gcs_login.EARLY - 1
    assert await provider._login.headers() == first
    now += 1
    assert await provider._login.headers() != first


async def test_a_wrong_clock_is_the_operators_to_set(provider: Gcs, server: StrictServer) -> None:
    server.clock.offset = 7200
    with pytest.raises(Fault) as caught:
        await provider.probe()
    assert (caught.value.failure, caught.value.code) == (FailureClass.PROVIDER, "invalid_grant")
    assert "clock" in caught.value.hint

    server.clock.offset = 0
    await provider.probe()


async def test_a_token_endpoint_in_trouble_is_waited_for_and_asked_once(
    provider: Gcs, server: StrictServer
) -> None:
    with server.faults.expected(Wrong(Kind.STATUS, operation="Token", status=503)):
        with pytest.raises(Fault) as caught:
            await provider.probe()
    assert caught.value.failure is FailureClass.TRANSIENT
    assert len(server.log.entries("Token")) == 1
    await provider.probe()


@pytest.mark.parametrize(
    "content",
    [
        None,
        "not JSON: not-a-real-key",
        "{}",
        '{"type": "not-one"}',
        '{"type": "service_account"}',
        "broken key",
    ],
    ids=["missing", "no JSON", "no type", "unknown type", "no key", "broken key"],
)
async def test_a_bad_credentials_file_pauses_the_provider_until_it_is_good(
    settings: dict[str, Any], server: StrictServer, key_file: Path, content: str | None
) -> None:
    good = key_file.read_text()
    if content is None:
        key_file.unlink()
    elif content == "broken key":
        key_file.write_text(json.dumps(json.loads(good) | {"private_key": "not-a-real-key"}))
    else:
        key_file.write_text(content)
    provider = await opened(settings)
    try:
        with pytest.raises(Fault) as caught:
            await provider.probe()
        assert caught.value.failure is FailureClass.PROVIDER
        assert caught.value.recognised
        assert caught.value.hint
        assert "not-a-real-key" not in everything_told(caught.value)

        key_file.write_text(good)
        await provider.probe()
    finally:
        await provider.aclose()


async def test_application_default_credentials_come_from_the_environment(
    settings: dict[str, Any], key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    provider = await opened({name: value for name, value in settings.items() if name != "credentials_file"})
    try:
        await provider.probe()
        assert provider.login == "application default credentials: service account key"
    finally:
        await provider.aclose()


@pytest.fixture
def nowhere(settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A table without a login, on a machine without one."""
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
    return {name: value for name, value in settings.items() if name != "credentials_file"}


async def test_no_login_anywhere_pauses_the_provider(
    nowhere: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcloud.aio.auth.token.GCE_ENDPOINT_TOKEN", "http://127.0.0.1:9/token")
    provider = await opened(nowhere)
    with pytest.raises(Fault) as caught:
        await provider.probe()
    await provider.aclose()
    assert caught.value.failure is FailureClass.PROVIDER
    assert "credentials_file" in caught.value.hint


async def test_the_metadata_server_logs_in_past_the_proxy_and_iam_signs(
    nowhere: dict[str, Any],
    server: StrictServer,
    account: ServiceAccount,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    async def token(request: web.Request) -> web.Response:
        asked.append(request.headers["metadata-flavor"])
        return web.json_response({"access_token": server.gcs.auth.issue(), "expires_in": 3600})

    async def email(request: web.Request) -> web.Response:
        asked.append(request.headers["metadata-flavor"])
        return web.Response(text=account.email)

    async def sign(request: web.Request) -> web.Response:
        server.gcs.auth.bearer(request.headers["authorization"])
        asked.append(request.match_info["account"])
        payload = base64.b64decode((await request.json())["payload"])
        signature = account.key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
        return web.json_response({"signedBlob": base64.b64encode(signature).decode()})

    app = web.Application()
    app.router.add_get("/token", token)
    app.router.add_get("/meta/instance/service-accounts/default/email", email)
    app.router.add_post("/projects/-/serviceAccounts/{account}:signBlob", sign)
    async with TestServer(app) as google:
        monkeypatch.setattr("gcloud.aio.auth.token.GCE_ENDPOINT_TOKEN", str(google.make_url("/token")))
        monkeypatch.setattr(gcs_login, "GCE_METADATA_BASE", str(google.make_url("/meta")))
        monkeypatch.setattr(gcs_login, "API_ROOT_IAM_CREDENTIALS", str(google.make_url("")).rstrip("/"))
        provider = await opened(nowhere)
        try:
            async with await small(tmp_path) as recording:
                await acts.put(provider, acts.spec_of(KEY, 3), recording)
            assert provider.login == "application default credentials: metadata server"
            url, good_for = await provider.sign(KEY, 30 * 24 * 3600)
        finally:
            await provider.aclose()
        behind = await opened(nowhere | {"proxy": "http://127.0.0.1:9"})
        assert await behind._login.headers()
        await behind.aclose()

    assert good_for == 12 * 3600
    assert asked == ["Google", "Google", account.email, "Google"]
    async with aiohttp.ClientSession() as browser, browser.get(URL(url, encoded=True)) as reply:
        assert (reply.status, await reply.read()) == (200, b"abc")


@pytest.mark.parametrize("trusted", [True, False])
async def test_https_is_verified_and_logged_into_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    """gcloud-aio-storage's own client would turn both off."""
    with StrictServer(tls=True) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.gcs_url)
        server.gcs.create_bucket(BUCKET)
        server.gcs.auth.add_account()
        table = {
            "type": "gcs",
            "bucket": BUCKET,
            "endpoint_url": server.gcs_url,
            "credentials_file": str(server.gcs.write_credentials(tmp_path / "key.json")),
        }
        provider = await opened(table | ({"ca_file": str(server.ca_file)} if trusted else {}))
        try:
            if trusted:
                await provider.probe()
            else:
                with pytest.raises(Fault) as caught:
                    await provider.probe()
                assert caught.value.failure is FailureClass.PROVIDER
                assert caught.value.code == "CERTIFICATE_VERIFY_FAILED"
                assert "ca_file" in caught.value.hint
                # The same for the API itself, not only for the token's address.
                anonymous = await opened(
                    {name: value for name, value in table.items() if name != "credentials_file"}
                    | {"anonymous": True}
                )
                with pytest.raises(Fault, match="certificate"):
                    await anonymous.stat(KEY)
                await anonymous.aclose()
        finally:
            await provider.aclose()
        assert bool(server.log.entries("OpenResumable")) is trusted


async def test_a_missing_ca_file_is_a_fault_that_heals(settings: dict[str, Any], tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    provider = await opened(settings | {"ca_file": str(ca_file)})
    try:
        with pytest.raises(Fault) as caught:
            await provider.probe()
        assert caught.value.failure is FailureClass.PROVIDER
        assert str(ca_file) in caught.value.message
        with StrictServer(tls=True) as other:
            assert other.ca_file is not None
            ca_file.write_bytes(other.ca_file.read_bytes())
        await provider.probe()
    finally:
        await provider.aclose()


# URLs -------------------------------------------------------------------------------------------


async def test_a_url_is_good_for_no_longer_than_a_week(provider: Gcs) -> None:
    url, good_for = await provider.sign(KEY, 30 * 24 * 3600)

    assert good_for == 7 * 24 * 3600
    assert "X-Goog-Expires=604800&" in url


async def test_who_cannot_sign_says_so(settings: dict[str, Any]) -> None:
    table = {name: value for name, value in settings.items() if name != "credentials_file"}
    provider = await opened(table | {"anonymous": True})
    with pytest.raises(Fault) as caught:
        await provider.sign(KEY, 60)
    await provider.aclose()
    assert caught.value.failure is FailureClass.PROVIDER
    assert "public_url" in caught.value.hint
    assert provider.login == "anonymous"


async def test_deleting_twice_is_fine(provider: Gcs, tmp_path: Path, server: StrictServer) -> None:
    async with await small(tmp_path) as recording:
        await acts.put(provider, acts.spec_of(KEY, 3), recording)
    await provider.delete(KEY)
    await provider.delete(KEY)
    assert server.gcs.objects(BUCKET) == {}


def test_a_session_is_never_printed() -> None:
    session = Session(acts.spec_of(KEY, 1), CHUNK, "https://storage.test/?upload_id=not-a-real-session")

    assert "not-a-real-session" not in f"{session} {session!r}"
