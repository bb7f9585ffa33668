"""What the S3 side holds, and the words of S3 that more than one operation needs."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.strict.store import Content
from tests.strict.wire import RefusalError

ALGORITHMS: Final = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
STORED_HEADERS: Final = (
    "content-type",
    "content-disposition",
    "content-language",
    "cache-control",
    "expires",
    "x-amz-storage-class",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
    "x-amz-website-redirect-location",
)
SSE_HEADERS: Final = tuple(name for name in STORED_HEADERS if "encryption" in name)


@dataclass(frozen=True)
class StoredObject:
    """One version of an object. `checksum` is (algorithm, base64 text), `checksum_type` S3's word for it."""

    key: str
    content: Content
    etag: str
    modified: float
    headers: dict[str, str]
    metadata: dict[str, str]
    tags: str = ""
    checksum: tuple[str, str] | None = None
    checksum_type: str = "FULL_OBJECT"
    version_id: str | None = None
    upload_id: str | None = None
    parts: int = 0
    deleted: bool = False


@dataclass(frozen=True)
class Part:
    number: int
    content: Content
    etag: str
    modified: float
    checksum: tuple[str, str] | None


@dataclass
class Upload:
    """An open multipart upload. `declared` is False when the client named no algorithm."""

    id: str
    key: str
    initiated: float
    initiator: str
    headers: dict[str, str]
    metadata: dict[str, str]
    tags: str
    algorithm: str
    checksum_type: str
    declared: bool
    parts: dict[int, Part] = field(default_factory=dict)


@dataclass
class Bucket:
    name: str
    created: float
    versioning: bool = False
    object_lock: bool = False
    versions: dict[str, list[StoredObject]] = field(default_factory=dict)  # newest last
    uploads: dict[str, Upload] = field(default_factory=dict)

    def newest(self, key: str) -> StoredObject | None:
        versions = self.versions.get(key)
        return None if not versions or versions[-1].deleted else versions[-1]

    def put(self, item: StoredObject) -> None:
        if self.versioning:
            self.versions.setdefault(item.key, []).append(item)
        else:
            self.versions[item.key] = [item]

    def objects(self) -> dict[str, StoredObject]:
        """The newest version of every key, in the order of their UTF-8 bytes."""
        found = ((key, self.newest(key)) for key in sorted(self.versions, key=str.encode))
        return {key: item for key, item in found if item is not None}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def random_id(size: int = 16) -> str:
    return secrets.token_urlsafe(size)


def http_date(at: float) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)


def iso_date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def xml(tag: str, *children: str) -> str:
    """An element of elements that `element` and `xml` made."""
    return f"<{tag}>{''.join(children)}</{tag}>"


def element(tag: str, text: object) -> str:
    return f"<{tag}>{escape(str(text))}</{tag}>"


def document(tag: str, *children: str) -> bytes:
    body = f'<{tag} xmlns="{NAMESPACE}">{"".join(children)}</{tag}>'
    return ('<?xml version="1.0" encoding="UTF-8"?>\n' + body).encode()


def encoded(key: str, query: Mapping[str, str]) -> str:
    """A key as a listing shows it (`encoding-type=url` or plain)."""
    return quote(key, safe="/-_.~") if query.get("encoding-type") == "url" else key


def checksum_name(algorithm: str) -> str:
    """The XML element of an algorithm: ChecksumCRC64NVME."""
    return f"Checksum{algorithm.upper()}"


def parsed(body: bytes) -> ET.Element:
    """The root of an XML body without its namespaces. Raises RefusalError MalformedXML."""
    try:
        root = ET.fromstring(body)
    except ET.ParseError as error:
        raise RefusalError(400, "MalformedXML", "The XML you provided was not well-formed") from error
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
    return root


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What of a Put's or Create's headers stays with the object."""
    kept = {name: headers[name] for name in STORED_HEADERS if name in headers}
    kept.setdefault("content-type", "binary/octet-stream")
    kept.setdefault("x-amz-server-side-encryption", "AES256")
    codings = [word.strip() for word in headers.get("content-encoding", "").split(",")]
    if stored := ",".join(word for word in codings if word and word != "aws-chunked"):
        kept["content-encoding"] = stored
    return kept


def user_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """The x-amz-meta- headers. Raises RefusalError MetadataTooLarge above 2 KB."""
    found = {name[11:]: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
    if sum(len(name) + len(value.encode()) for name, value in found.items()) > 2048:
        raise RefusalError(
            400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size"
        )
    return found


def one_of(values: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The one checksum among a request's. Raises RefusalError InvalidRequest for two."""
    found = list(values)
    if len(found) > 1:
        raise RefusalError(
            400, "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple are given."
        )
    return found[0] if found else None
