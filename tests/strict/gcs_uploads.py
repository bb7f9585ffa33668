"""Uploads to GCS: media, multipart, and the resumable protocol (guide "Perform resumable uploads")."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.strict.gcs_state import (
    QUANTUM,
    GcsBucket,
    GcsObject,
    Session,
    check_hashes,
    check_name,
    check_preconditions,
    hash_claims,
    json_object,
)
from tests.strict.s3_state import random_id
from tests.strict.store import Content, Writer, joined
from tests.strict.wire import DroppedError, Exchange, PeerLeftError, RefusalError, Reply

if TYPE_CHECKING:
    from tests.strict.gcs import Gcs

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_PRECONDITIONS = ("ifGenerationMatch", "ifGenerationNotMatch")
_OWN_FIELDS = (
    "contentType",
    "metadata",
    "storageClass",
    "cacheControl",
    "contentDisposition",
    "kmsKeyName",
    "customTime",
)


class Uploads:
    """Everything that ends in a new object."""

    def __init__(self, gcs: Gcs) -> None:
        self._gcs = gcs

    async def insert(self, exchange: Exchange, bucket: GcsBucket) -> Reply:
        """One request: uploadType=media, uploadType=multipart, or PUT to a signed URL."""
        query = exchange.query
        claims = hash_claims(exchange.header("x-goog-hash"))
        if md5 := exchange.header("content-md5"):
            claims["md5"] = md5
        content = await self._whole(exchange)
        fields: dict[str, Any] = {"contentType": exchange.header("content-type", "application/octet-stream")}
        name = exchange.call.key
        if query.get("uploadType") == "multipart":
            fields, content = self._related(exchange, content)
            name = str(fields.get("name", name))
            exchange.call = replace(exchange.call, key=name)
            claims = {}  # they would speak of the envelope
        elif query.get("uploadType") not in ("media", None):
            raise RefusalError(400, "invalid", f"Invalid uploadType {query.get('uploadType')}")
        check_name(name)
        check_preconditions(bucket, name, query)
        check_hashes(claims | _claimed_in(fields), content.digests)
        item = self._new(bucket, name, content, fields)
        return self._gcs.json(200, self._gcs.commit(exchange, bucket, name, item).resource(self._gcs.root))

    async def _whole(self, exchange: Exchange) -> Content:
        writer = self._gcs.store.writer("md5")
        try:
            async for data in exchange.body():
                writer.write(data)
        except BaseException:
            writer.discard()
            raise
        return writer.finish()

    def _related(self, exchange: Exchange, content: Content) -> tuple[dict[str, Any], Content]:
        """The metadata and the media of a multipart/related body (RFC 2387)."""
        found = re.search(r'boundary="?([^";]+)"?', exchange.header("content-type"))
        mark = b"--" + (found.group(1) if found else "").encode()
        body = content.bytes()
        end = body.rfind(b"\r\n" + mark + b"--")
        first, _, second = body[:end].partition(b"\r\n" + mark + b"\r\n")
        if found is None or end < 0 or not first.startswith(mark) or not second:
            raise RefusalError(400, "badContent", "A multipart/related body has metadata, then media")
        fields = json_object(first.partition(b"\r\n\r\n")[2])
        head, _, media = second.partition(b"\r\n\r\n")
        kind = re.search(rb"(?i)^content-type:\s*([^\r;]+)", head, re.MULTILINE)
        fields.setdefault("contentType", kind.group(1).decode() if kind else "application/octet-stream")
        return fields, self._gcs.store.content(media, "md5")

    async def open(self, exchange: Exchange, bucket: GcsBucket) -> Reply:
        """Open a resumable upload; the answer's Location is a bearer secret."""
        query = exchange.query
        fields = json_object(b"".join([data async for data in exchange.body()]))
        name = str(fields.get("name", query.get("name", "")))
        exchange.call = replace(exchange.call, key=name)
        check_name(name)
        check_preconditions(bucket, name, query)
        fields.setdefault("contentType", exchange.header("x-upload-content-type", "application/octet-stream"))
        session = Session(
            id=random_id(48),
            bucket=bucket.name,
            name=name,
            fields=fields,
            claims=_claimed_in(fields),
            preconditions={key: query[key] for key in _PRECONDITIONS if key in query},
            opened=self._gcs.clock.now(),
            total=int(exchange.header("x-upload-content-length", "-1")),
        )
        self._gcs.sessions[session.id] = session
        location = (
            f"{self._gcs.root}/upload/storage/v1/b/{quote(bucket.name)}/o?uploadType=resumable"
            f"&name={quote(name, safe='')}&upload_id={session.id}"
        )
        return Reply(200, {"location": location, "x-guploader-uploadid": session.id})

    async def resume(self, exchange: Exchange) -> Reply:
        """A chunk, a question or a cancellation at a session's URI."""
        session = self._gcs.sessions.get(exchange.call.session)
        if (
            session is None
            or session.bucket != exchange.call.bucket
            or session.bucket not in self._gcs.buckets
        ):
            raise RefusalError(404, "notFound", "Not Found")
        if exchange.call.operation == "CancelResumable":
            del self._gcs.sessions[session.id]
            return Reply(499)
        if session.done is not None:
            return self._gcs.json(200, session.done.resource(self._gcs.root))
        text = exchange.header("content-range")
        if text.startswith("bytes */"):
            total = text.removeprefix("bytes */")
            if total != "*":
                self._set_total(session, int(total))
            if session.total != session.held or exchange.header("content-length", "0") != "0":
                return _incomplete(session)
            return self._finish(exchange, session)  # `bytes */N` with all N bytes held ends the upload
        return await self._chunk(exchange, session, text)

    async def _chunk(self, exchange: Exchange, session: Session, text: str) -> Reply:
        start, stop, total = _span(exchange, text)
        if total is not None:
            self._set_total(session, total)
        if start > session.held:
            raise RefusalError(
                503,
                "backendError",
                f"Invalid request.  According to the Content-Range header, the upload offset is {start} "
                f"byte(s), which exceeds already uploaded size of {session.held} byte(s).",
            )
        final = total is not None and stop == total
        if not final and (stop - start) % QUANTUM:
            raise RefusalError(
                400,
                "invalid",
                "Invalid request. The number of bytes uploaded is required to be equal or greater than "
                f"262144, except for the final request. The received request contained {stop - start} bytes.",
            )
        skip = session.held - start  # bytes that are held already are ignored
        writer = self._gcs.store.writer()
        try:
            async for data in exchange.body():
                ignored = min(skip, len(data))
                skip -= ignored
                writer.write(data[ignored:])
        except (PeerLeftError, DroppedError):
            self._keep_whole(session, writer)
            raise
        if self._gcs.sessions.get(session.id) is not session:
            raise RefusalError(410, "gone", "The upload session was cancelled")
        session.hold(writer.finish())
        return self._finish(exchange, session) if final else _incomplete(session)

    def _keep_whole(self, session: Session, writer: Writer) -> None:
        content = writer.finish()
        kept = content.size - content.size % QUANTUM
        if kept and self._gcs.keep_after_cut:
            # Its digests are of all that came: they are made again for what stays.
            whole = self._gcs.store.writer()
            for data in content.read(0, kept):
                whole.write(data)
            session.hold(whole.finish())

    def _finish(self, exchange: Exchange, session: Session) -> Reply:
        bucket = self._gcs.buckets[session.bucket]
        content = joined(session.chunks) if len(session.chunks) != 1 else session.chunks[0]
        del self._gcs.sessions[session.id]  # whatever comes of it, this session takes no more bytes
        claims = session.claims | hash_claims(exchange.header("x-goog-hash"))
        digests = content.digests | {"md5": session.md5.digest()}
        check_hashes(claims, digests)
        check_preconditions(bucket, session.name, session.preconditions)
        item = self._new(bucket, session.name, Content(content.slices, digests), session.fields)
        session.done = self._gcs.commit(exchange, bucket, session.name, item)
        self._gcs.sessions[session.id] = session  # a question after a lost reply is answered with the object
        return self._gcs.json(200, session.done.resource(self._gcs.root))

    def _new(self, bucket: GcsBucket, name: str, content: Content, fields: dict[str, Any]) -> GcsObject:
        own = {key: fields[key] for key in _OWN_FIELDS if key in fields}
        return GcsObject(name, bucket.name, content, self._gcs.next_generation(), self._gcs.clock.now(), own)

    @staticmethod
    def _set_total(session: Session, total: int) -> None:
        if session.total not in (-1, total):
            raise RefusalError(
                400, "invalid", f"The upload was opened for {session.total} bytes, not {total}"
            )
        session.total = total


def _span(exchange: Exchange, text: str) -> tuple[int, int, int | None]:
    """Start, stop (exclusive) and total of a chunk; without Content-Range the body is the whole object."""
    length = exchange.header("content-length")
    if not text:
        if not length.isdecimal():
            raise RefusalError(411, "required", "Content-Length is required")
        return 0, int(length), int(length)
    found = _RANGE.fullmatch(text)
    if found is None:
        raise RefusalError(400, "invalid", f"Invalid Content-Range {text!r}")
    start, stop = int(found.group(1)), int(found.group(2)) + 1
    total = None if found.group(3) == "*" else int(found.group(3))
    if stop <= start or (total is not None and stop > total) or (length and int(length) != stop - start):
        raise RefusalError(400, "invalid", f"Content-Range {text!r} does not fit the body or itself")
    return start, stop, total


def _incomplete(session: Session) -> Reply:
    headers = {"range": f"bytes=0-{session.held - 1}"} if session.held else {}
    return Reply(308, headers)


def _claimed_in(fields: dict[str, Any]) -> dict[str, str]:
    claims = {"crc32c": fields.get("crc32c"), "md5": fields.get("md5Hash")}
    return {name: str(value) for name, value in claims.items() if value}
