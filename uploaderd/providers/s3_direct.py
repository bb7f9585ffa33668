"""The requests that each recording and each part needs, on the library's connections but past its hooks.

PutObject, UploadPart and HeadObject: what is asked is named as in the library, what is answered too,
and what goes wrong is raised as the library's own exceptions, so that nothing above sees a difference.
Addresses, credentials, proxies, TLS and time limits are the library's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlsplit

from botocore.exceptions import ClientError
from botocore.parsers import create_parser

from uploaderd import __version__
from uploaderd.providers.s3_body import Sending
from uploaderd.providers.s3_checksum import Reply
from uploaderd.providers.s3_connections import Connections
from uploaderd.providers.s3_login import Login
from uploaderd.providers.s3_signature import Signer, encoded

_HEADERS: Final[Mapping[str, str]] = {
    "ChecksumAlgorithm": "x-amz-sdk-checksum-algorithm",
    "ChecksumCRC32C": "x-amz-checksum-crc32c",
    "ChecksumCRC64NVME": "x-amz-checksum-crc64nvme",
    "ChecksumMode": "x-amz-checksum-mode",
    "ContentMD5": "content-md5",
    "ContentType": "content-type",
    "IfMatch": "if-match",
    "IfNoneMatch": "if-none-match",
    "ObjectLockLegalHoldStatus": "x-amz-object-lock-legal-hold",
    "ObjectLockMode": "x-amz-object-lock-mode",
    "ObjectLockRetainUntilDate": "x-amz-object-lock-retain-until-date",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
    "Tagging": "x-amz-tagging",
}
"""Members of requests, as the S3 API reference names them, and their headers."""

_MEMBERS: Final[Mapping[str, str]] = {
    "content-length": "ContentLength",
    "etag": "ETag",
    "x-amz-archive-status": "ArchiveStatus",
    "x-amz-checksum-crc32c": "ChecksumCRC32C",
    "x-amz-checksum-crc64nvme": "ChecksumCRC64NVME",
    "x-amz-checksum-type": "ChecksumType",
    "x-amz-object-lock-legal-hold": "ObjectLockLegalHoldStatus",
    "x-amz-object-lock-mode": "ObjectLockMode",
    "x-amz-object-lock-retain-until-date": "ObjectLockRetainUntilDate",
    "x-amz-restore": "Restore",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-customer-algorithm": "SSECustomerAlgorithm",
    "x-amz-storage-class": "StorageClass",
    "x-amz-version-id": "VersionId",
}
"""Headers of replies, and their members."""

_METADATA: Final = "x-amz-meta-"
_PARSER: Final = create_parser("rest-xml")


class Direct:
    """One bucket."""

    def __init__(self, client: Any, login: Login, bucket: str) -> None:
        self._client = client
        self._login = login
        self._bucket = bucket
        self._root: SplitResult | None = None
        self._signer = Signer("")

    async def ask(
        self,
        operation: str,
        method: str,
        key: str,
        members: Mapping[str, Any],
        *,
        query: Mapping[str, str] | None = None,
        body: Sending | bytes = b"",
    ) -> Reply:
        """One request, tried once.

        Args:
            operation: the library's name of it, for its errors.
            method: of HTTP.
            key: of the object.
            members: of the request, by the library's names.
            query: of the address.
            body: streamed.

        Raises:
            ClientError: the answer is an error.
            BotoCoreError: the library's, for whatever else went wrong on the way.
        """
        address = await self._address()
        path = f"{address.path}{quote(key, safe='/~')}"
        headers = _said(members)
        headers["host"] = address.netloc
        if method != "HEAD":
            headers["content-length"] = str(len(body))
        secrets = await self._login.get_frozen_credentials()
        signed = self._signer.signed(
            method,
            path,
            query or {},
            headers,
            secrets.access_key,
            secrets.secret_key,
            secrets.token,
            datetime.now(UTC),
        )
        signed["user-agent"] = f"uploaderd/{__version__}"
        url = f"{address.scheme}://{address.netloc}{path}"
        if query:
            url += f"?{encoded(query)}"
        # Not public, but the way to what `http_session_cls` has made.
        connections: Connections = self._client._endpoint.http_session  # noqa: SLF001
        status, answered, content = await connections.ask(method, url, signed, body)
        if status == 200 and content and _is_error(content):
            status = 500  # as the library takes it: the error came after the head of the reply
        if status >= 300:
            told = {"status_code": status, "headers": answered, "body": content}
            raise ClientError(_PARSER.parse(told, None), operation)
        return _heard(answered)

    async def _address(self) -> SplitResult:
        """Where the bucket's keys begin, as the library resolves it; and for which region to sign."""
        if self._root is None:
            signed = await self._client.generate_presigned_url(
                "head_object", Params={"Bucket": self._bucket, "Key": "k"}
            )
            address = urlsplit(signed)
            self._signer = Signer(self._client.meta.region_name)
            self._root = address._replace(path=address.path.removesuffix("k"))
        return self._root


def _said(members: Mapping[str, Any]) -> dict[str, str]:
    """A request's members as headers.

    Raises:
        KeyError: one that is not in the table.
    """
    headers = {_HEADERS[name]: str(value) for name, value in members.items() if name != "Metadata"}
    for name, value in members.get("Metadata", {}).items():
        headers[f"{_METADATA}{name.lower()}"] = value
    return headers


def _heard(headers: Mapping[str, str]) -> Reply:
    """A reply's headers, their names in lower case, as members."""
    reply: dict[str, Any] = {"Metadata": {}}
    for name, value in headers.items():
        if (member := _MEMBERS.get(name)) is not None:
            reply[member] = value
        elif name.startswith(_METADATA):
            reply["Metadata"][name.removeprefix(_METADATA)] = value
    return reply


def _is_error(content: bytes) -> bool:
    """Whether a body is that of an error: S3 and its like send one with status 200, too."""
    return re.search(rb"<Error[\s>]", content[:200]) is not None
