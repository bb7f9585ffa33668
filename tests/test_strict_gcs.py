"""The strict endpoint's GCS side, driven by gcloud-aio and by hand: what GCS refuses must be refused here."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import jwt
import pytest
from awscrt import checksums as crt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from gcloud.aio.auth import Token
from gcloud.aio.storage import Blob, Storage
from yarl import URL

from tests.strict import Fault, Kind, StrictServer
from tests.strict.gcs_auth import GcsAuth
from tests.strict.gcs_state import QUANTUM

BUCKET = "recordings"
NAME = "tag 1/ä+%#😀 ~x.mp4"


@pytest.fixture
def server() -> Iterator[StrictServer]:
    with StrictServer() as running:
        running.gcs.create_bucket(BUCKET)
        yield running
        assert running.crashes == []


class Client:
    """The JSON API by hand, with a good token."""

    def __init__(self, server: StrictServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session
        self.auth = {"Authorization": f"Bearer {server.gcs.auth.issue()}"}
        self.uploads = f"{server.gcs_url}/upload/storage/v1/b/{BUCKET}/o"

    async def ask(self, method: str, url: str, **options: Any) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body; the body as JSON where it is."""
        headers = self.auth | options.pop("headers", {})
        async with self.session.request(
            method, url, headers=headers, allow_redirects=False, **options
        ) as answer:
            body = await answer.read()
            is_json = answer.headers.get("Content-Type", "").startswith("application/json")
            return answer.status, dict(answer.headers), json.loads(body) if is_json else body

    def url(self, name: str) -> str:
        return f"{self.server.gcs_url}/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}"

    async def open(self, name: str = NAME, fields: dict[str, Any] | None = None, **params: str) -> str:
        status, headers, body = await self.ask(
            "POST",
            self.uploads,
            params={"uploadType": "resumable", "name": name, **params},
            json=(fields or {}) | {"name": name},
        )
        assert status == 200, body
        return headers["Location"]

    async def send(
        self, uri: str, start: int, data: bytes, total: int | str, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        span = f"bytes {start}-{start + len(data) - 1}/{total}"
        return await self.bare("PUT", uri, data=data, headers={"Content-Range": span, **headers})

    async def query(self, uri: str, total: int | str) -> tuple[int, dict[str, str], Any]:
        return await self.bare("PUT", uri, headers={"Content-Range": f"bytes */{total}"})

    async def bare(self, method: str, uri: str, **options: Any) -> tuple[int, dict[str, str], Any]:
        auth, self.auth = self.auth, {}  # a session's URI is its own credential
        try:
            return await self.ask(method, uri, **options)
        finally:
            self.auth = auth


@pytest.fixture
async def client(server: StrictServer) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        session._retry_connection = False  # aiohttp would silently send a PUT a second time after a reset
        yield Client(server, session)


def crc32c(data: bytes) -> str:
    return base64.b64encode(int(crt.crc32c(data)).to_bytes(4, "big")).decode()


def reason(body: Any) -> str:
    return str(body["error"]["errors"][0]["reason"])


async def test_gcloud_aio_uploads_and_reads_with_a_key_file(server: StrictServer, tmp_path: Path) -> None:
    server.gcs.auth.add_account()
    key_file = server.gcs.write_credentials(tmp_path / "key.json")
    data = os.urandom(700_000)
    async with aiohttp.ClientSession() as http:
        session: Any = http  # gcloud's annotation names another library's session
        scopes = ["https://www.googleapis.com/auth/devstorage.read_write"]
        token = Token(service_file=str(key_file), scopes=scopes, session=session)
        storage = Storage(token=token, session=session, api_root=server.gcs_url, api_is_dev=False)
        for upload_type in ("simple", "multipart", "resumable"):
            stored = await storage.upload(
                BUCKET,
                f"{upload_type}/{NAME}",
                data,
                force_resumable_upload=upload_type == "resumable",
                metadata={"metadata": {"token": "t"}} if upload_type != "simple" else None,
            )
            assert (stored["crc32c"], int(stored["size"])) == (crc32c(data), len(data))
            assert stored["md5Hash"] == base64.b64encode(hashlib.md5(data).digest()).decode()
            assert await storage.download(BUCKET, f"{upload_type}/{NAME}") == data
        found = await storage.download_metadata(BUCKET, f"multipart/{NAME}")
        assert found["metadata"] == {"token": "t"}
        listed = await storage.list_objects(BUCKET, params={"prefix": "mult"})
        assert [item["name"] for item in listed["items"]] == [f"multipart/{NAME}"]
        await storage.delete(BUCKET, f"multipart/{NAME}")
        assert sorted(server.gcs.objects(BUCKET)) == [f"resumable/{NAME}", f"simple/{NAME}"]
        await token.close()


async def test_tokens_and_their_end(server: StrictServer, client: Client) -> None:
    status, _, body = await client.ask("GET", client.url("a"))
    assert (status, reason(body)) == (404, "notFound")
    for header in ({"Authorization": "Bearer guess"}, {"Authorization": ""}):
        assert (await client.ask("GET", client.url("a"), headers=header))[0] == 401
    server.clock.offset = 3601
    assert (await client.ask("GET", client.url("a")))[0] == 401
    server.clock.offset = 0


async def test_the_token_endpoint_checks_key_audience_and_times(server: StrictServer, client: Client) -> None:
    account, uri = server.gcs.auth.add_account(), f"{server.gcs_url}/token"
    now = int(server.clock.now())
    claims: dict[str, Any] = {
        "iss": account.email,
        "aud": uri,
        "iat": now,
        "exp": now + 3600,
        "scope": "https://www.googleapis.com/auth/devstorage.read_write",
    }

    async def ask(key: RSAPrivateKey, **changes: Any) -> tuple[int, Any]:
        grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
        form = {"grant_type": grant, "assertion": jwt.encode(claims | changes, key, algorithm="RS256")}
        status, _, body = await client.bare("POST", uri, data=form)
        return status, body

    status, answer = await ask(account.key)
    assert (status, answer["token_type"]) == (200, "Bearer")
    stranger = GcsAuth(server.clock).add_account(account.email)
    refused: list[tuple[RSAPrivateKey, dict[str, Any]]] = [
        (stranger.key, {}),
        (account.key, {"iss": "nobody@example.org"}),
        (account.key, {"aud": "https://oauth2.googleapis.com/token"}),
        (account.key, {"iat": now - 3700, "exp": now - 100}),
        (account.key, {"exp": now + 7200}),
        (account.key, {"scope": "email"}),
    ]
    for key, changes in refused:
        assert (await ask(key, **changes))[0] == 400


async def test_chunks_offsets_and_the_question(server: StrictServer, client: Client) -> None:
    data = os.urandom(2 * QUANTUM + 100)
    uri = await client.open(fields={"metadata": {"token": "t"}})
    status, headers, _ = await client.query(uri, len(data))
    assert (status, "Range" in headers) == (308, False)  # nothing held: no Range at all
    status, _, body = await client.send(uri, 0, data[:100], "*")
    assert (status, reason(body)) == (400, "invalid")
    status, headers, _ = await client.send(uri, 0, data[:QUANTUM], len(data))
    assert (status, headers["Range"]) == (308, f"bytes=0-{QUANTUM - 1}")
    status, _, body = await client.send(uri, 2 * QUANTUM, data[2 * QUANTUM :], len(data))
    assert status == 503
    assert "exceeds already uploaded size" in body["error"]["message"]
    status, headers, _ = await client.query(uri, len(data))
    assert (status, headers["Range"]) == (308, f"bytes=0-{QUANTUM - 1}")
    assert (await client.send(uri, QUANTUM, data[QUANTUM:], len(data) + 1))[0] == 400  # another total
    assert server.gcs.objects(BUCKET) == {}
    # Bytes that are held already are ignored.
    status, _, stored = await client.send(
        uri, 0, data, len(data), **{"X-Goog-Hash": f"crc32c={crc32c(data)}"}
    )
    assert (status, stored["crc32c"], stored["size"]) == (200, crc32c(data), str(len(data)))
    assert server.gcs.objects(BUCKET)[NAME].content.bytes() == data
    assert server.gcs.objects(BUCKET)[NAME].metadata == {"token": "t"}
    status, _, again = await client.query(uri, len(data))
    assert (status, again["generation"]) == (200, stored["generation"])
    assert server.gcs.open_sessions(BUCKET) == []


async def test_zero_bytes_and_one_request(server: StrictServer, client: Client) -> None:
    uri = await client.open("empty")
    status, _, stored = await client.query(uri, 0)
    assert (status, stored["size"]) == (200, "0")
    status, _, stored = await client.bare("PUT", await client.open("whole"), data=b"abc")
    assert (status, stored["size"]) == (200, "3")


@pytest.mark.parametrize("name", ["crc32c", "md5"])
async def test_wrong_hash_stores_nothing(server: StrictServer, client: Client, name: str) -> None:
    wrong = crc32c(b"other") if name == "crc32c" else base64.b64encode(b"0" * 16).decode()
    field = {"crc32c": "crc32c", "md5": "md5Hash"}[name]
    for uri, headers in (
        (await client.open(), {"X-Goog-Hash": f"{name}={wrong}"}),
        (await client.open(fields={field: wrong}), {}),
    ):
        status, _, body = await client.send(uri, 0, b"content", 7, **headers)
        assert (status, reason(body)) == (400, "invalid")
        assert (await client.query(uri, 7))[0] == 404
    params = {"uploadType": "media", "name": "a"}
    headers = {"X-Goog-Hash": f"{name}={wrong}"}
    assert (await client.ask("POST", client.uploads, params=params, data=b"content", headers=headers))[
        0
    ] == 400
    assert server.gcs.objects(BUCKET) == {}


async def test_preconditions(server: StrictServer, client: Client) -> None:
    race = await client.open("a", ifGenerationMatch="0")
    params = {"uploadType": "media", "name": "a", "ifGenerationMatch": "0"}
    status, _, stored = await client.ask("POST", client.uploads, params=params, data=b"1")
    assert status == 200
    status, _, body = await client.ask("POST", client.uploads, params=params, data=b"2")
    assert (status, reason(body)) == (412, "conditionNotMet")
    assert (await client.send(race, 0, b"late", 4))[0] == 412
    opening = params | {"uploadType": "resumable"}
    assert (await client.ask("POST", client.uploads, params=opening, json={}))[0] == 412
    assert server.gcs.objects(BUCKET)["a"].content.bytes() == b"1"
    params["ifGenerationMatch"] = stored["generation"]
    status, _, newer = await client.ask("POST", client.uploads, params=params, data=b"3")
    assert status == 200
    assert int(newer["generation"]) > int(stored["generation"])
    old = {"ifGenerationMatch": stored["generation"]}
    assert (await client.ask("DELETE", client.url("a"), params=old))[0] == 412


async def test_names_that_gcs_refuses(server: StrictServer, client: Client) -> None:
    for name in ("a\nb", "a\rb", "", ".", "..", "ä" * 513):
        params = {"uploadType": "resumable", "name": name}
        assert (await client.ask("POST", client.uploads, params=params, json={"name": name}))[0] == 400
    assert server.gcs.sessions == {}


async def test_sessions_that_end(server: StrictServer, client: Client) -> None:
    uri = await client.open()
    assert (await client.bare("DELETE", uri))[0] == 499
    assert (await client.query(uri, 5))[0] == 404
    uri = await client.open()
    assert server.call(lambda: server.gcs.forget_sessions(BUCKET)) == 1
    assert (await client.send(uri, 0, b"abc", 3))[0] == 404
    uri = await client.open()
    gone = Fault(Kind.STATUS, operation="ResumableChunk", key="tag 1/*", status=410)
    with server.faults.expected(gone):
        status, _, body = await client.send(uri, 0, b"abc", 3)
    assert (status, reason(body)) == (410, "gone")


async def test_a_chunk_that_breaks_off_leaves_whole_quanta(server: StrictServer, client: Client) -> None:
    data = os.urandom(3 * QUANTUM)
    uri = await client.open()
    with (
        server.faults.expected(Fault(Kind.RESET_BODY, after_bytes=2 * QUANTUM + 7)),
        pytest.raises(aiohttp.ClientError),
    ):
        await client.send(uri, 0, data, len(data))
    status, headers, _ = await client.query(uri, len(data))
    assert (status, headers["Range"]) == (308, f"bytes=0-{2 * QUANTUM - 1}")
    status, _, stored = await client.send(uri, 2 * QUANTUM, data[2 * QUANTUM :], len(data))
    assert (status, stored["crc32c"]) == (200, crc32c(data))
    assert stored["md5Hash"] == base64.b64encode(hashlib.md5(data).digest()).decode()
    assert server.gcs.objects(BUCKET)[NAME].content.bytes() == data


async def test_buckets_permissions_and_ranges(server: StrictServer, client: Client) -> None:
    bucket = f"{server.gcs_url}/storage/v1/b"
    assert (await client.ask("GET", f"{bucket}/made"))[0] == 404
    assert (await client.ask("POST", bucket, params={"project": "p"}, json={"name": "made"}))[0] == 200
    assert (await client.ask("POST", bucket, params={"project": "p"}, json={"name": "made"}))[0] == 409
    params = {"uploadType": "media", "name": NAME}
    await client.ask("POST", client.uploads, params=params, data=b"0123456789")
    media = URL(client.url(NAME) + "?alt=media", encoded=True)
    status, headers, body = await client.ask("GET", str(media), headers={"Range": "bytes=2-4"})
    assert (status, body, headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert (await client.ask("GET", str(media), headers={"Range": "bytes=10-"}))[0] == 416
    account = server.gcs.auth.add_account()
    account.denied = {"storage.objects.list"}
    assert (await client.ask("GET", client.url("missing")))[0] == 403
    account.denied = {"storage.objects.create"}
    assert (await client.ask("POST", client.uploads, params=params, data=b"x"))[0] == 403


async def test_signed_urls(server: StrictServer, client: Client, tmp_path: Path) -> None:
    params = {"uploadType": "media", "name": NAME}
    await client.ask("POST", client.uploads, params=params, data=b"content")
    key_file = server.gcs.write_credentials(tmp_path / "key.json")
    session: Any = client.session
    token = Token(service_file=str(key_file), scopes=["x"], session=session)
    storage = Storage(token=token, session=session, api_root=server.gcs_url, api_is_dev=False)
    blob = Blob(storage.get_bucket(BUCKET), NAME, {"size": "7"})
    url = (await blob.get_signed_url(60)).replace("https://storage.googleapis.com", server.gcs_url)

    async def fetch(address: str) -> tuple[int, bytes]:
        async with client.session.get(URL(address, encoded=True)) as answer:
            return answer.status, await answer.read()

    assert await fetch(url) == (200, b"content")
    assert (await fetch(url.replace("Expires=60", "Expires=61")))[0] == 403
    server.clock.offset = 61
    assert (await fetch(url))[0] == 400
