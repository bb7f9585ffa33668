"""A body sent to Azure, checked against the transit hashes that came with it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from tests.strict.store import Content, Store
from tests.strict.wire import Exchange, RefusalError


def crc64_text(content: Content) -> str:
    """x-ms-content-crc64: CRC-64/NVME, eight bytes little-endian, base64."""
    return base64.b64encode(content.digests["crc64nvme"][::-1]).decode()


def md5_text(content: Content) -> str:
    return base64.b64encode(content.digests["md5"]).decode()


async def receive(
    exchange: Exchange, headers: Mapping[str, str], store: Store, limit: int, *, md5: bool = False
) -> Content:
    """Read the whole body, at most `limit` bytes; its MD5 too where `md5` or the client asks for it.

    Raises RefusalError: MissingContentLengthHeader, RequestBodyTooLarge, Md5Mismatch, Crc64Mismatch,
    InvalidHeaderValue.
    """
    if "content-length" not in headers:
        raise RefusalError(411, "MissingContentLengthHeader", "The Content-Length header was not specified.")
    if int(headers["content-length"]) > limit:
        raise RefusalError(
            413,
            "RequestBodyTooLarge",
            "The request body is too large and exceeds the maximum permissible limit.",
            MaxLimit=str(limit),
        )
    if "content-md5" in headers and "x-ms-content-crc64" in headers:
        raise RefusalError(400, "InvalidInput", "Both x-ms-content-crc64 and Content-MD5 are present.")
    writer = store.writer(*(["md5"] if md5 or "content-md5" in headers else []))
    try:
        async for data in exchange.body():
            writer.write(data)
    except BaseException:
        writer.discard()
        raise
    content = writer.finish()
    if "content-md5" in headers:
        _compare(headers, "content-md5", md5_text(content), "Md5Mismatch", 16)
    _compare(headers, "x-ms-content-crc64", crc64_text(content), "Crc64Mismatch", 8)
    return content


def check_md5_property(headers: Mapping[str, str], content: Content) -> None:
    """Put Blob checks x-ms-blob-content-md5 against the content; Put Block List does not (azcopy#715)."""
    _compare(headers, "x-ms-blob-content-md5", md5_text(content), "Md5Mismatch", 16)


def _compare(headers: Mapping[str, str], name: str, actual: str, code: str, size: int) -> None:
    claimed = headers.get(name)
    if claimed is None:
        return
    try:
        length = len(base64.b64decode(claimed, validate=True))
    except binascii.Error:
        length = -1
    if length != size:
        raise RefusalError(
            400,
            "InvalidHeaderValue",
            "The value for one of the HTTP headers is not in the correct format.",
            HeaderName=name,
            HeaderValue=claimed,
        )
    if claimed != actual:
        raise RefusalError(
            400,
            code,
            f"The {name} value specified in the request did not match with the value calculated by the "
            "server.",
            UserSpecified=claimed,
            ServerCalculated=actual,
        )
