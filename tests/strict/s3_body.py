"""A body sent to S3: unwrapped, counted, and checked against everything that the client said of it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.strict.aws_chunked import AwsChunked
from tests.strict.s3_state import ALGORITHMS, b64, one_of
from tests.strict.store import Content, Store, Writer
from tests.strict.wire import Exchange, RefusalError

_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


@dataclass(frozen=True)
class Received:
    """A body that is what the client said it was. `checksum` is what the client sent, if any."""

    content: Content
    checksum: tuple[str, str] | None


def claimed_checksum(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """The x-amz-checksum-* header: algorithm and base64 text."""
    return one_of(
        (name, headers[f"x-amz-checksum-{name}"])
        for name in ALGORITHMS
        if f"x-amz-checksum-{name}" in headers
    )


async def receive(
    exchange: Exchange, headers: Mapping[str, str], payload: str, store: Store, *, limit: int, also: str = ""
) -> Received:
    """Read the whole body. `payload` is the signed payload hash, `limit` the most bytes allowed, `also` a
    further digest that the operation needs.

    Raises RefusalError: MissingContentLength, EntityTooLarge, BadDigest, InvalidDigest, InvalidRequest,
    XAmzContentSHA256Mismatch, IncompleteBody.
    """
    if payload.startswith("STREAMING-") and payload != _TRAILER:
        raise RefusalError(501, "NotImplemented", f"{payload} is not implemented here")
    if payload not in (_TRAILER, "UNSIGNED-PAYLOAD") and not re.fullmatch("[0-9a-f]{64}", payload):
        raise RefusalError(
            400, "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a hash, ..."
        )
    size = _announced_size(headers, chunked=payload == _TRAILER)
    if size > limit:
        raise RefusalError(
            400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size"
        )
    claimed = claimed_checksum(headers)
    trailer = headers.get("x-amz-trailer", "").removeprefix("x-amz-checksum-")
    asked = headers.get("x-amz-sdk-checksum-algorithm", "").lower()
    if asked and asked not in (trailer, claimed[0] if claimed else ""):
        raise RefusalError(
            400,
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer "
            "headers were found.",
        )
    if trailer and trailer not in ALGORITHMS:
        raise RefusalError(
            400, "InvalidRequest", "The value specified in the x-amz-trailer header is not supported"
        )
    wanted = {"md5", also, trailer, claimed[0] if claimed else ""} - {""}
    if payload not in (_TRAILER, "UNSIGNED-PAYLOAD"):
        wanted.add("sha256")
    writer = store.writer(*wanted)
    try:
        chunked = await _fill(exchange, writer, chunked=payload == _TRAILER)
        if writer.size != size:
            raise RefusalError(400, "IncompleteBody", "You did not provide the number of bytes specified")
        if chunked is not None and trailer:
            claimed = (trailer, chunked.trailers.get(f"x-amz-checksum-{trailer}", ""))
        _check(writer, headers, payload, claimed)
    except BaseException:
        writer.discard()
        raise
    return Received(writer.finish(), claimed)


def _announced_size(headers: Mapping[str, str], *, chunked: bool) -> int:
    text = headers.get("x-amz-decoded-content-length" if chunked else "content-length")
    if text is None:
        raise RefusalError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
    return int(text)


async def _fill(exchange: Exchange, writer: Writer, *, chunked: bool) -> AwsChunked | None:
    decoder = AwsChunked() if chunked else None
    async for data in exchange.body():
        writer.write(data if decoder is None else decoder.feed(data))
    if decoder is not None and not decoder.done:
        raise RefusalError(400, "IncompleteBody", "The aws-chunked body has no end")
    return decoder


def _check(writer: Writer, headers: Mapping[str, str], payload: str, claimed: tuple[str, str] | None) -> None:
    digests = writer.digests()
    if "sha256" in digests and len(payload) == 64 and digests["sha256"].hex() != payload:
        raise RefusalError(
            400,
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )
    if "content-md5" in headers:
        try:
            md5 = base64.b64decode(headers["content-md5"], validate=True)
        except binascii.Error:
            md5 = b""
        if len(md5) != 16:
            raise RefusalError(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")
        if md5 != digests["md5"]:
            raise RefusalError(
                400, "BadDigest", "The Content-MD5 you specified did not match what we received."
            )
    if claimed is not None:
        check_claim(claimed, digests[claimed[0]])


def check_claim(claimed: tuple[str, str], actual: bytes) -> None:
    """Raises RefusalError InvalidRequest for a value of the wrong shape, BadDigest for a wrong one."""
    name, text = claimed
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        value = b""
    if len(value) != len(actual):
        raise RefusalError(400, "InvalidRequest", f"Value for x-amz-checksum-{name} header is invalid.")
    if text != b64(actual):
        raise RefusalError(
            400, "BadDigest", f"The {name.upper()} you specified did not match the calculated checksum."
        )
