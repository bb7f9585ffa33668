"""What Azure Blob Storage's requests carry, as its REST reference names it.

Headers are given by their documented names rather than through the library's models, so that Put Blob
and Put Block List take the same ones.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Self
from urllib.parse import quote

from uploaderd.errors import Fault
from uploaderd.model import TOKEN_METADATA, ObjectSpec, Token
from uploaderd.provider import Body

_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_]")


def block_id(token: Token, number: int) -> str:
    """The id of a part's block: 39 characters, 52 in base64 (64 bytes are allowed before encoding).

    All ids of one blob must have the same length, whichever version of this program staged them: the
    form never changes. The token in it keeps blocks of another content apart.
    """
    return f"{token}-{number:06d}"


def part_number(token: Token, identifier: str) -> int | None:
    """Reverse of `block_id`; None for a block that belongs to another token or another program."""
    mine, _, number = identifier.rpartition("-")
    return int(number) if mine == token and re.fullmatch(r"[0-9]{6}", number) else None


def metadata_name(name: str) -> str:
    """A metadata name that Azure takes: a C# identifier, here of ASCII; the rest becomes `_`."""
    name = _NOT_IN_A_NAME.sub("_", name)
    return f"_{name}" if name[:1].isdigit() or not name else name


def metadata_value(value: str) -> str:
    """A value as an HTTP header can carry it: percent-encoded UTF-8 but for printable ASCII.

    `%` itself is encoded too, so that decoding (`urllib.parse.unquote`) always gives the value back.
    Spaces stay, but those at the ends, which a header would lose.
    """
    printable = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
    text = quote(value, safe=printable)
    inner = text.strip(" ")
    before = len(text) - len(text.lstrip(" ")) if inner else len(text)
    return "%20" * before + inner + "%20" * (len(text) - before - len(inner))


def write_headers(spec: ObjectSpec, tier: str | None, tags: Mapping[str, str]) -> dict[str, str]:
    """What makes the blob what `spec` says, in the request that makes it visible.

    The precondition is among them: nothing there (409 BlobAlreadyExists), or exactly the blob that may
    be replaced (412 ConditionNotMet).
    """
    headers = {
        f"x-ms-meta-{metadata_name(name)}": metadata_value(value) for name, value in spec.metadata.items()
    }
    headers[f"x-ms-meta-{TOKEN_METADATA}"] = spec.token
    headers["x-ms-blob-content-type"] = spec.content_type
    if tier is not None:
        headers["x-ms-access-tier"] = tier.capitalize()
    if tags:
        headers["x-ms-tags"] = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in tags.items())
    if spec.replaces is None:
        headers["If-None-Match"] = "*"
    else:
        headers["If-Match"] = spec.replaces
    return headers


def crc64_text(value: int) -> str:
    """`x-ms-content-crc64`: base64 of eight bytes, little-endian, unlike S3's of the same CRC."""
    return base64.b64encode(value.to_bytes(8, "little")).decode()


def told_crc64(headers: Mapping[str, str]) -> int | None:
    """The CRC-64/NVME that a reply tells; None where the endpoint tells none (Azurite)."""
    text = headers.get("x-ms-content-crc64")
    return int.from_bytes(base64.b64decode(text), "little") if text else None


def told_md5(headers: Mapping[str, str]) -> bytes | None:
    """The MD5 that a reply to a write tells; None where it tells none."""
    text = headers.get("Content-MD5")
    return base64.b64decode(text) if text else None


def reply_headers(response: Any, _body: object, _parsed: object) -> Mapping[str, str]:
    """For the library's `cls` argument: a reply's headers as they came."""
    headers: Mapping[str, str] = response.http_response.headers
    return headers


async def md5_of(body: Body) -> bytes:
    """MD5 of a range that was not sent yet."""
    digest = await body.digest()
    if digest.md5 is not None:
        return digest.md5
    # Made before `limits.wants_md5` turned true.
    md5 = hashlib.md5(usedforsecurity=False)
    async for window in body:
        await asyncio.to_thread(md5.update, window)
    return md5.digest()


class Sending:
    """A body on its way through azure-core and aiohttp, which iterate it as it is: no copy, no buffer.

    aiohttp turns whatever the body raises into a ClientConnectionError of its own; `error` keeps what
    it really was.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self.error: Exception | None = None
        self._whole = len(body) == 0

    def __deepcopy__(self, memo: object) -> Self:
        # azure-core's retry history copies a failed request, retried or not. A copy of an open file
        # would be none, and copying tears at the event loop that the file's reads hang on.
        return self

    def __len__(self) -> int:
        # azure-core asks whether there is a body at all.
        return len(self._body)

    async def __aiter__(self) -> AsyncIterator[bytes | bytearray]:
        self._whole = False
        try:
            async for window in self._body:
                yield window
        except Exception as error:
            self.error = error
            raise
        self._whole = True

    def must_be_whole(self, doing: str) -> None:
        """Raises Fault where a success was answered before all was sent: nobody can have it all."""
        if not self._whole:
            raise Fault(f"{doing} failed: it was answered before all of it was sent", code="EarlyReply")
