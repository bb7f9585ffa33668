"""Cloud Storage, at gcp-storage-emulator and at the strict endpoint."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client  # type: ignore[import-untyped]
from google.oauth2.credentials import Credentials

from tests.contract.place import Backend, Found, Place
from tests.strict.gcs_auth import GcsAuth
from tests.strict.wire import Clock
from uploaderd.model import TOKEN_METADATA


class GcsVendor:
    """The bucket through Google's own client. Its calls block: they run on threads."""

    def __init__(self, client: Any, bucket: str, open_sessions: Callable[[], int]) -> None:
        self._bucket = client.bucket(bucket)
        self._open_sessions = open_sessions

    async def get(self, key: str) -> Found | None:
        return await asyncio.to_thread(self._get, key)

    async def put(self, key: str, content: bytes) -> None:
        await asyncio.to_thread(self._bucket.blob(key).upload_from_string, content, retry=None)

    async def keys(self) -> set[str]:
        return {blob.name for blob in await asyncio.to_thread(self._list)}

    async def leftovers(self) -> int:
        return self._open_sessions()

    def _list(self) -> list[Any]:
        return list(self._bucket.list_blobs(retry=None))

    def _get(self, key: str) -> Found | None:
        blob = self._bucket.blob(key)
        try:
            blob.reload(retry=None)
        except NotFound:
            return None
        metadata = dict(blob.metadata or {})
        token = metadata.pop(TOKEN_METADATA, None)
        return Found(self._content(blob), blob.content_type, metadata, token)

    def _content(self, blob: Any) -> bytes:
        # By its name, not by the address that its metadata tells: the emulator does not encode that one.
        content: bytes = self._bucket.blob(blob.name).download_as_bytes(retry=None)
        return content


class EmulatorVendor(GcsVendor):
    """gcp-storage-emulator drops the connection when metadata does not fit a header as Latin-1.

    So the content of such an object is read while its metadata is away. The service itself has no
    such trouble: JSON is Unicode.
    """

    def _content(self, blob: Any) -> bytes:
        metadata = blob.metadata
        try:
            "".join(metadata.values() if metadata else ()).encode("latin-1")
        except UnicodeEncodeError:
            blob.metadata = {}
            blob.patch(retry=None)
            try:
                return super()._content(blob)
            finally:
                blob.metadata = metadata
                blob.patch(retry=None)
        return super()._content(blob)


@asynccontextmanager
async def _at_emulator(server: Any, tmp_path: Path) -> AsyncIterator[Place]:
    bucket = f"contract-{secrets.token_hex(6)}"
    settings = {"type": "gcs", "bucket": bucket, "endpoint_url": server.url, "anonymous": True}
    client = _client(server.url, AnonymousCredentials())  # type: ignore[no-untyped-call]
    await asyncio.to_thread(client.create_bucket, bucket, retry=None)
    # It shows no sessions; those that were not completed are forgotten when it ends.
    vendor = EmulatorVendor(client, bucket, lambda: 0)
    try:
        yield Place(
            settings=settings,
            vendor=vendor,
            part_size=256 * 1024,
            missing_bucket=settings | {"bucket": f"{bucket}-missing"},
        )
    finally:
        client.close()


@asynccontextmanager
async def _at_strict(server: Any, tmp_path: Path) -> AsyncIterator[Place]:
    bucket = f"contract-{secrets.token_hex(6)}"
    server.gcs.create_bucket(bucket)
    good, wrong = tmp_path / "good.json", tmp_path / "not-registered.json"
    server.gcs.auth.add_account()
    server.gcs.write_credentials(good)
    # The same account with a key that it does not have.
    wrong.write_text(json.dumps(GcsAuth(Clock()).credentials(f"{server.gcs_url}/token")))
    settings = {
        "type": "gcs",
        "bucket": bucket,
        "endpoint_url": server.gcs_url,
        "credentials_file": str(good),
    }
    # Not by the key file: google-auth makes every assertion out to Google's own token endpoint.
    client = _client(server.gcs_url, Credentials(server.gcs.auth.issue()))  # type: ignore[no-untyped-call]
    vendor = GcsVendor(client, bucket, lambda: len(server.gcs.open_sessions(bucket)))
    try:
        yield Place(
            settings=settings,
            vendor=vendor,
            part_size=256 * 1024,
            missing_bucket=settings | {"bucket": f"{bucket}-missing"},
            wrong_login=settings | {"credentials_file": str(wrong)},
        )
    finally:
        client.close()


def _client(url: str, credentials: Any) -> Any:
    return Client(project="contract", credentials=credentials, client_options={"api_endpoint": url})


BACKENDS = [
    Backend(
        "gcs-emulator",
        "gcs_emulator",
        _at_emulator,
        lenient=frozenset({"checksums", "login", "preconditions", "signing", "aborting"}),
    ),
    Backend("gcs-strict", "strict", _at_strict),
]
