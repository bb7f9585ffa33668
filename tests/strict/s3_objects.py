"""Buckets and whole objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.strict.s3_body import receive
from tests.strict.s3_state import (
    SSE_HEADERS,
    Bucket,
    StoredObject,
    b64,
    document,
    element,
    encoded,
    http_date,
    iso_date,
    kept_headers,
    random_id,
    user_metadata,
    xml,
)
from tests.strict.sigv4 import Account
from tests.strict.wire import Exchange, RefusalError, Reply, parse_range

if TYPE_CHECKING:
    from tests.strict.s3 import S3

_XML = {"content-type": "application/xml"}
_LOCK_SEEN_BY = {
    "s3:GetObjectRetention": ("x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"),
    "s3:GetObjectLegalHold": ("x-amz-object-lock-legal-hold",),
}
"""HeadObject: "You must have the ... permission" for these headers; without it they are left out."""


class Objects:
    """CreateBucket to DeleteObject."""

    def __init__(self, s3: S3) -> None:
        self._s3 = s3

    def operations(self) -> dict[str, Callable[[Exchange, Account, str], Awaitable[Reply]]]:
        return {
            "ListBuckets": self.list_buckets,
            "CreateBucket": self.create_bucket,
            "DeleteBucket": self.delete_bucket,
            "HeadBucket": self.head_bucket,
            "GetBucketLocation": self.location,
            "ListObjectsV2": self.list_objects,
            "PutObject": self.put,
            "HeadObject": self.get,
            "GetObject": self.get,
            "DeleteObject": self.delete,
        }

    def _bucket(self, exchange: Exchange) -> Bucket:
        return self._s3.buckets[exchange.call.bucket]

    async def list_buckets(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        buckets = (
            xml("Bucket", element("Name", bucket.name), element("CreationDate", iso_date(bucket.created)))
            for bucket in self._s3.buckets.values()
        )
        owner = xml("Owner", element("ID", account.access_key))
        return Reply(200, dict(_XML), document("ListAllMyBucketsResult", owner, xml("Buckets", *buckets)))

    async def create_bucket(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        await receive(exchange, exchange_headers(exchange), payload, self._s3.store, limit=64 * 1024)
        name = exchange.call.bucket
        if name in self._s3.buckets:
            raise RefusalError(409, "BucketAlreadyOwnedByYou", "You already own it")
        locked = exchange.header("x-amz-bucket-object-lock-enabled").lower() == "true"
        self._s3.create_bucket(name, object_lock=locked)
        return Reply(200, {"location": f"/{name}"})

    async def delete_bucket(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        if self._bucket(exchange).objects():
            raise RefusalError(409, "BucketNotEmpty", "The bucket you tried to delete is not empty")
        del self._s3.buckets[exchange.call.bucket]
        return Reply(204)

    async def head_bucket(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        return Reply(200, {"x-amz-bucket-region": self._s3.region})

    async def location(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        return Reply(200, dict(_XML), document("LocationConstraint", self._s3.region))

    async def list_objects(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        query = exchange.query
        prefix = query.get("prefix", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        limit = min(int(query.get("max-keys", "1000")), self._s3.max_page)
        keys = [
            k
            for k in self._bucket(exchange).objects()
            if k.startswith(prefix) and k.encode() > after.encode()
        ]
        page = keys[:limit]
        contents = []
        for key in page:
            item = self._bucket(exchange).objects()[key]
            contents.append(
                xml(
                    "Contents",
                    element("Key", encoded(key, query)),
                    element("LastModified", iso_date(item.modified)),
                    element("ETag", item.etag),
                    element("Size", item.content.size),
                    element("StorageClass", item.headers.get("x-amz-storage-class", "STANDARD")),
                )
            )
        more = [element("IsTruncated", str(len(keys) > limit).lower())]
        if len(keys) > limit:
            more.append(element("NextContinuationToken", page[-1]))
        if "encoding-type" in query:
            more.append(element("EncodingType", query["encoding-type"]))
        head = [element("Name", exchange.call.bucket), element("Prefix", encoded(prefix, query))]
        counts = [element("KeyCount", len(page)), element("MaxKeys", limit)]
        return Reply(200, dict(_XML), document("ListBucketResult", *head, *counts, *more, *contents))

    async def put(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        headers = exchange_headers(exchange)
        bucket = self._bucket(exchange)
        kept, metadata = kept_headers(headers), user_metadata(headers)
        require_lock_checksum(bucket, headers)
        check_preconditions(self._s3, bucket, exchange)
        if "ignores-md5" in self._s3.quirks:
            headers.pop("content-md5", None)
        if "ignores-digests" in self._s3.quirks:
            headers = {
                name: value
                for name, value in headers.items()
                if name not in ("content-md5", "x-amz-sdk-checksum-algorithm")
                and not name.startswith("x-amz-checksum-")
            }
        received = await receive(exchange, headers, payload, self._s3.store, limit=self._s3.max_part)
        check_preconditions(self._s3, bucket, exchange)  # another may have been quicker while the body came
        content = received.content
        checksum = received.checksum or ("crc64nvme", b64(content.digests["crc64nvme"]))
        stored = StoredObject(
            key=exchange.call.key,
            content=content,
            etag=f'"{content.digests["md5"].hex()}"',
            modified=self._s3.clock.now(),
            headers=kept,
            metadata=metadata,
            tags=headers.get("x-amz-tagging", ""),
            checksum=None if "no-checksums" in self._s3.quirks else checksum,
            version_id=random_id() if bucket.versioning else None,
        )
        return commit(exchange, bucket, stored)

    async def get(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        bucket, key = self._bucket(exchange), exchange.call.key
        item = bucket.newest(key)
        if wanted := exchange.query.get("versionId"):
            item = next((v for v in bucket.versions.get(key, []) if v.version_id == wanted), None)
        if item is None or item.deleted:
            if "s3:ListBucket" in account.denied:  # who may not list does not learn what is missing
                raise RefusalError(403, "AccessDenied", "User is not authorized to perform: s3:ListBucket")
            raise RefusalError(404, "NoSuchKey", "The specified key does not exist.", Key=key)
        if (etag := exchange.header("if-match")) and etag not in (item.etag, "*"):
            raise RefusalError(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
        if exchange.header("if-none-match") in (item.etag, "*"):
            return Reply(304, {"etag": item.etag})
        size = item.content.size
        span = parse_range(exchange.header("range"), size)
        reply = Reply(200, self._describe(item), content=item.content, stop=size)
        if span is not None:
            reply.status, (reply.start, reply.stop) = 206, span
            reply.headers["content-range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
        elif exchange.header("x-amz-checksum-mode").upper() == "ENABLED" and item.checksum:
            reply.headers[f"x-amz-checksum-{item.checksum[0]}"] = item.checksum[1]
            reply.headers["x-amz-checksum-type"] = item.checksum_type
        for action, prefix in _LOCK_SEEN_BY.items():
            if action in account.denied:
                reply.headers = {n: v for n, v in reply.headers.items() if not n.startswith(prefix)}
        return reply

    @staticmethod
    def _describe(item: StoredObject) -> dict[str, str]:
        headers = dict(item.headers) | {
            "etag": item.etag,
            "last-modified": http_date(item.modified),
            "accept-ranges": "bytes",
        }
        headers |= {f"x-amz-meta-{name}": value for name, value in item.metadata.items()}
        if headers.get("x-amz-storage-class") == "STANDARD":
            del headers["x-amz-storage-class"]
        if item.version_id:
            headers["x-amz-version-id"] = item.version_id
        if item.tags:
            headers["x-amz-tagging-count"] = str(item.tags.count("&") + 1)
        return headers

    async def delete(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        bucket, key = self._bucket(exchange), exchange.call.key
        wanted = exchange.query.get("versionId")
        versions = bucket.versions.get(key, [])
        if wanted:
            bucket.versions[key] = [item for item in versions if item.version_id != wanted]
            return Reply(204, {"x-amz-version-id": wanted})
        if not bucket.versioning:
            bucket.versions.pop(key, None)
            return Reply(204)
        now, marker = self._s3.clock.now(), random_id()
        empty = self._s3.store.content(b"")
        bucket.put(StoredObject(key, empty, "", now, {}, {}, version_id=marker, deleted=True))
        return Reply(204, {"x-amz-delete-marker": "true", "x-amz-version-id": marker})


def exchange_headers(exchange: Exchange) -> dict[str, str]:
    """The request's headers by lower-case name."""
    return {name.lower(): exchange.header(name) for name in exchange.request.headers}


def require_lock_checksum(bucket: Bucket, headers: dict[str, str]) -> None:
    """Object Lock takes no body without Content-MD5 or a checksum (s3cmd#1436)."""
    lock = bucket.object_lock or any(name.startswith("x-amz-object-lock-") for name in headers)
    proof = (
        "content-md5" in headers or "x-amz-trailer" in headers or any("x-amz-checksum-" in n for n in headers)
    )
    if lock and not proof:
        raise RefusalError(
            400,
            "InvalidRequest",
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock "
            "parameters",
        )
    if any(name.startswith("x-amz-object-lock-") for name in headers) and not bucket.object_lock:
        raise RefusalError(400, "InvalidRequest", "Bucket is missing Object Lock Configuration")


def check_preconditions(s3: S3, bucket: Bucket, exchange: Exchange) -> None:
    """If-None-Match and If-Match of a write. Raises RefusalError 412, 404 or 501."""
    if "ignores-preconditions" in s3.quirks:
        return
    item = bucket.newest(exchange.call.key)
    absent, match = exchange.header("if-none-match"), exchange.header("if-match")
    failed = RefusalError(
        412,
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        Condition="If-None-Match",
    )
    if absent and absent != "*":
        raise RefusalError(
            501, "NotImplemented", "A header you provided implies functionality that is not implemented"
        )
    if absent and item is not None:
        raise failed
    if match and item is None:
        raise RefusalError(404, "NoSuchKey", "The specified key does not exist.", Key=exchange.call.key)
    if match and item is not None and match.strip('"') != item.etag.strip('"'):
        failed.more["Condition"] = "If-Match"
        raise failed


def commit(exchange: Exchange, bucket: Bucket, item: StoredObject) -> Reply:
    """Make the object visible and say what PutObject says of it."""
    content = exchange.spoil(item.content)
    if content is not None:
        bucket.put(replace(item, content=content))
    headers = {"etag": item.etag} | {name: item.headers[name] for name in SSE_HEADERS if name in item.headers}
    if item.checksum:
        headers[f"x-amz-checksum-{item.checksum[0]}"] = item.checksum[1]
        headers["x-amz-checksum-type"] = item.checksum_type
    if item.version_id:
        headers["x-amz-version-id"] = item.version_id
    return Reply(200, headers)
