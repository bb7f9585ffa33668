"""S3, at moto's server and at the strict endpoint."""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.contract.place import Backend, Found, Place
from uploaderd.model import TOKEN_METADATA

_SECRET: Final = "not-the-right-secret"


class S3Vendor:
    """The bucket through boto3. Its calls block: they run on threads."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._bucket = settings["bucket"]
        self._client = boto3.client(
            "s3",
            endpoint_url=settings["endpoint_url"],
            region_name=settings["region"],
            aws_access_key_id=settings["access_key_id"],
            aws_secret_access_key=settings["secret_access_key"],
            verify=settings.get("ca_file"),
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )

    async def create(self) -> None:
        await self._call(self._client.create_bucket)

    async def get(self, key: str) -> Found | None:
        try:
            reply = await self._call(self._client.get_object, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        metadata = {name: str(make_header(decode_header(value))) for name, value in reply["Metadata"].items()}
        token = metadata.pop(TOKEN_METADATA, None)
        content = await asyncio.to_thread(reply["Body"].read)
        return Found(content, reply["ContentType"], metadata, token)

    async def put(self, key: str, content: bytes) -> None:
        await self._call(self._client.put_object, Key=key, Body=content)

    async def keys(self) -> set[str]:
        reply = await self._call(self._client.list_objects_v2)
        return {item["Key"] for item in reply.get("Contents", ())}

    async def leftovers(self) -> int:
        reply = await self._call(self._client.list_multipart_uploads)
        return len(reply.get("Uploads", ()))

    def close(self) -> None:
        self._client.close()

    async def _call(self, method: Callable[..., Any], **arguments: Any) -> Any:
        return await asyncio.to_thread(functools.partial(method, Bucket=self._bucket, **arguments))


@asynccontextmanager
async def _arranged(url: str, login: tuple[str, str], **more: Any) -> AsyncIterator[Place]:
    settings = {
        "type": "s3",
        "bucket": f"contract-{secrets.token_hex(6)}",
        "region": "us-east-1",
        "endpoint_url": url,
        "access_key_id": login[0],
        "secret_access_key": login[1],
    } | more
    vendor = S3Vendor(settings)
    try:
        await vendor.create()
        yield Place(
            settings=settings,
            vendor=vendor,
            part_size=5 * 2**20,
            missing_bucket=settings | {"bucket": f"{settings['bucket']}-missing"},
            wrong_login=settings | {"secret_access_key": _SECRET},
        )
    finally:
        vendor.close()


def _at_moto(server: Any, tmp_path: Path) -> Any:
    return _arranged(server.url, ("moto-takes-any", "not-a-real-secret"))


def _at_strict(server: Any, tmp_path: Path, **more: Any) -> Any:
    account = server.s3.account
    return _arranged(server.url, (account.access_key, account.secret_key), **more)


BACKENDS = [
    # moto answers 500 to the completion of an upload that was aborted.
    Backend(
        "s3-moto",
        "moto",
        _at_moto,
        lenient=frozenset({"checksums", "login", "preconditions", "signing", "aborting"}),
    ),
    Backend("s3-strict", "strict", _at_strict),
    Backend("s3-strict-crc32c", "strict", functools.partial(_at_strict, checksum="crc32c")),
]
