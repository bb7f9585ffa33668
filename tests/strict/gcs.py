"""Google Cloud Storage's JSON API: buckets, objects, and the way in. Uploads are in `gcs_uploads`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, unquote

from aiohttp import web

from tests.strict.gcs_auth import GcsAuth, ServiceAccount
from tests.strict.gcs_state import GcsBucket, GcsObject, Session, check_name, check_preconditions, json_object
from tests.strict.gcs_uploads import Uploads
from tests.strict.s3_state import http_date, random_id
from tests.strict.store import Store
from tests.strict.wire import Call, Clock, Exchange, RefusalError, Reply, parse_range

_PERMISSIONS: Final = {
    "InsertBucket": "storage.buckets.create",
    "GetBucket": "storage.buckets.get",
    "InsertObject": "storage.objects.create",
    "OpenResumable": "storage.objects.create",
    "GetObject": "storage.objects.get",
    "GetMedia": "storage.objects.get",
    "DeleteObject": "storage.objects.delete",
    "ListObjects": "storage.objects.list",
}
_REASONS: Final = {
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    410: "gone",
    412: "conditionNotMet",
    429: "rateLimitExceeded",
    500: "internalError",
    503: "backendError",
}


class Gcs:
    """The GCS side; the API root is `{address}/gcs`, the token endpoint `{address}/gcs/token`.

    Settings that a test may change: `auth` (accounts, tokens), `keep_after_cut` (does a chunk that broke off
    leave its whole 256 KiB multiples behind, as the service does?).
    """

    name = "gcs"
    PREFIX: Final = "/gcs"

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.auth = GcsAuth(clock)
        self.root = ""  # the address, known once the server listens
        self.buckets: dict[str, GcsBucket] = {}
        self.sessions: dict[str, Session] = {}
        self.keep_after_cut = True
        self._generation = 0
        self._uploads = Uploads(self)
        self._operations: dict[str, Callable[[Exchange, GcsBucket], Awaitable[Reply]]] = {
            "GetBucket": self._get_bucket,
            "GetObject": self._get_object,
            "GetMedia": self._get_media,
            "DeleteObject": self._delete_object,
            "ListObjects": self._list_objects,
            "InsertObject": self._uploads.insert,
            "OpenResumable": self._uploads.open,
        }

    # What tests look at and arrange ---------------------------------------------------------------

    def create_bucket(self, name: str) -> GcsBucket:
        return self.buckets.setdefault(name, GcsBucket(name, self.clock.now(), {}))

    def objects(self, bucket: str) -> dict[str, GcsObject]:
        """Objects of the bucket by name, in order."""
        return dict(sorted(self.buckets[bucket].objects.items()))

    def open_sessions(self, bucket: str) -> list[Session]:
        """Resumable uploads that are not complete."""
        return [s for s in list(self.sessions.values()) if s.bucket == bucket and s.done is None]

    def forget_sessions(self, bucket: str) -> int:
        """Every open session of the bucket is gone, as after a week. How many there were."""
        gone = self.open_sessions(bucket)
        for session in gone:
            self.sessions.pop(session.id, None)
        return len(gone)

    def write_credentials(self, path: Path) -> Path:
        """A service account's key file whose tokens come from this endpoint."""
        return self.auth.write_credentials(path, f"{self.root}/token")

    def commit(self, exchange: Exchange, bucket: GcsBucket, name: str, item: GcsObject) -> GcsObject:
        """Make an object visible (or only say so, when a fault wants a lie)."""
        content = exchange.spoil(item.content)
        if content is not None:
            bucket.objects[name] = replace(item, content=content)
        return item

    def next_generation(self) -> int:
        """Generations are times in microseconds, and never repeat."""
        self._generation = max(self._generation + 1, int(self.clock.now() * 1_000_000))
        return self._generation

    # The protocol ---------------------------------------------------------------------------------

    def parse(self, request: web.BaseRequest) -> Call:
        raw_path, _, raw_query = request.raw_path.partition("?")
        path = raw_path.removeprefix(self.PREFIX)
        query = {name: values[0] for name, values in parse_qs(raw_query, keep_blank_values=True).items()}
        words = [unquote(word, errors="surrogateescape") for word in path.strip("/").split("/")]
        method = request.method
        if path == "/token":
            return Call("Token")
        if words[:4] == ["upload", "storage", "v1", "b"] and len(words) == 6:
            return self._parse_upload(method, words[4], query, request)
        if words[0] == "download":
            words, query = words[1:], query | {"alt": "media"}
        if words[:3] == ["storage", "v1", "b"]:
            return _parse_json(method, words[3:], query)
        if "X-Goog-Signature" in query:
            name = {"GET": "GetMedia", "HEAD": "GetMedia", "PUT": "InsertObject"}.get(method, method)
            return Call(name, words[0], "/".join(words[1:]))
        return Call(f"{method} {path}")

    def _parse_upload(
        self, method: str, bucket: str, query: dict[str, str], request: web.BaseRequest
    ) -> Call:
        session = query.get("upload_id", "")
        if session:
            known = self.sessions.get(session)
            name = known.name if known else query.get("name", "")
            if method == "DELETE":
                return Call("CancelResumable", bucket, name, session)
            asking = request.headers.get("Content-Range", "").startswith("bytes */")
            return Call("QueryResumable" if asking else "ResumableChunk", bucket, name, session)
        operation = "OpenResumable" if query.get("uploadType") == "resumable" else "InsertObject"
        return Call(operation, bucket, query.get("name", ""))

    def forget_session(self, call: Call) -> None:
        self.sessions.pop(call.session, None)

    async def answer(self, exchange: Exchange) -> Reply:
        call = exchange.call
        if call.operation == "Token":
            return await self._token(exchange)
        if call.session:  # the URI is the credential
            return self._stamped(await self._uploads.resume(exchange))
        if call.operation not in _PERMISSIONS:
            raise RefusalError(501, "notImplemented", f"{call.operation} is not implemented by this endpoint")
        account = self._authenticate(exchange)
        permission = _PERMISSIONS[call.operation]
        if permission in account.denied:
            raise _forbidden(account, permission)
        if call.operation == "InsertBucket":
            return self._stamped(await self._insert_bucket(exchange))
        bucket = self.buckets.get(call.bucket)
        if bucket is None:
            raise RefusalError(404, "notFound", "The specified bucket does not exist.")
        if call.operation in ("GetObject", "GetMedia", "DeleteObject"):
            check_name(call.key)
            if call.key not in bucket.objects and "storage.objects.list" in account.denied:
                raise _forbidden(
                    account, "storage.objects.list"
                )  # who may not list does not learn what is missing
        return self._stamped(await self._operations[call.operation](exchange, bucket))

    def _authenticate(self, exchange: Exchange) -> ServiceAccount:
        if "X-Goog-Signature" not in exchange.query:
            return self.auth.bearer(exchange.header("authorization"))
        headers = {name.lower(): exchange.header(name) for name in exchange.request.headers}
        path = exchange.path.removeprefix(self.PREFIX)
        return self.auth.signed_url(exchange.request.method, path, exchange.raw_query, headers)

    async def _token(self, exchange: Exchange) -> Reply:
        body = b"".join([data async for data in exchange.body()]).decode()
        return self.json(200, self.auth.grant(dict(parse_qsl(body)), f"{self.root}/token"))

    async def _insert_bucket(self, exchange: Exchange) -> Reply:
        fields = json_object(b"".join([data async for data in exchange.body()]))
        name = str(fields.get("name", ""))
        if not name or "project" not in exchange.query:
            raise RefusalError(400, "required", "Required parameter: project, name")
        if name in self.buckets:
            raise RefusalError(409, "conflict", "Your previous request to create the named bucket succeeded.")
        bucket = self.create_bucket(name)
        bucket.fields = fields
        return self.json(200, bucket.resource())

    async def _get_bucket(self, exchange: Exchange, bucket: GcsBucket) -> Reply:
        return self.json(200, bucket.resource())

    def _object(self, exchange: Exchange, bucket: GcsBucket) -> GcsObject:
        item = bucket.objects.get(exchange.call.key)
        generation = exchange.query.get("generation")
        if item is None or (generation and int(generation) != item.generation):
            raise RefusalError(404, "notFound", f"No such object: {bucket.name}/{exchange.call.key}")
        check_preconditions(bucket, exchange.call.key, exchange.query)
        return item

    async def _get_object(self, exchange: Exchange, bucket: GcsBucket) -> Reply:
        return self.json(200, self._object(exchange, bucket).resource(self.root))

    async def _get_media(self, exchange: Exchange, bucket: GcsBucket) -> Reply:
        item = self._object(exchange, bucket)
        resource = item.resource(self.root)
        size = item.content.size
        hashes = [f"crc32c={resource['crc32c']}"] + (
            [f"md5={resource['md5Hash']}"] if "md5Hash" in resource else []
        )
        headers = {
            "content-type": resource["contentType"],
            "etag": resource["etag"],
            "last-modified": http_date(item.created),
            "x-goog-generation": resource["generation"],
            "x-goog-stored-content-length": str(size),
            "x-goog-hash": ",".join(hashes),
        }
        reply = Reply(200, headers, content=item.content, stop=size)
        span = parse_range(exchange.header("range"), size)
        if span is not None:
            reply.status, (reply.start, reply.stop) = 206, span
            headers["content-range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
        return reply

    async def _delete_object(self, exchange: Exchange, bucket: GcsBucket) -> Reply:
        self._object(exchange, bucket)
        del bucket.objects[exchange.call.key]
        return Reply(204)

    async def _list_objects(self, exchange: Exchange, bucket: GcsBucket) -> Reply:
        query = exchange.query
        prefix, after = query.get("prefix", ""), query.get("pageToken", "")
        limit = min(int(query.get("maxResults", "1000")), 1000)
        names = [name for name in sorted(bucket.objects) if name.startswith(prefix) and name > after]
        listing: dict[str, Any] = {"kind": "storage#objects"}
        if names:
            listing["items"] = [bucket.objects[name].resource(self.root) for name in names[:limit]]
        if len(names) > limit:
            listing["nextPageToken"] = names[limit - 1]
        return self.json(200, listing)

    @staticmethod
    def json(status: int, value: dict[str, Any], **headers: str) -> Reply:
        return Reply(
            status, {"content-type": "application/json; charset=UTF-8"} | headers, json.dumps(value).encode()
        )

    def refusal(self, exchange: Exchange, error: RefusalError) -> Reply:
        reason = error.code or _REASONS.get(error.status, "backendError")
        exchange.code = reason
        message = error.message or reason
        if exchange.call.operation == "Token":  # OAuth's shape (RFC 6749, 5.2)
            value: dict[str, Any] = {"error": reason, "error_description": message}
        else:
            detail = {"domain": "global", "reason": reason, "message": message} | error.more
            value = {"error": {"code": error.status, "message": message, "errors": [detail]}}
        reply = self.json(error.status, value)
        reply.headers |= error.headers
        return self._stamped(reply)

    @staticmethod
    def _stamped(reply: Reply) -> Reply:
        reply.headers = {"server": "UploadServer", "x-guploader-uploadid": random_id(24)} | reply.headers
        return reply


def _parse_json(method: str, words: list[str], query: dict[str, str]) -> Call:
    if not words:
        return Call("InsertBucket" if method == "POST" else f"{method} b")
    if len(words) == 1:
        return Call("GetBucket" if method == "GET" else f"{method} b", words[0])
    name = "/".join(words[2:])
    if not name:
        return Call("ListObjects" if method == "GET" else f"{method} o", words[0])
    if method == "DELETE":
        return Call("DeleteObject", words[0], name)
    operation = "GetMedia" if query.get("alt") == "media" else "GetObject"
    return Call(operation if method in ("GET", "HEAD") else f"{method} o", words[0], name)


def _forbidden(account: ServiceAccount, permission: str) -> RefusalError:
    return RefusalError(
        403, "forbidden", f"{account.email} does not have {permission} access to the resource."
    )
