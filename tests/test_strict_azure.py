"""The strict endpoint's Azure side against the vendor's own client: what Azure refuses is refused here."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest
from awscrt import checksums as crt
from azure.core import MatchConditions
from azure.core.credentials import AccessToken, AzureNamedKeyCredential
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import (
    AccountSasPermissions,
    BlobBlock,
    BlobSasPermissions,
    ContainerSasPermissions,
    ContentSettings,
    ResourceTypes,
    StandardBlobTier,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)
from azure.storage.blob.aio import BlobClient, BlobServiceClient

from tests.strict import Fault, Kind, StrictServer

CONTAINER = "recordings"
NAME = "tag 1/ä+%#😀 ~x.mp4"


@pytest.fixture
def server() -> Iterator[StrictServer]:
    with StrictServer() as running:
        running.azure.create_container(CONTAINER)
        yield running
        assert running.crashes == []


@pytest.fixture
async def service(server: StrictServer) -> AsyncIterator[BlobServiceClient]:
    async with connect(server) as client:
        yield client


def connect(server: StrictServer, credential: Any = None) -> BlobServiceClient:
    account = server.azure.account
    credential = credential or AzureNamedKeyCredential(account.name, account.key)
    return BlobServiceClient(server.azure_url, credential, retry_total=0)


def block_id(number: int, width: int = 4) -> str:
    return f"{number:0{width}}"  # the SDK adds the base64


def crc64(data: bytes) -> bytes:
    return int(crt.crc64nvme(data)).to_bytes(8, "little")


def code(error: pytest.ExceptionInfo[HttpResponseError]) -> tuple[int | None, str]:
    found = getattr(error.value, "error_code", "")
    return error.value.status_code, str(getattr(found, "value", found))


async def test_put_properties_get_and_list(server: StrictServer, service: BlobServiceClient) -> None:
    data = os.urandom(700_000)
    blob = service.get_blob_client(CONTAINER, NAME)
    settings = ContentSettings(content_type="video/mp4")
    await blob.upload_blob(data, metadata={"token": "abc"}, content_settings=settings, length=len(data))
    properties = await blob.get_blob_properties()
    assert properties.size == len(data)
    assert properties.metadata == {"token": "abc"}
    assert properties.content_settings.content_type == "video/mp4"
    assert properties.content_settings.content_md5 == bytearray(hashlib.md5(data).digest())
    assert await (await blob.download_blob()).readall() == data
    assert await (await blob.download_blob(offset=5, length=5)).readall() == data[5:10]
    listed = [item async for item in service.get_container_client(CONTAINER).list_blobs()]
    assert [(item.name, item.size) for item in listed] == [(NAME, len(data))]
    assert server.azure.objects(CONTAINER)[NAME].content.bytes() == data
    await blob.delete_blob()
    with pytest.raises(HttpResponseError) as error:
        await blob.get_blob_properties()
    assert code(error) == (404, "BlobNotFound")


async def test_odd_headers_are_signed_as_the_vendor_signs_them(service: BlobServiceClient) -> None:
    # Metadata names that sort differently with and without the hyphen's and underscore's weight.
    names = ["a", "a_b", "a1", "ab", "b_1", "b1", "bb", "a_", "z_y_x", "zyx"]
    blob = service.get_blob_client(CONTAINER, "a")
    await blob.upload_blob(
        b"x",
        metadata=dict.fromkeys(names, "1"),
        tags={"site": "hall 3"},
        standard_blob_tier=StandardBlobTier.COOL,
    )
    properties = await blob.get_blob_properties()
    assert sorted(properties.metadata) == sorted(names)
    assert (properties.blob_tier, properties.tag_count) == ("Cool", 1)


async def test_credentials(server: StrictServer) -> None:
    wrong = base64.b64encode(b"wrong").decode()
    for credential in (
        AzureNamedKeyCredential(server.azure.account.name, wrong),
        AzureNamedKeyCredential("somebody", server.azure.account.key),
    ):
        async with connect(server, credential) as service:
            with pytest.raises(HttpResponseError) as error:
                await service.get_blob_client(CONTAINER, "a").upload_blob(b"x")
            assert code(error) == (403, "AuthenticationFailed")
    server.clock.offset = 16 * 60
    async with connect(server) as service:
        with pytest.raises(HttpResponseError) as error:
            await service.get_blob_client(CONTAINER, "a").upload_blob(b"x")
        assert code(error) == (403, "AuthenticationFailed")
    assert server.azure.objects(CONTAINER) == {}


class _Bearer:
    """A token credential with a fixed token, as the SDK wants one."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken(self._token, int(datetime.now(UTC).timestamp()) + 3600)

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


async def test_bearer_tokens_and_a_user_delegation_sas() -> None:
    with StrictServer(tls=True) as server:  # the SDK gives no token to plain http
        server.azure.create_container(CONTAINER)
        server.azure.account.tokens.add("not-a-real-token")
        options: dict[str, Any] = {"connection_verify": str(server.ca_file), "retry_total": 0}
        async with BlobServiceClient(server.azure_url, _Bearer("unknown"), **options) as service:
            with pytest.raises(HttpResponseError) as error:
                await service.get_blob_client(CONTAINER, "a").upload_blob(b"x")
            assert error.value.status_code == 401
        async with BlobServiceClient(server.azure_url, _Bearer("not-a-real-token"), **options) as service:
            await service.get_blob_client(CONTAINER, NAME).upload_blob(b"x")
            now = datetime.now(UTC)
            key = await service.get_user_delegation_key(now, now + timedelta(hours=1))
        sas = generate_blob_sas(
            server.azure.account.name,
            CONTAINER,
            NAME,
            user_delegation_key=key,
            permission=BlobSasPermissions(read=True),
            expiry=now + timedelta(minutes=5),
        )
        async with BlobClient(server.azure_url, CONTAINER, NAME, credential=sas, **options) as blob:
            assert await (await blob.download_blob()).readall() == b"x"
        async with BlobClient(server.azure_url, CONTAINER, "other", credential=sas, **options) as blob:
            with pytest.raises(HttpResponseError) as error:
                await blob.download_blob()
            assert code(error) == (403, "AuthenticationFailed")


async def test_sas_signatures_permissions_and_expiry(server: StrictServer) -> None:
    account, soon = server.azure.account, datetime.now(UTC) + timedelta(minutes=5)
    for_container = generate_container_sas(
        account.name,
        CONTAINER,
        account_key=account.key,
        permission=ContainerSasPermissions(write=True, read=True),
        expiry=soon,
    )
    for_account = generate_account_sas(
        account.name,
        account.key,
        ResourceTypes(object=True, container=True),
        AccountSasPermissions(write=True, read=True),
        soon,
    )
    for sas in (for_container, for_account):
        async with connect(server, sas) as service:
            blob = service.get_blob_client(CONTAINER, NAME)
            await blob.upload_blob(b"x", overwrite=True)
            with pytest.raises(HttpResponseError) as error:
                await blob.delete_blob()
            assert code(error) == (403, "AuthorizationPermissionMismatch")
        async with connect(server, sas.replace("sp=rw", "sp=rwd")) as service:
            with pytest.raises(HttpResponseError) as error:
                await service.get_blob_client(CONTAINER, NAME).delete_blob()
            assert code(error) == (403, "AuthenticationFailed")
    server.clock.offset = 600
    async with connect(server, for_container) as service:
        with pytest.raises(HttpResponseError) as error:
            await service.get_blob_client(CONTAINER, NAME).download_blob()
        assert code(error) == (403, "AuthenticationFailed")


async def test_blocks_are_staged_listed_and_committed(
    server: StrictServer, service: BlobServiceClient
) -> None:
    blob = service.get_blob_client(CONTAINER, NAME)
    parts = {block_id(number): os.urandom(300_000) for number in (2, 1, 3)}
    for name, data in parts.items():
        answer = await blob.stage_block(name, data, len(data))
        assert bytes(answer["content_crc64"]) == crc64(data)
    with pytest.raises(HttpResponseError) as error:
        await blob.get_blob_properties()
    assert code(error)[0] == 404
    committed, staged = await blob.get_block_list("all")
    assert committed == []
    assert [(block.id, block.size) for block in staged] == [(block_id(n), 300_000) for n in (1, 2, 3)]
    names = [
        item.name
        async for item in service.get_container_client(CONTAINER).list_blobs(include=["uncommittedblobs"])
    ]
    assert names == [NAME]
    order = [block_id(number) for number in (1, 2)]
    await blob.commit_block_list([BlobBlock(name) for name in order], metadata={"token": "t"})
    properties = await blob.get_blob_properties()
    assert properties.size == 600_000
    assert properties.content_settings.content_md5 is None  # never computed for a block list
    assert server.azure.objects(CONTAINER)[NAME].content.bytes() == b"".join(parts[name] for name in order)
    committed, staged = await blob.get_block_list("all")
    assert ([block.id for block in committed], staged) == (order, [])  # what the list left out is gone


async def test_block_lists_that_azure_refuses(server: StrictServer, service: BlobServiceClient) -> None:
    blob = service.get_blob_client(CONTAINER, "a")
    await blob.stage_block(block_id(1), b"one")
    with pytest.raises(HttpResponseError) as error:
        await blob.commit_block_list([BlobBlock(block_id(1)), BlobBlock(block_id(2))])
    assert code(error) == (400, "InvalidBlockList")
    assert server.azure.objects(CONTAINER) == {}
    with pytest.raises(HttpResponseError) as error:
        await blob.stage_block(block_id(2, width=5), b"two")
    assert code(error) == (400, "InvalidBlobOrBlock")
    await blob.commit_block_list([BlobBlock(block_id(1))])
    with pytest.raises(HttpResponseError) as error:  # committed ids bind the length as well
        await blob.stage_block(block_id(2, width=5), b"two")
    assert code(error) == (400, "InvalidBlobOrBlock")
    server.azure.max_blocks = 1
    with pytest.raises(HttpResponseError) as error:
        await blob.commit_block_list([BlobBlock(block_id(1)), BlobBlock(block_id(1))])
    assert code(error) == (400, "BlockListTooLong")
    server.azure.max_block = 3
    with pytest.raises(HttpResponseError) as error:
        await blob.stage_block(block_id(2), b"four")
    assert code(error) == (413, "RequestBodyTooLarge")


async def test_blocks_of_an_earlier_content_stay_until_they_expire(
    server: StrictServer, service: BlobServiceClient
) -> None:
    blob = service.get_blob_client(CONTAINER, "a")
    await blob.stage_block(block_id(1), b"old")
    await blob.stage_block(block_id(2), b"old")
    await blob.stage_block(block_id(1), b"new")
    await blob.commit_block_list([BlobBlock(block_id(1)), BlobBlock(block_id(2))])
    assert server.azure.objects(CONTAINER)["a"].content.bytes() == b"newold"
    await blob.stage_block(block_id(3), b"late")
    assert server.call(lambda: server.azure.expire_uncommitted(CONTAINER)) == 1
    with pytest.raises(HttpResponseError) as error:
        await blob.commit_block_list([BlobBlock(block_id(3))])
    assert code(error) == (400, "InvalidBlockList")


async def test_wrong_hashes_store_nothing(server: StrictServer, service: BlobServiceClient) -> None:
    blob = service.get_blob_client(CONTAINER, "a")
    wrong_md5 = {"Content-MD5": base64.b64encode(b"0" * 16).decode()}
    wrong_crc = {"x-ms-content-crc64": base64.b64encode(crc64(b"other")).decode()}
    for headers, expected in ((wrong_md5, "Md5Mismatch"), (wrong_crc, "Crc64Mismatch")):
        with pytest.raises(HttpResponseError) as error:
            await blob.stage_block(block_id(1), b"content", headers=headers)
        assert code(error) == (400, expected)
        with pytest.raises(HttpResponseError) as error:
            await blob.upload_blob(b"content", headers=headers)
        assert code(error) == (400, expected)
    with pytest.raises(HttpResponseError) as error:
        await blob.upload_blob(b"content", content_settings=ContentSettings(content_md5=bytearray(16)))
    assert code(error) == (400, "Md5Mismatch")
    assert server.azure.uncommitted(CONTAINER) == {}
    assert server.azure.objects(CONTAINER) == {}
    right = {"x-ms-content-crc64": base64.b64encode(crc64(b"content")).decode()}
    await blob.stage_block(block_id(1), b"content", headers=right)
    # The property is the client's own word at commit; the service never looks.
    settings = ContentSettings(content_md5=bytearray(16))
    await blob.commit_block_list([BlobBlock(block_id(1))], content_settings=settings)
    assert (await blob.get_blob_properties()).content_settings.content_md5 == bytearray(16)


async def test_preconditions_and_versions(server: StrictServer, service: BlobServiceClient) -> None:
    server.azure.create_container("versioned", versioning=True)
    blob = service.get_blob_client("versioned", "a")
    await blob.stage_block(block_id(1), b"first")
    missing: dict[str, Any] = {"match_condition": MatchConditions.IfMissing}
    first = await blob.commit_block_list([BlobBlock(block_id(1))], **missing)
    assert first["version_id"]
    await blob.stage_block(block_id(2), b"second")
    with pytest.raises(HttpResponseError) as error:
        await blob.commit_block_list([BlobBlock(block_id(2))], **missing)
    assert code(error) == (409, "BlobAlreadyExists")
    with pytest.raises(HttpResponseError) as error:
        await blob.upload_blob(b"third", overwrite=False)
    assert code(error) == (409, "BlobAlreadyExists")
    with pytest.raises(HttpResponseError) as error:
        await blob.commit_block_list(
            [BlobBlock(block_id(2))], etag='"0x0"', match_condition=MatchConditions.IfNotModified
        )
    assert code(error) == (412, "ConditionNotMet")
    second = await blob.commit_block_list(
        [BlobBlock(block_id(2))], etag=str(first["etag"]), match_condition=MatchConditions.IfNotModified
    )
    assert second["version_id"] != first["version_id"]
    assert server.azure.objects("versioned")["a"].content.bytes() == b"second"


async def test_what_is_missing_or_denied(server: StrictServer, service: BlobServiceClient) -> None:
    with pytest.raises(HttpResponseError) as error:
        await service.get_blob_client("nowhere", "a").upload_blob(b"x")
    assert code(error) == (404, "ContainerNotFound")
    await service.create_container("made")
    with pytest.raises(HttpResponseError) as error:
        await service.create_container("made")
    assert code(error) == (409, "ContainerAlreadyExists")
    server.azure.account.denied["key"] = {"GetBlobProperties"}
    with pytest.raises(HttpResponseError) as error:
        await service.get_blob_client(CONTAINER, "a").get_blob_properties()
    assert error.value.status_code == 403


async def test_a_connection_string_and_a_busy_server(server: StrictServer) -> None:
    async with BlobServiceClient.from_connection_string(
        server.azure_connection_string, retry_total=0
    ) as service:
        busy = Fault(Kind.STATUS, operation="PutBlob", retry_after=7)
        with server.faults.expected(busy), pytest.raises(HttpResponseError) as error:
            await service.get_blob_client(CONTAINER, "a").upload_blob(b"x")
        assert code(error) == (503, "ServerBusy")
        assert getattr(error.value.response, "headers", {})["retry-after"] == "7"
