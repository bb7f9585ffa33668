"""Fresh buckets, containers and folders for a daemon, by the backends of the contract suite."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from tests.contract.conftest import all_backends
from tests.contract.place import Place
from tests.strict import StrictServer

BACKENDS: Final = {backend.name: backend for backend in all_backends()}


@asynccontextmanager
async def arranged(servers: Mapping[str, object], folder: Path) -> AsyncIterator[dict[str, Place]]:
    """A place at each server, by provider type. `servers`: the backend's name and its running server."""
    async with AsyncExitStack() as stack:
        places = {}
        for name, server in servers.items():
            backend = BACKENDS[name]
            beside = folder / f"place-{backend.type}"
            beside.mkdir()
            places[backend.type] = await stack.enter_async_context(backend.arrange(server, beside))
        yield places


def clouds(server: object) -> dict[str, object]:
    """The three clouds at a strict endpoint."""
    return {"s3-strict": server, "azure-strict": server, "gcs-strict": server}


def content_of(size: int, seed: object = "") -> bytes:
    """Bytes that look like a recording's: no two windows alike, the same in each run."""
    return random.Random(f"{size} {seed}").randbytes(size)


async def assert_whole(place: Place, key: str, content: bytes) -> None:
    """The object, read back by the vendor's own client, is the content byte by byte."""
    found = await place.vendor.get(key)
    assert found is not None, f"nothing is at {key!r}"
    assert found.content == content, f"{key!r} has {len(found.content)} bytes, and not those of the file"


def deny(endpoint: StrictServer, cloud: str, names: set[str]) -> None:
    """What the login may not do from now on."""
    match cloud:
        case "s3":
            endpoint.s3.account.denied = names
        case "azure":
            endpoint.azure.account.denied["key"] = names
        case "gcs":
            for account in endpoint.gcs.auth.accounts.values():
                account.denied = names
