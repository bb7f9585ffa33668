"""What is special about Azure Blob; what all providers have in common is in tests/contract."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from azure.storage.blob.aio import BlobServiceClient
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tests.contract import acts
from tests.strict import Fault, Kind, StrictServer
from uploaderd import errors
from uploaderd.config import AzureProvider, ConfigError
from uploaderd.model import FailureClass, Session, Token
from uploaderd.provider import Signs
from uploaderd.providers import azure_wire as wire
from uploaderd.providers.azure import Azure, SigningAzure, connect
from uploaderd.providers.azure_login import Login, log_in
from uploaderd.reader import HELD, OpenRecording

CONTAINER = "recordings"
KEY = "cam1/a b+ü.mp4"
PART = 300_000
WRONG_KEY = base64.b64encode(b"not the right key").decode()

Send = Callable[[Azure, bytes], Any]


@pytest.fixture
def server() -> Iterator[StrictServer]:
    with StrictServer() as running:
        running.azure.create_container(CONTAINER)
        yield running
        assert running.crashes == []


@pytest.fixture
async def azure(server: StrictServer) -> AsyncIterator[Azure]:
    async with opened(server) as provider:
        yield provider


@asynccontextmanager
async def opened(server: StrictServer | None = None, **settings: Any) -> AsyncIterator[Azure]:
    if server is not None:
        account = server.azure.account
        login = {"account_key": account.key} if not {"sas_token", "account_key"} & set(settings) else {}
        settings = {"endpoint_url": server.azure_url, "account": account.name, **login, **settings}
    provider = await connect("dr", AzureProvider(type="azure", **{"container": CONTAINER, **settings}))
    try:
        yield provider
    finally:
        await provider.aclose()


@pytest.fixture
async def recording(tmp_path: Path) -> AsyncIterator[OpenRecording]:
    (tmp_path / "a.mp4").write_bytes(secrets.token_bytes(2 * PART + 17))
    async with await OpenRecording.open(bytes(tmp_path), b"a.mp4") as opened:
        yield opened


async def staged(provider: Azure, recording: OpenRecording) -> tuple[Session, list[Any]]:
    session = await provider.open(acts.spec_of(KEY, recording.size), PART)
    return session, await acts.put_rest(provider, session, recording)


async def fault_of(work: Any) -> errors.Fault:
    with pytest.raises(errors.Fault) as caught:
        await work
    return caught.value


# Classification ----------------------------------------------------------------------------------

TABLE = [
    (403, "AuthenticationFailed", errors.Fault, FailureClass.PROVIDER, "not accepted"),
    (403, "AuthorizationFailure", errors.Fault, FailureClass.PROVIDER, "firewall"),
    (403, "AuthorizationPermissionMismatch", errors.Fault, FailureClass.PROVIDER, "Data Contributor"),
    (403, "InsufficientAccountPermissions", errors.Fault, FailureClass.PROVIDER, "permissions"),
    (403, "AccountIsDisabled", errors.Fault, FailureClass.PROVIDER, "[providers.dr]"),
    (401, "InvalidAuthenticationInfo", errors.Fault, FailureClass.PROVIDER, "[providers.dr]"),
    (404, "ContainerNotFound", errors.Fault, FailureClass.PROVIDER, "create the container"),
    (404, "ResourceNotFound", errors.Fault, FailureClass.PROVIDER, "create the container"),
    (400, "InvalidBlobTier", errors.Fault, FailureClass.PROVIDER, "tier"),
    (503, "ServerBusy", errors.Fault, FailureClass.TRANSIENT, ""),
    (500, "OperationTimedOut", errors.Fault, FailureClass.TRANSIENT, ""),
    (500, "InternalError", errors.Fault, FailureClass.TRANSIENT, ""),
    (429, "TooManyRequests", errors.Fault, FailureClass.TRANSIENT, ""),
    (400, "InvalidBlobOrBlock", errors.Fault, FailureClass.TRANSIENT, "expire within a week"),
    (400, "Md5Mismatch", errors.Corrupted, FailureClass.TRANSIENT, ""),
    (400, "Crc64Mismatch", errors.Corrupted, FailureClass.TRANSIENT, ""),
    (400, "InvalidBlockList", errors.SessionGone, FailureClass.TRANSIENT, ""),
    (400, "InvalidUri", errors.KeyRefused, FailureClass.RECORDING, "`key`"),
    (400, "MetadataTooLarge", errors.FileFault, FailureClass.RECORDING, "`metadata`"),
    (409, "BlobAlreadyExists", errors.KeyTaken, FailureClass.CONFLICT, ""),
    (409, "BlobImmutableDueToPolicy", errors.KeyTaken, FailureClass.CONFLICT, ""),
    (412, "ConditionNotMet", errors.KeyTaken, FailureClass.CONFLICT, ""),
    (403, "UnauthorizedBlobOverwrite", errors.KeyTaken, FailureClass.CONFLICT, ""),
]


@pytest.mark.parametrize(("status", "code", "kind", "failure", "hint"), TABLE, ids=[row[1] for row in TABLE])
async def test_codes_are_classified(
    server: StrictServer,
    azure: Azure,
    recording: OpenRecording,
    status: int,
    code: str,
    kind: type[errors.Fault],
    failure: FailureClass,
    hint: str,
) -> None:
    with server.faults.expected(Fault(Kind.STATUS, operation="PutBlob", status=status, code=code)):
        fault = await fault_of(acts.put(azure, acts.spec_of(KEY, recording.size), recording))

    assert type(fault) is kind
    assert (fault.failure, fault.code, fault.http_status, fault.recognised) == (failure, code, status, True)
    assert hint in fault.hint
    assert fault.request_id
    assert code in fault.message


async def test_an_unknown_code_is_transient_and_says_so(server: StrictServer, azure: Azure) -> None:
    with server.faults.expected(Fault(Kind.STATUS, operation="PutBlock", status=418, code="Teapot")):
        fault = await fault_of(azure.probe())

    assert (fault.failure, fault.code, fault.recognised) == (FailureClass.TRANSIENT, "Teapot", False)


async def test_each_call_is_tried_once_and_retry_after_is_handed_on(
    server: StrictServer, azure: Azure, recording: OpenRecording
) -> None:
    with server.faults.expected(
        Fault(Kind.STATUS, operation="PutBlob", status=503, retry_after=7, count=None)
    ):
        fault = await fault_of(acts.put(azure, acts.spec_of(KEY, recording.size), recording))

    assert fault.retry_after == 7.0
    assert len(server.log.entries("PutBlob")) == 1


async def test_a_wrong_clock_is_named() -> None:
    at = datetime.now(UTC) + timedelta(hours=3)

    async def refuse(request: web.Request) -> web.Response:
        headers = {"Date": format_datetime(at, usegmt=True), "x-ms-error-code": "AuthenticationFailed"}
        return web.Response(status=403, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    async with (
        TestServer(app) as endpoint,
        opened(endpoint_url=str(endpoint.make_url("/acc")), account="acc", account_key=WRONG_KEY) as provider,
    ):
        fault = await fault_of(provider.probe())

    assert fault.failure is FailureClass.PROVIDER
    assert "clock" in fault.hint


async def test_a_key_that_is_none_is_the_logins_fault(server: StrictServer) -> None:
    async with opened(server, account_key="not-base64-at-all!") as provider:
        fault = await fault_of(provider.probe())

    assert fault.failure is FailureClass.PROVIDER
    assert "account key" in fault.hint
    assert "not-base64" not in f"{fault} {fault.hint}"


async def test_nobody_there_and_a_lost_connection_are_transient(
    server: StrictServer, azure: Azure, recording: OpenRecording
) -> None:
    session = await azure.open(acts.spec_of(KEY, recording.size), PART)
    with server.faults.expected(Fault(Kind.RESET_BODY, operation="PutBlock", after_bytes=100_000)):
        reset = await fault_of(acts.put_part(azure, session, recording, 0))
    with server.switched_off():
        refused = await fault_of(azure.probe())

    assert (reset.failure, reset.recognised) == (FailureClass.TRANSIENT, True)
    assert (refused.failure, refused.code, refused.recognised) == (
        FailureClass.TRANSIENT,
        "ECONNREFUSED",
        True,
    )


async def test_a_certificate_that_is_not_trusted_pauses_until_it_is() -> None:
    with StrictServer(tls=True) as server:
        server.azure.create_container(CONTAINER)
        async with opened(server) as provider:
            fault = await fault_of(provider.probe())
        async with opened(server, ca_file=server.ca_file) as provider:
            await provider.probe()

    assert (fault.failure, fault.code) == (FailureClass.PROVIDER, "TLS")
    assert "(self-signed certificate)" in str(fault)
    assert "ca_file" in fault.hint


# Checksums ---------------------------------------------------------------------------------------


async def test_blocks_are_compared_by_crc64_once_sent(
    server: StrictServer, azure: Azure, recording: OpenRecording
) -> None:
    wanted_at_first = azure.limits.wants_md5
    session, parts = await staged(azure, recording)
    await acts.complete(azure, session, parts)

    assert {part.checked for part in parts} == {"crc64nvme"}
    assert (wanted_at_first, azure.limits.wants_md5) == (True, False), "known with the first reply"
    sent = server.log.entries("PutBlock")
    assert len(sent) == 3
    assert not any("content-md5" in entry.headers for entry in sent)


async def test_without_crc64_the_first_block_is_sent_again_and_all_with_md5(
    server: StrictServer, azure: Azure, recording: OpenRecording
) -> None:
    server.azure.crc64 = False

    session, parts = await staged(azure, recording)
    await acts.complete(azure, session, parts)

    assert {part.checked for part in parts} == {"md5"}
    assert azure.limits.wants_md5
    assert ["content-md5" in entry.headers for entry in server.log.entries("PutBlock")] == [
        False,
        *[True] * 3,
    ]


async def test_an_md5_is_made_where_the_body_has_none(
    server: StrictServer, azure: Azure, recording: OpenRecording
) -> None:
    server.azure.crc64 = False
    session = await azure.open(acts.spec_of(KEY, PART), PART)

    part = await azure.put_part(session, 1, recording.body(0, PART))

    assert part.checked == "md5"


@pytest.mark.parametrize("crc64", [True, False], ids=["crc64", "md5"])
async def test_a_block_damaged_on_its_way_is_noticed(
    server: StrictServer, azure: Azure, recording: OpenRecording, crc64: bool
) -> None:
    server.azure.crc64 = crc64
    session, parts = await staged(azure, recording)

    with server.faults.expected(Fault(Kind.FLIP_IN_TRANSIT, operation="PutBlock", at_byte=5)):
        fault = await fault_of(acts.put_part(azure, session, recording, 0))
    assert isinstance(fault, errors.Corrupted)

    parts[0] = await acts.put_part(azure, session, recording, 0)
    info = await acts.complete(azure, session, parts)
    assert info.size == recording.size


@pytest.mark.parametrize("crc64", [True, False], ids=["crc64", "md5"])
async def test_a_put_damaged_on_its_way_stores_nothing(
    server: StrictServer, azure: Azure, recording: OpenRecording, crc64: bool
) -> None:
    server.azure.crc64 = crc64
    await acts.put(azure, acts.spec_of("first", recording.size), recording)  # learns what is told

    with server.faults.expected(Fault(Kind.FLIP_IN_TRANSIT, operation="PutBlob", at_byte=5)):
        fault = await fault_of(acts.put(azure, acts.spec_of(KEY, recording.size), recording))

    assert isinstance(fault, errors.Corrupted)
    assert set(server.azure.objects(CONTAINER)) == {"first"}
    header = "x-ms-content-crc64" if crc64 else "content-md5"
    assert header in server.log.entries("PutBlob")[-1].headers


async def test_only_the_writes_reply_tells_a_checksum(
    server: StrictServer, azure: Azure, recording: OpenRecording
) -> None:
    """The Content-MD5 of a blob is whatever a writer claimed."""
    spec = acts.spec_of(KEY, recording.size)
    written = await acts.put(azure, spec, recording)
    found = await azure.stat(KEY)

    truth = await recording.body(0, recording.size).digest()
    assert written.crc64nvme == truth.crc64nvme
    assert found is not None
    assert (found.crc32c, found.crc64nvme, found.md5) == (None, None, None)
    assert (found.etag, found.version_id) == (written.etag, written.version_id)


async def test_microsofts_own_endpoint_needs_no_asking() -> None:
    async with opened(account="recordings", account_key=WRONG_KEY) as provider:
        assert not provider.limits.wants_md5
        assert provider.address("a b/ü.mp4") == (
            "https://recordings.blob.core.windows.net/recordings/a%20b/%C3%BC.mp4"
        )


# Sessions ----------------------------------------------------------------------------------------


async def test_blocks_that_expired_are_a_session_gone(
    server: StrictServer, azure: Azure, recording: OpenRecording
) -> None:
    session, parts = await staged(azure, recording)
    assert server.azure.expire_uncommitted(CONTAINER) == 3

    with pytest.raises(errors.SessionGone):
        await acts.complete(azure, session, parts)

    assert list(await azure.parts(session)) == []
    assert server.azure.objects(CONTAINER) == {}


async def test_a_lost_reply_to_the_commit_leaves_one_object_that_is_ours(
    server: StrictServer, azure: Azure, recording: OpenRecording
) -> None:
    session, parts = await staged(azure, recording)
    with server.faults.expected(Fault(Kind.LOSE_REPLY, operation="PutBlockList")):
        lost = await fault_of(acts.complete(azure, session, parts))
    again = await fault_of(acts.complete(azure, session, parts))

    # aiohttp sends the list again by itself where a kept connection breaks (RFC 9112, 9.3.1);
    # the precondition makes that a conflict with ourselves.
    assert lost.failure is FailureClass.TRANSIENT or isinstance(lost, errors.KeyTaken)
    assert isinstance(again, errors.KeyTaken | errors.SessionGone)
    found = await azure.stat(KEY)
    assert found is not None
    assert (found.token, found.size) == (session.spec.token, recording.size)


@pytest.mark.parametrize(
    ("lie", "operation"), [(Kind.DISCARD, "PutBlockList"), (Kind.TRUNCATE, "PutBlock")], ids=str
)
async def test_a_committed_list_that_differs_is_noticed(
    server: StrictServer, azure: Azure, recording: OpenRecording, lie: Kind, operation: str
) -> None:
    with server.faults.expected(Fault(lie, operation=operation)):
        session, parts = await staged(azure, recording)
        fault = await fault_of(acts.complete(azure, session, parts))

    assert isinstance(fault, errors.Corrupted)
    assert fault.code == "BlockListDiffers"


async def test_the_blocks_of_others_are_not_ours(
    server: StrictServer, azure: Azure, recording: OpenRecording
) -> None:
    session, parts = await staged(azure, recording)
    other = await azure.open(acts.spec_of(KEY, recording.size), PART)
    await acts.put_part(azure, other, recording, PART)
    async with BlobServiceClient(
        server.azure_url, {"account_name": server.azure.account.name, "account_key": server.azure.account.key}
    ) as vendor:
        blob = vendor.get_blob_client(CONTAINER, KEY)
        await blob.stage_block("x" * 39, b"a stranger's")

    assert [held.etag for held in await azure.parts(session)] == [part.etag for part in parts]
    assert [held.number for held in await azure.parts(other)] == [2]


async def test_settings_reach_every_write(server: StrictServer, recording: OpenRecording) -> None:
    spec = acts.spec_of("whole", recording.size, metadata={"site-name": "Süd 100 %"})
    async with opened(server, tier="cool", tags={"kept by": "a/b&c"}) as provider:
        await acts.put(provider, spec, recording)
        await acts.put_in_parts(provider, acts.spec_of("parts", recording.size), recording, PART)

    blobs = server.azure.objects(CONTAINER)
    assert {(blob.tier, blob.tags) for blob in blobs.values()} == {("Cool", "kept%20by=a%2Fb%26c")}
    assert blobs["whole"].metadata["site_name"] == "S%C3%BCd 100 %25"
    assert {blob.properties["content-type"] for blob in blobs.values()} == {"video/mp4"}


# Sending -----------------------------------------------------------------------------------------


class Counting:
    """A body that counts what is taken from it."""

    def __init__(self, size: int) -> None:
        self.offset, self.size, self.taken = 0, size, 0

    def __len__(self) -> int:
        return self.size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.taken < self.size:
            self.taken += 256 * 1024
            yield bytes(256 * 1024)

    @property
    def checksum(self) -> Any:
        raise AssertionError("not asked for here")

    async def digest(self) -> Any:
        raise AssertionError("not asked for here")


async def test_a_part_is_read_no_faster_than_it_is_taken_and_can_be_cancelled(
    server: StrictServer, azure: Azure
) -> None:
    session = await azure.open(acts.spec_of(KEY, 256 * 2**20), 256 * 2**20)
    body = Counting(256 * 2**20)
    stall = Fault(Kind.STALL_BODY, operation="PutBlock", after_bytes=300_000)
    with server.faults.expected(stall):
        part = asyncio.create_task(azure.put_part(session, 1, body))
        await asyncio.to_thread(stall.wait_fired)
        part.cancel()
        with pytest.raises(asyncio.CancelledError):
            await part

    assert body.taken < 32 * 2**20, "the rest is in somebody's memory"
    await azure.probe()


async def test_a_part_goes_as_it_is_with_its_length(
    server: StrictServer, azure: Azure, recording: OpenRecording
) -> None:
    session = await azure.open(acts.spec_of(KEY, PART), PART)
    await acts.put_part(azure, session, recording, 0)

    sent = server.log.entries("PutBlock")[0]
    assert (sent.received, sent.headers["content-length"]) == (PART, str(PART))


@pytest.mark.parametrize("step", ["part", "put"])
async def test_what_the_file_says_is_not_taken_for_the_networks_fault(
    azure: Azure, tmp_path: Path, step: str
) -> None:
    path = tmp_path / "b.mp4"
    path.write_bytes(bytes(HELD + 1))  # more than is kept in memory from here on
    async with await OpenRecording.open(bytes(tmp_path), b"b.mp4") as recording:
        body = recording.body(0, recording.size, md5=True)
        await body.digest()
        with path.open("r+b") as file:
            file.truncate(PART)
        spec = acts.spec_of(KEY, recording.size)

        session = await azure.open(spec, recording.size)
        sending = azure.put(spec, body) if step == "put" else azure.put_part(session, 1, body)

        with pytest.raises(errors.FileChanged):
            await sending


# Logins ------------------------------------------------------------------------------------------


def sas(server: StrictServer, permissions: str, **more: Any) -> str:
    account = server.azure.account
    return generate_container_sas(
        account.name,
        CONTAINER,
        account.key,
        permission=ContainerSasPermissions.from_string(permissions),
        **{"expiry": datetime.now(UTC) + timedelta(hours=1), **more},
    )


async def test_a_login_that_may_only_write_uploads_without_looking(
    server: StrictServer, recording: OpenRecording
) -> None:
    async with opened(server, sas_token=sas(server, "cw")) as provider:
        await provider.probe()
        session, parts = await staged(provider, recording)
        assert list(await provider.parts(session)) == []
        await acts.complete(provider, session, parts)
        with pytest.raises(errors.CannotLook) as refused:
            await provider.stat(KEY)

    assert refused.value.code == "AuthorizationPermissionMismatch"
    assert server.azure.objects(CONTAINER)[KEY].content.size == recording.size


async def test_a_login_that_may_only_read_is_paused_by_the_probe(server: StrictServer) -> None:
    async with opened(server, sas_token=sas(server, "rl")) as provider:
        assert await provider.stat(KEY) is None
        fault = await fault_of(provider.probe())

    assert fault.failure is FailureClass.PROVIDER


async def test_a_wrong_login_is_not_mistaken_for_one_that_cannot_look(server: StrictServer) -> None:
    async with opened(server, account_key=WRONG_KEY) as provider:
        fault = await fault_of(provider.stat(KEY))

    assert type(fault) is errors.Fault
    assert fault.failure is FailureClass.PROVIDER


async def test_an_expired_sas_is_named(server: StrictServer) -> None:
    expired = sas(server, "rcw", expiry=datetime.now(UTC) - timedelta(minutes=1))
    async with opened(server, sas_token=expired) as provider:
        assert not isinstance(provider, Signs), "it could only hand out itself"
        fault = await fault_of(provider.probe())

    assert fault.failure is FailureClass.PROVIDER
    assert "expired" in fault.hint
    assert "sig=" not in f"{fault} {fault.hint}"


async def test_tags_need_more_than_writing(server: StrictServer, recording: OpenRecording) -> None:
    spec = acts.spec_of("a", recording.size)
    async with opened(server, sas_token=sas(server, "rcw"), tags={"team": "sound"}) as provider:
        fault = await fault_of(acts.put(provider, spec, recording))
    assert fault.failure is FailureClass.PROVIDER
    assert "Storage Blob Data Owner, or the SAS permissions r, c, w and t" in fault.hint
    allowed = sas(server, "rcwt")
    async with opened(server, sas_token=allowed, tags={"team": "sound"}) as provider:
        await acts.put(provider, spec, recording)


async def test_a_connection_string_logs_in(server: StrictServer, recording: OpenRecording) -> None:
    async with opened(connection_string=server.azure_connection_string) as provider:
        assert provider.login == "connection string"
        await acts.put(provider, acts.spec_of(KEY, recording.size), recording)
        assert isinstance(provider, SigningAzure)
        url, _ = await provider.sign(KEY, 60)
        assert url.startswith(f"{server.azure_url}/{CONTAINER}/")


@pytest.mark.parametrize(
    "settings",
    [
        {"connection_string": "AccountName=a;AccountKey=not-a-real-key;stray"},
        {"endpoint_url": "http://127.0.0.1:1/a", "account": "a"},  # a token must not go over plain http
        {"account": "a", "account_key": WRONG_KEY, "ca_file": "/nowhere/ca.pem"},
        {},
    ],
    ids=["connection string", "token over http", "ca_file", "nothing"],
)
async def test_settings_that_make_no_client_are_the_configurations_fault(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        async with opened(**settings):
            pass

    assert "[providers.dr]" in caught.value.faults[0]
    assert "not-a-real-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "environment", "login"),
    [
        ({"tenant_id": "t", "client_id": "c", "client_secret": "not-a-real-secret"}, {}, "client secret"),
        ({}, {}, "managed identity"),
        ({"client_id": "c"}, {}, "managed identity c"),
        (
            {},
            {"AZURE_FEDERATED_TOKEN_FILE": "/token", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"},
            "workload identity",
        ),
    ],
)
async def test_token_logins_are_chosen_without_guessing(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], environment: dict[str, str], login: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    async with opened(account="recordings", **settings) as provider:
        assert provider.login == login


class StaticToken:
    """A credential that has its token, or fails as azure-identity's do."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        if self._token is None:
            raise ClientAuthenticationError("no token")
        return AccessToken(self._token, 2**31)

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


@asynccontextmanager
async def with_token(server: StrictServer, token: str | None) -> AsyncIterator[SigningAzure]:
    account = server.azure.account
    config = AzureProvider(
        type="azure",
        container=CONTAINER,
        endpoint_url=server.azure_url,
        account=account.name,
        account_key=account.key,
        ca_file=server.ca_file,
    )
    keyed = await log_in("dr", config)
    credential = StaticToken(token)
    pipeline: Any = keyed.service._pipeline
    service = BlobServiceClient(
        server.azure_url, credential, transport=pipeline._transport, retry_total=0, permit_redirects=False
    )
    provider = SigningAzure(
        "dr", config, Login(service, "managed identity", account.name, None, credential, None)
    )
    try:
        yield provider
    finally:
        await provider.aclose()


async def test_a_token_login_writes_and_signs_for_as_long_as_its_key_lives(recording: OpenRecording) -> None:
    with StrictServer(tls=True) as server:
        server.azure.create_container(CONTAINER)
        server.azure.account.tokens.add("not-a-real-token")
        async with with_token(server, "not-a-real-token") as provider:
            await acts.put(provider, acts.spec_of(KEY, recording.size), recording)
            url, good_for = await provider.sign(KEY, 60)
            _, longest = await provider.sign(KEY, 30 * 86_400)
        async with aiohttp.ClientSession() as browser:
            async with browser.get(URL(url, encoded=True), ssl=False) as reply:
                assert reply.status == 200
                assert len(await reply.read()) == recording.size

    assert 55 < good_for <= 60
    assert 6.9 * 86_400 < longest <= 7 * 86_400


@pytest.mark.parametrize("token", ["not-the-right-token", None], ids=["refused", "none to be had"])
async def test_a_token_that_is_refused_or_missing_pauses(token: str | None) -> None:
    with StrictServer(tls=True) as server:
        server.azure.create_container(CONTAINER)
        async with with_token(server, token) as provider:
            fault = await fault_of(provider.probe())

    assert fault.failure is FailureClass.PROVIDER
    assert fault.hint
    assert "not-the-right-token" not in f"{fault} {fault.hint}"


# What goes over the wire -------------------------------------------------------------------------


@given(st.text())
def test_metadata_values_are_plain_and_come_back(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return
    sent = wire.metadata_value(value)

    assert sent.isascii()
    assert sent == sent.strip()
    assert "\n" not in sent
    assert unquote(sent) == value


@given(st.text())
def test_metadata_names_are_identifiers(name: str) -> None:
    sent = wire.metadata_name(name)

    assert sent.isascii()
    assert sent.isidentifier()


@given(st.integers(1, 50_000), st.binary(min_size=16, max_size=16))
def test_block_ids_have_one_length_and_come_back(number: int, token: bytes) -> None:
    identifier = wire.block_id(Token(token.hex()), number)

    assert len(identifier) == 39
    assert wire.part_number(Token(token.hex()), identifier) == number
    assert wire.part_number(Token("f" * 31 + "x"), identifier) is None
