"""What the Azure side holds."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.strict.store import Content
from tests.strict.wire import RefusalError

PROPERTIES: Final = {
    "x-ms-blob-content-type": "content-type",
    "x-ms-blob-content-encoding": "content-encoding",
    "x-ms-blob-content-language": "content-language",
    "x-ms-blob-content-disposition": "content-disposition",
    "x-ms-blob-cache-control": "cache-control",
    "x-ms-blob-content-md5": "content-md5",
}
"""Headers of a write, and the headers of a read that they become."""


@dataclass(frozen=True)
class Block:
    """A block: its id as the client wrote it (base64) and its bytes."""

    id: str
    content: Content


@dataclass(frozen=True)
class Blob:
    """A committed block blob. `blocks` is empty after Put Blob; `properties` has a read's header names."""

    key: str
    content: Content
    etag: str
    created: float
    modified: float
    properties: dict[str, str]
    metadata: dict[str, str]
    tags: str
    tier: str
    blocks: tuple[Block, ...] = ()
    version_id: str | None = None


@dataclass
class Container:
    """`uncommitted` holds, by blob name and in the order of arrival, blocks by id."""

    name: str
    created: float
    etag: str
    versioning: bool = False
    blobs: dict[str, Blob] = field(default_factory=dict)
    versions: dict[str, list[Blob]] = field(default_factory=dict)
    uncommitted: dict[str, dict[str, Block]] = field(default_factory=dict)

    def put(self, blob: Blob) -> None:
        self.blobs[blob.key] = blob
        self.versions.setdefault(blob.key, []).append(blob)


def new_etag() -> str:
    return f'"0x8D{secrets.token_hex(7).upper()}"'


def tag(name: str, text: object, attributes: str = "") -> str:
    return f"<{name}{attributes}>{escape(str(text))}</{name}>"


def document(body: str) -> bytes:
    return ('<?xml version="1.0" encoding="utf-8"?>' + body).encode()


def parsed(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)
    except ET.ParseError as error:
        raise RefusalError(400, "InvalidXmlDocument", "XML specified is not syntactically valid.") from error


def metadata_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The x-ms-meta- headers. Raises RefusalError: names must be C# identifiers, together at most 8 KiB."""
    found = {name[10:]: value for name, value in headers.items() if name.startswith("x-ms-meta-")}
    for name in found:
        if not name.isidentifier() or not name.isascii():
            raise RefusalError(400, "InvalidMetadata", f"The metadata name {name!r} is not a C# identifier.")
    if sum(len(name) + len(value) for name, value in found.items()) > 8192:
        raise RefusalError(400, "MetadataTooLarge", "The size of the specified metadata exceeds the maximum.")
    return found


def properties_of(headers: Mapping[str, str]) -> dict[str, str]:
    kept = {read: headers[write] for write, read in PROPERTIES.items() if write in headers}
    kept.setdefault("content-type", headers.get("content-type") or "application/octet-stream")
    return kept
