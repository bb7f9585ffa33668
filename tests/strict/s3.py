"""S3 as S3 does it: who asks, what for, and may they. Operations: `s3_objects` and `s3_multipart`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qs, unquote

from aiohttp import web

from tests.strict.faults import Kind
from tests.strict.s3_multipart import Multipart
from tests.strict.s3_objects import Objects
from tests.strict.s3_state import Bucket, StoredObject, Upload, document, element, random_id
from tests.strict.sigv4 import Account, SignedRequest, verify
from tests.strict.store import Store
from tests.strict.wire import Call, Clock, Exchange, RefusalError, Reply

ACTIONS: Final = {
    "ListBuckets": "s3:ListAllMyBuckets",
    "CreateBucket": "s3:CreateBucket",
    "DeleteBucket": "s3:DeleteBucket",
    "HeadBucket": "s3:ListBucket",
    "GetBucketLocation": "s3:GetBucketLocation",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "DeleteObject": "s3:DeleteObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "ListParts": "s3:ListMultipartUploadParts",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
}
"""The permission behind each operation (S3 user guide, "Actions, resources and condition keys")."""

_FURTHER: Final = {
    "x-amz-tagging": "s3:PutObjectTagging",
    "x-amz-object-lock-mode": "s3:PutObjectRetention",
    "x-amz-object-lock-legal-hold": "s3:PutObjectLegalHold",
    "x-amz-server-side-encryption-aws-kms-key-id": "kms:GenerateDataKey",
}
"""What a header of PutObject and CreateMultipartUpload needs beyond that (same page)."""
_CODES: Final = {
    400: "InvalidRequest",
    403: "AccessDenied",
    404: "NoSuchKey",
    409: "ConditionalRequestConflict",
    412: "PreconditionFailed",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
}


class S3:
    """The S3 side of the endpoint, path-style at the root of the address.

    Settings that a test may change: `accounts`, `region`, `min_part` (bytes), `max_part`, `max_page` (entries
    in one answer of a listing), and `quirks` of compatible stores: "no-checksums" (501 for any
    x-amz-checksum), "ignores-preconditions" and, for PutObject, "ignores-md5" and "ignores-digests".
    """

    name = "s3"

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.region = "us-east-1"
        self.accounts: dict[str, Account] = {}
        self.account = self.add_account("strict-access-key", "not-a-real-secret")
        self.buckets: dict[str, Bucket] = {}
        self.min_part = 5 * 1024 * 1024
        self.max_part = 5 * 1024**3
        self.max_page = 1000
        self.quirks: set[str] = set()
        self._objects = Objects(self)
        self._multipart = Multipart(self)
        self._operations: dict[str, Callable[[Exchange, Account, str], Awaitable[Reply]]] = {
            **self._objects.operations(),
            **self._multipart.operations(),
        }

    # What tests look at and arrange ---------------------------------------------------------------

    def add_account(self, access_key: str, secret_key: str, *, session_token: str | None = None) -> Account:
        account = Account(access_key, secret_key, session_token)
        self.accounts[access_key] = account
        return account

    def create_bucket(self, name: str, *, versioning: bool = False, object_lock: bool = False) -> Bucket:
        bucket = Bucket(name, self.clock.now(), versioning=versioning or object_lock, object_lock=object_lock)
        return self.buckets.setdefault(name, bucket)

    def objects(self, bucket: str) -> dict[str, StoredObject]:
        """The newest version of every object of the bucket, by key."""
        return self.buckets[bucket].objects()

    def versions(self, bucket: str, key: str) -> list[StoredObject]:
        return list(self.buckets[bucket].versions.get(key, []))

    def open_uploads(self, bucket: str) -> list[Upload]:
        return list(self.buckets[bucket].uploads.values())

    def forget_uploads(self, bucket: str) -> int:
        """Every open upload is gone, as after a lifecycle rule. How many there were."""
        uploads = self.buckets[bucket].uploads
        count = len(uploads)
        uploads.clear()
        return count

    # The protocol ---------------------------------------------------------------------------------

    def parse(self, request: web.BaseRequest) -> Call:
        path, _, raw_query = request.raw_path.partition("?")
        bucket, _, key = path.lstrip("/").partition("/")
        query = parse_qs(raw_query, keep_blank_values=True)
        key = unquote(key, errors="surrogateescape")
        name = _operation(request.method, bucket, key, frozenset(query))
        return Call(name, bucket, key, query.get("uploadId", [""])[0])

    def forget_session(self, call: Call) -> None:
        if call.bucket in self.buckets:
            self.buckets[call.bucket].uploads.pop(call.session, None)

    async def answer(self, exchange: Exchange) -> Reply:
        call = exchange.call
        headers = {name.lower(): exchange.header(name) for name in exchange.request.headers}
        signed = SignedRequest(exchange.request.method, exchange.path, exchange.raw_query, headers)
        account, payload = verify(signed, self.accounts, self.region, self.clock.now())
        operation = self._operations.get(call.operation)
        if operation is None:
            raise RefusalError(501, "NotImplemented", f"{call.operation} is not implemented by this endpoint")
        if ACTIONS[call.operation] in account.denied:
            raise access_denied(ACTIONS[call.operation])
        for name, action in _FURTHER.items():
            if name in headers and action in account.denied:
                raise access_denied(action)
        if len(call.key.encode("utf-8", "surrogateescape")) > 1024:
            raise RefusalError(400, "KeyTooLongError", "Your key is too long")
        if call.bucket and call.operation != "CreateBucket" and call.bucket not in self.buckets:
            raise RefusalError(
                404, "NoSuchBucket", "The specified bucket does not exist", BucketName=call.bucket
            )
        self._refuse_quirks(headers)
        if exchange.fire(Kind.ERROR_IN_200):
            return Reply(
                200, {"content-type": "application/xml"}, _error("InternalError", "We encountered an error.")
            )
        reply = await operation(exchange, account, payload)
        return self._stamped(reply)

    def refusal(self, exchange: Exchange, error: RefusalError) -> Reply:
        code = error.code or _CODES.get(error.status, "InternalError")
        exchange.code = code
        body = _error(code, error.message or code, Resource=exchange.path, **error.more)
        headers = {"content-type": "application/xml"} | error.headers
        if "Region" in error.more:
            headers["x-amz-bucket-region"] = error.more["Region"]
        return self._stamped(Reply(error.status, headers, body))

    def _refuse_quirks(self, headers: dict[str, str]) -> None:
        if "no-checksums" in self.quirks:
            asked = [
                name for name in headers if name.startswith("x-amz-checksum-") or name == "x-amz-trailer"
            ]
            if asked and asked != ["x-amz-checksum-mode"]:
                raise RefusalError(
                    501, "NotImplemented", f"A header you provided is not implemented: {asked[0]}"
                )

    @staticmethod
    def _stamped(reply: Reply) -> Reply:
        reply.headers = {
            "server": "AmazonS3",
            "x-amz-request-id": random_id(8).upper(),
            "x-amz-id-2": random_id(24),
        } | reply.headers
        return reply


def access_denied(action: str) -> RefusalError:
    return RefusalError(403, "AccessDenied", f"User is not authorized to perform: {action}")


def _error(code: str, message: str, **more: str) -> bytes:
    children = [element("Code", code), element("Message", message)]
    return document("Error", *children, *(element(name, value) for name, value in more.items())).replace(
        b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', b""
    )


_BY_METHOD: Final[dict[tuple[str, str], tuple[tuple[str, str], ...]]] = {
    # (method, level) -> the first whose query parameter is there; "" stands for none
    ("GET", "root"): (("", "ListBuckets"),),
    ("PUT", "bucket"): (("", "CreateBucket"),),
    ("DELETE", "bucket"): (("", "DeleteBucket"),),
    ("HEAD", "bucket"): (("", "HeadBucket"),),
    ("GET", "bucket"): (
        ("uploads", "ListMultipartUploads"),
        ("location", "GetBucketLocation"),
        ("list-type", "ListObjectsV2"),
    ),
    ("HEAD", "key"): (("", "HeadObject"),),
    ("GET", "key"): (("uploadId", "ListParts"), ("", "GetObject")),
    ("PUT", "key"): (("partNumber", "UploadPart"), ("", "PutObject")),
    ("POST", "key"): (("uploads", "CreateMultipartUpload"), ("uploadId", "CompleteMultipartUpload")),
    ("DELETE", "key"): (("uploadId", "AbortMultipartUpload"), ("", "DeleteObject")),
}
_SUBRESOURCES: Final = frozenset(
    {
        "acl",
        "tagging",
        "retention",
        "legal-hold",
        "attributes",
        "versioning",
        "lifecycle",
        "policy",
        "object-lock",
    }
)


def _operation(method: str, bucket: str, key: str, query: frozenset[str]) -> str:
    level = "key" if key else "bucket" if bucket else "root"
    if not query & _SUBRESOURCES:
        for parameter, name in _BY_METHOD.get((method, level), ()):
            if parameter == "" or parameter in query:
                return name
    return f"{method} {level} {'&'.join(sorted(query))}".strip()
