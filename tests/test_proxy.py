"""Each cloud through a proxy of its own: over TLS, with the proxy's login, refused by it, and without it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.contract import acts
from tests.strict import StrictServer
from uploaderd.errors import Fault
from uploaderd.model import FailureClass
from uploaderd.reader import OpenRecording

BUCKET = "recordings"
USER: Final = "me:not-a-real-password"


@pytest.fixture
def server() -> Iterator[StrictServer]:
    with StrictServer(tls=True) as running:
        running.s3.create_bucket(BUCKET)
        running.azure.create_container(BUCKET)
        running.gcs.create_bucket(BUCKET)
        yield running
        assert running.crashes == []


@pytest.fixture(params=["s3", "azure", "gcs"])
def settings(request: pytest.FixtureRequest, server: StrictServer, tmp_path: Path) -> dict[str, Any]:
    table = {"type": request.param, "ca_file": str(server.ca_file)}
    match request.param:
        case "s3":
            key = {
                "access_key_id": server.s3.account.access_key,
                "secret_access_key": server.s3.account.secret_key,
            }
            return table | key | {"bucket": BUCKET, "region": "us-east-1", "endpoint_url": server.url}
        case "azure":
            account = {"account": server.azure.account.name, "account_key": server.azure.account.key}
            return table | account | {"container": BUCKET, "endpoint_url": server.azure_url}
    server.gcs.auth.add_account()
    file = str(server.gcs.write_credentials(tmp_path / "key.json"))
    return table | {"bucket": BUCKET, "credentials_file": file, "endpoint_url": server.gcs_url}


@asynccontextmanager
async def proxy() -> AsyncIterator[tuple[int, list[str]]]:
    """A proxy that wants a login; its port, and the hosts that it was asked to connect to."""
    asked: list[str] = []
    wanted = f"proxy-authorization: basic {base64.b64encode(USER.encode()).decode()}".lower()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        verb, there, _ = head.split(" ", 2)
        if verb != "CONNECT" or wanted not in head.lower():
            writer.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()
            return
        asked.append(there)
        host, _, port = there.rpartition(":")
        beyond, onwards = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(pass_on(reader, onwards), pass_on(beyond, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1], asked


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while window := await reader.read(2**16):
            writer.write(window)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest_asyncio.fixture
async def recording(tmp_path: Path) -> AsyncIterator[OpenRecording]:
    (tmp_path / "a.mp4").write_bytes(bytes(1000))
    async with await OpenRecording.open(bytes(tmp_path), b"a.mp4") as recording:
        yield recording


async def test_everything_goes_through_it(
    settings: dict[str, Any], server: StrictServer, recording: OpenRecording
) -> None:
    async with proxy() as (port, asked):
        provider = await acts.opened(settings | {"proxy": f"http://{USER}@127.0.0.1:{port}"}, "cloud")
        try:
            await acts.put(provider, acts.spec_of("a.mp4", 1000), recording)
            info = await provider.stat("a.mp4")
        finally:
            await provider.aclose()
    assert info is not None
    assert info.size == 1000
    assert set(asked) == {f"127.0.0.1:{server.port}"}


async def test_a_proxy_that_refuses_pauses_the_provider(settings: dict[str, Any]) -> None:
    async with proxy() as (port, _):
        fault = await met(settings | {"proxy": f"http://me:wrong-password@127.0.0.1:{port}"})
    assert fault.failure is FailureClass.PROVIDER
    assert "[providers.cloud] proxy" in fault.hint
    assert "wrong-password" not in f"{fault} {fault.hint}"


async def test_a_proxy_that_is_not_there_is_told_from_the_service(settings: dict[str, Any]) -> None:
    async with proxy() as (port, _):
        pass
    fault = await met(settings | {"proxy": f"http://127.0.0.1:{port}"})
    assert (fault.failure, fault.recognised) == (FailureClass.TRANSIENT, True)
    assert "correct [providers.cloud] proxy" in fault.hint


async def met(settings: dict[str, Any]) -> Fault:
    """What the first call meets."""
    provider = await acts.opened(settings, "cloud")
    try:
        with pytest.raises(Fault) as caught:
            await provider.probe()
    finally:
        await provider.aclose()
    return caught.value
