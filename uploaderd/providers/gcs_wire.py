"""One request to Google Cloud Storage and its answer: addresses, connection, bodies that are streamed.

TLS verification and login are on whatever `endpoint_url` is: gcloud-aio-storage's `Storage` would turn
both off for any address of its own (`api_is_dev`), and for all when STORAGE_EMULATOR_HOST is set. So
only its session is used here, and addresses are made by this module.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from gcloud.aio.auth import AioSession
from yarl import URL

from uploaderd import __version__, checksum
from uploaderd.config import GcsProvider
from uploaderd.errors import Fault
from uploaderd.model import TOKEN_METADATA, ObjectInfo, ObjectSpec, Token
from uploaderd.provider import Body
from uploaderd.providers.gcs_faults import SPOKEN, Answer, Place, answered, unanswered
from uploaderd.providers.gcs_login import Login, load_ca_file

GOOGLE: Final = "https://storage.googleapis.com"

WINDOW: Final = 256 * 1024
"""Bytes of an object that are read at once."""

_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=15, sock_connect=10, sock_read=60)
"""Seconds. `sock_read` runs from the end of the request's body, so a slow part is the caller's to watch."""


class Halves:
    """A body in two halves, one after the other: what is sent now, and the rest.

    aiohttp turns whatever a body raises into a ClientConnectionError of its own; `error` keeps what it
    really was.
    """

    def __init__(self, body: Body, first: int) -> None:
        self._windows = aiter(body)
        self._left = first
        self._over = b""
        self.error: Exception | None = None

    async def first(self) -> AsyncIterator[bytes | bytearray]:
        """The first half. To be iterated to its end before `rest`."""
        try:
            while self._left:
                window = await anext(self._windows)
                if len(window) > self._left:
                    window, self._over = window[: self._left], bytes(window[self._left :])
                self._left -= len(window)
                yield window
        except Exception as error:
            self.error = error
            raise

    async def rest(self) -> bytes:
        """The second half, in memory; the body's checksum is known after it."""
        kept = bytearray(self._over)
        async for window in self._windows:
            kept += window
        return bytes(kept)


class Wire:
    """The connections of one provider, kept for its life."""

    def __init__(self, place: Place, config: GcsProvider, login: Login) -> None:
        self._place = place
        self._config = config
        self._login = login
        self._opening = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self.root = (config.endpoint_url or GOOGLE).rstrip("/")

    def object_url(self, key: str, **query: str) -> str:
        """Of the JSON API. Every byte of a key but unreserved characters is encoded, `/` too."""
        return f"{self.root}/storage/v1/b/{quote(self._place.bucket)}/o/{quote(key, safe='')}" + _query(query)

    def bucket_url(self, **query: str) -> str:
        return f"{self.root}/storage/v1/b/{quote(self._place.bucket)}" + _query(query)

    def upload_url(self, **query: str) -> str:
        return f"{self.root}/upload/storage/v1/b/{quote(self._place.bucket)}/o" + _query(query)

    async def call(
        self,
        method: str,
        url: str,
        act: str,
        *,
        fine: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: Halves | None = None,
        data: AsyncIterator[bytes | bytearray] | bytes | None = None,
        in_session: bool = False,
    ) -> Answer:
        """One request, tried once.

        `act` is what is being tried, for messages. Statuses in `fine` are returned, all others are raised
        as faults. `data` hands the windows of `body` on: what reading those raised is raised again.
        `in_session`: `url` is a session's address, which is a secret and all the login that it needs.
        """
        sent = dict(headers or {}) if in_session else {**await self._login.headers(), **(headers or {})}
        try:
            async with await self._send(method, url, sent, data) as reply:
                answer = Answer(reply.status, reply.headers, await reply.read(), in_session)
        except SPOKEN as error:
            if body is not None and body.error is not None:
                raise body.error from None
            # Without its cause: aiohttp's text can hold the request's address.
            raise unanswered(error, self._place, act) from None
        if answer.status in fine:
            return answer
        if answer.status == 401 and not in_session:
            self._login.forget()
        raise self.fault(answer, act)

    def fault(self, answer: Answer, act: str) -> Fault:
        return answered(answer, self._place, self._login.text, act)

    @asynccontextmanager
    async def stream(self, url: str, act: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The content behind an address, in windows."""
        headers = await self._login.headers()
        try:
            reply = await self._send("GET", url, headers)
        except SPOKEN as error:
            raise unanswered(error, self._place, act) from None
        async with reply:
            if reply.status != 200:
                raise self.fault(Answer(reply.status, reply.headers, await self._rest(reply, act)), act)
            yield self._windows(reply, act)

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: AsyncIterator[bytes | bytearray] | bytes | None = None,
    ) -> aiohttp.ClientResponse:
        session = AioSession(await self._connection())  # type: ignore[arg-type]  # that of its blocking edition
        return await session.request(
            method,
            URL(url, encoded=True),  # type: ignore[arg-type]  # a string would be quoted anew
            headers,
            auto_raise_for_status=False,
            data=data,
            # A 308 of the resumable protocol is no redirect; and no login follows one elsewhere.
            allow_redirects=False,
        )

    async def _rest(self, reply: aiohttp.ClientResponse, act: str) -> bytes:
        try:
            return await reply.read()
        except SPOKEN as error:
            raise unanswered(error, self._place, act) from None

    async def _windows(self, reply: aiohttp.ClientResponse, act: str) -> AsyncIterator[bytes]:
        windows = aiter(reply.content.iter_chunked(WINDOW))
        while True:
            try:
                window = await anext(windows)
            except StopAsyncIteration:
                return
            except SPOKEN as error:
                raise unanswered(error, self._place, act) from None
            yield window

    async def _connection(self) -> aiohttp.ClientSession:
        """Made at the first call, so that a missing `ca_file` is that call's fault and heals."""
        async with self._opening:
            if self._session is None:
                # Instead of the system's certificates, where the operator names some.
                if self._config.ca_file:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    await load_ca_file(context, self._config.ca_file, self._place)
                else:
                    context = await asyncio.to_thread(ssl.create_default_context)
                proxy = self._config.proxy
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        ssl=context, limit=self._config.max_uploads * self._config.max_parts + 4
                    ),
                    timeout=_TIMEOUT,
                    proxy=proxy.get_secret_value() if proxy else None,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    # Objects come as they are stored, not as a server unpacks or packs them.
                    headers={"User-Agent": f"uploaderd/{__version__}", "Accept-Encoding": "identity"},
                )
        return self._session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


def resource_of(spec: ObjectSpec, storage_class: str | None) -> dict[str, Any]:
    """The JSON that makes the object what `spec` says. It is UTF-8: metadata values go as they are."""
    resource: dict[str, Any] = {
        "name": spec.key,
        "contentType": spec.content_type,
        "metadata": {**spec.metadata, TOKEN_METADATA: spec.token},
    }
    if storage_class is not None:
        resource["storageClass"] = storage_class
    return resource


def write_query(spec: ObjectSpec, kms_key_name: str | None) -> dict[str, str]:
    """The precondition (generation 0: nothing is there) and the key to encrypt with."""
    query = {"ifGenerationMatch": spec.replaces or "0"}
    if kms_key_name is not None:
        query["kmsKeyName"] = kms_key_name
    return query


def info_of(answer: Answer, key: str) -> ObjectInfo:
    """An object as its JSON describes it. Its generation is what a precondition compares, and its version.

    `crc32c` and `md5Hash` are computed by the service from what it stored.
    """
    resource = answer.json
    generation = str(resource["generation"]) if resource.get("generation") else None
    token = (resource.get("metadata") or {}).get(TOKEN_METADATA)
    crc32c, md5 = resource.get("crc32c"), resource.get("md5Hash")
    return ObjectInfo(
        key=key,
        size=int(resource.get("size", -1)),
        etag=resource.get("etag"),
        version_id=generation,
        generation=generation,
        token=Token(str(token)) if token else None,
        crc32c=checksum.parse_b64(crc32c) if crc32c else None,
        md5=checksum.parse_b64(md5).to_bytes(16, "big") if md5 else None,
    )


def _query(query: Mapping[str, str]) -> str:
    return f"?{urlencode(query, quote_via=quote)}" if query else ""
