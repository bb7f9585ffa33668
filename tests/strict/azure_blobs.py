"""Whole blobs: Put, Get, properties, delete, list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.strict.azure_body import check_md5_property, crc64_text, md5_text, receive
from tests.strict.azure_state import Blob, Container, document, metadata_of, new_etag, properties_of, tag
from tests.strict.s3_objects import exchange_headers
from tests.strict.s3_state import http_date
from tests.strict.wire import Exchange, RefusalError, Reply, parse_range

if TYPE_CHECKING:
    from tests.strict.azure import Azure


class Blobs:
    """Operations on blobs as wholes."""

    def __init__(self, azure: Azure) -> None:
        self._azure = azure

    def operations(self) -> dict[str, Callable[[Exchange, Container], Awaitable[Reply]]]:
        return {
            "PutBlob": self.put,
            "GetBlob": self.get,
            "GetBlobProperties": self.get,
            "DeleteBlob": self.delete,
        }

    async def put(self, exchange: Exchange, container: Container) -> Reply:
        headers = exchange_headers(exchange)
        if headers.get("x-ms-blob-type") != "BlockBlob":
            raise RefusalError(400, "InvalidHeaderValue", "x-ms-blob-type", HeaderName="x-ms-blob-type")
        check_conditions(container, exchange)
        content = await receive(exchange, headers, self._azure.store, self._azure.max_blob, md5=True)
        check_md5_property(headers, content)
        check_conditions(container, exchange)  # another may have been quicker while the body came
        blob = new_blob(self._azure, container, exchange, headers)
        properties = {"content-md5": md5_text(content)} | blob.properties  # computed here when none was given
        blob = replace(blob, content=content, properties=properties)
        answer = written(exchange, container, blob)
        if "content-md5" in headers or not self._azure.crc64:
            answer["content-md5"] = md5_text(content)
        if self._azure.crc64:
            answer["x-ms-content-crc64"] = crc64_text(content)
        return Reply(201, answer)

    async def get(self, exchange: Exchange, container: Container) -> Reply:
        blob = container.blobs.get(exchange.call.key)
        if wanted := exchange.query.get("versionid"):
            versions = container.versions.get(exchange.call.key, [])
            blob = next((item for item in versions if item.version_id == wanted), None)
        if blob is None:
            raise RefusalError(404, "BlobNotFound", "The specified blob does not exist.")
        match, none_match = exchange.header("if-match"), exchange.header("if-none-match")
        if match and match not in ("*", blob.etag):
            raise RefusalError(
                412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."
            )
        if none_match in ("*", blob.etag):
            return Reply(304, {"etag": blob.etag, "x-ms-error-code": "ConditionNotMet"})
        size = blob.content.size
        span = parse_range(exchange.header("x-ms-range") or exchange.header("range"), size)
        reply = Reply(200, _describe(blob), content=blob.content, stop=size)
        if span is not None:
            reply.status, (reply.start, reply.stop) = 206, span
            reply.headers["content-range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
            if "content-md5" in reply.headers:  # that header would speak of the range
                reply.headers["x-ms-blob-content-md5"] = reply.headers.pop("content-md5")
        return reply

    async def delete(self, exchange: Exchange, container: Container) -> Reply:
        blob = container.blobs.get(exchange.call.key)
        if blob is None:
            raise RefusalError(404, "BlobNotFound", "The specified blob does not exist.")
        match = exchange.header("if-match")
        if match and match not in ("*", blob.etag):
            raise RefusalError(
                412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."
            )
        del container.blobs[exchange.call.key]
        if not container.versioning:
            container.versions.pop(exchange.call.key, None)
        return Reply(202, {"x-ms-delete-type-permanent": str(not container.versioning).lower()})

    async def list(self, exchange: Exchange, container: Container) -> Reply:
        query = exchange.query
        prefix, marker = query.get("prefix", ""), query.get("marker", "")
        limit = int(query.get("maxresults", "5000"))
        names = set(container.blobs)
        if "uncommittedblobs" in query.get("include", ""):
            names |= {key for key, blocks in container.uncommitted.items() if blocks}
        found = sorted(name for name in names if name.startswith(prefix) and name >= marker)
        rows = "".join(_row(name, container.blobs.get(name)) for name in found[:limit])
        after = tag("NextMarker", found[limit]) if len(found) > limit else "<NextMarker />"
        head = tag("Prefix", prefix) + tag("MaxResults", limit)
        body = f'<EnumerationResults ContainerName="{container.name}">{head}<Blobs>{rows}</Blobs>{after}'
        return Reply(200, {"content-type": "application/xml"}, document(body + "</EnumerationResults>"))


def check_conditions(container: Container, exchange: Exchange) -> None:
    """If-Match and If-None-Match of a write.

    Raises RefusalError 409 BlobAlreadyExists or 412 ConditionNotMet.
    """
    blob = container.blobs.get(exchange.call.key)
    match, none_match = exchange.header("if-match"), exchange.header("if-none-match")
    if none_match == "*" and blob is not None:
        raise RefusalError(409, "BlobAlreadyExists", "The specified blob already exists.")
    unmet = match and (blob is None or match not in ("*", blob.etag))
    if unmet or (none_match and blob is not None and none_match == blob.etag):
        raise RefusalError(
            412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."
        )


def new_blob(azure: Azure, container: Container, exchange: Exchange, headers: dict[str, str]) -> Blob:
    """A blob as the headers of Put Blob or Put Block List describe it, still without content."""
    key, now = exchange.call.key, azure.clock.now()
    before = container.blobs.get(key)
    properties = properties_of(headers)
    if exchange.call.operation == "PutBlockList":  # its Content-Type speaks of the XML
        properties["content-type"] = headers.get("x-ms-blob-content-type", "application/octet-stream")
    return Blob(
        key=key,
        content=azure.store.content(b""),
        etag=new_etag(),
        created=before.created if before else now,
        modified=now,
        properties=properties,
        metadata=metadata_of(headers),
        tags=headers.get("x-ms-tags", ""),
        tier=headers.get("x-ms-access-tier", "Hot"),
        version_id=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f7Z") if container.versioning else None,
    )


def written(exchange: Exchange, container: Container, blob: Blob) -> dict[str, str]:
    """Make the blob visible, drop what was staged for it, and say what the reply's headers say of it."""
    content = exchange.spoil(blob.content)
    if content is not None:
        container.put(replace(blob, content=content))
    container.uncommitted.pop(blob.key, None)
    headers = {
        "etag": blob.etag,
        "last-modified": http_date(blob.modified),
        "x-ms-request-server-encrypted": "true",
    }
    if blob.version_id:
        headers["x-ms-version-id"] = blob.version_id
    return headers


def _describe(blob: Blob) -> dict[str, str]:
    headers = dict(blob.properties) | {
        "etag": blob.etag,
        "last-modified": http_date(blob.modified),
        "x-ms-creation-time": http_date(blob.created),
        "x-ms-blob-type": "BlockBlob",
        "x-ms-lease-status": "unlocked",
        "x-ms-lease-state": "available",
        "x-ms-server-encrypted": "true",
        "x-ms-access-tier": blob.tier,
        "accept-ranges": "bytes",
    }
    headers |= {f"x-ms-meta-{name}": value for name, value in blob.metadata.items()}
    if blob.version_id:
        headers |= {"x-ms-version-id": blob.version_id, "x-ms-is-current-version": "true"}
    if blob.tags:
        headers["x-ms-tag-count"] = str(blob.tags.count("&") + 1)
    return headers


def _row(name: str, blob: Blob | None) -> str:
    if blob is None:  # blocks were staged, nothing was committed
        properties = tag("Content-Length", 0) + tag("BlobType", "BlockBlob")
    else:
        properties = (
            tag("Last-Modified", http_date(blob.modified))
            + tag("Etag", blob.etag.strip('"'))
            + tag("Content-Length", blob.content.size)
            + tag("Content-Type", blob.properties["content-type"])
            + tag("Content-MD5", blob.properties.get("content-md5", ""))
            + tag("BlobType", "BlockBlob")
            + tag("AccessTier", blob.tier)
        )
    return f"<Blob>{tag('Name', name)}<Properties>{properties}</Properties></Blob>"
