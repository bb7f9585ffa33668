"""Azure Blob at Azurite and at the strict endpoint."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from tests.contract.place import Backend, Found, Place
from uploaderd.model import TOKEN_METADATA

WRONG_KEY: Final = base64.b64encode(b"not the right key").decode()


class AzureVendor:
    """The container, through Microsoft's own client."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    async def get(self, key: str) -> Found | None:
        blob = self._container.get_blob_client(key)
        try:
            properties = await blob.get_blob_properties()
        except ResourceNotFoundError:
            return None
        content = await (await blob.download_blob()).readall()
        metadata = {name: unquote(value) for name, value in properties.metadata.items()}
        return Found(
            content=content,
            content_type=properties.content_settings.content_type or "",
            token=metadata.pop(TOKEN_METADATA, None),
            metadata=metadata,
        )

    async def put(self, key: str, content: bytes) -> None:
        await self._container.upload_blob(key, content, overwrite=True)

    async def keys(self) -> set[str]:
        return {name async for name in self._container.list_blob_names()}

    async def leftovers(self) -> int:
        return 0  # staged blocks cannot be discarded; they expire


@asynccontextmanager
async def _container(account: str, key: str, url: str) -> AsyncIterator[Place]:
    name = f"contract-{secrets.token_hex(6)}"
    settings: dict[str, Any] = {
        "type": "azure",
        "account": account,
        "account_key": key,
        "endpoint_url": url,
        "container": name,
    }
    credential = {"account_name": account, "account_key": key}
    async with BlobServiceClient(url, credential=credential) as service:
        yield Place(
            settings=settings,
            vendor=AzureVendor(await service.create_container(name)),
            part_size=256 * 1024,
            missing_bucket=settings | {"container": f"{name}-missing"},
            wrong_login=settings | {"account_key": WRONG_KEY},
        )


@asynccontextmanager
async def _at_azurite(server: Any, tmp_path: Path) -> AsyncIterator[Place]:
    async with _container(server.account, server.key, server.url) as place:
        yield place


@asynccontextmanager
async def _at_strict(server: Any, tmp_path: Path) -> AsyncIterator[Place]:
    account = server.azure.account
    async with _container(account.name, account.key, server.azure_url) as place:
        yield place


BACKENDS = [
    Backend("azure-azurite", "azurite", _at_azurite, lenient=frozenset({"aborting"})),
    Backend("azure-strict", "strict", _at_strict, lenient=frozenset({"aborting"})),
]
