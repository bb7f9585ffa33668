"""What the GCS side holds, and what its answers say of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from tests.strict.s3_state import iso_date
from tests.strict.store import Content
from tests.strict.wire import RefusalError

QUANTUM: Final = 256 * 1024
"""Bytes: every chunk but the last is a multiple of this."""


@dataclass(frozen=True)
class GcsObject:
    """One live object. `fields` are the caller's: contentType, metadata, storageClass, ..."""

    name: str
    bucket: str
    content: Content
    generation: int
    created: float
    fields: dict[str, Any]

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.fields.get("metadata") or {})

    @property
    def crc32c(self) -> str:
        """Base64 of four bytes in network order."""
        return base64.b64encode(self.content.digests["crc32c"]).decode()

    def resource(self, root: str) -> dict[str, Any]:
        """The JSON of `objects.get`; 64-bit numbers are strings in it."""
        path = f"/b/{self.bucket}/o/{quote(self.name, safe='')}"
        resource = {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": f"{root}/storage/v1{path}",
            "mediaLink": f"{root}/download/storage/v1{path}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "storageClass": "STANDARD",
            "size": str(self.content.size),
            "crc32c": self.crc32c,
            "etag": base64.b64encode(self.generation.to_bytes(8, "big")).decode(),
            "timeCreated": iso_date(self.created),
            "updated": iso_date(self.created),
        } | self.fields
        if "md5" in self.content.digests:
            resource["md5Hash"] = base64.b64encode(self.content.digests["md5"]).decode()
        return resource


@dataclass
class Session:
    """A resumable upload. `total` is -1 until it is known; `chunks` together hold the first `held` bytes."""

    id: str
    bucket: str
    name: str
    fields: dict[str, Any]
    claims: dict[str, str]
    preconditions: dict[str, str]
    opened: float
    total: int = -1
    held: int = 0
    chunks: list[Content] = field(default_factory=list)
    md5: hashlib._Hash = field(default_factory=hashlib.md5)
    done: GcsObject | None = None

    def hold(self, content: Content) -> None:
        """Append bytes that have come."""
        for data in content.read():
            self.md5.update(data)
        self.chunks.append(content)
        self.held += content.size


@dataclass
class GcsBucket:
    name: str
    created: float
    fields: dict[str, Any]
    objects: dict[str, GcsObject] = field(default_factory=dict)

    def resource(self) -> dict[str, Any]:
        return {
            "kind": "storage#bucket",
            "id": self.name,
            "name": self.name,
            "location": "US",
            "storageClass": "STANDARD",
            "timeCreated": iso_date(self.created),
            "etag": "CAE=",
        } | self.fields


def check_name(name: str) -> None:
    """Raises RefusalError 400 for a name that GCS refuses ("Object name requirements")."""
    if not name:
        raise RefusalError(400, "required", "Required")
    if "\r" in name or "\n" in name:
        raise RefusalError(400, "invalid", f"Disallowed unicode characters present in object name {name!r}")
    if len(name.encode("utf-8", "surrogateescape")) > 1024 or name in (".", ".."):
        raise RefusalError(400, "invalid", "The specified object name is not valid.")


def check_preconditions(bucket: GcsBucket, name: str, query: Mapping[str, str]) -> None:
    """ifGenerationMatch and ifGenerationNotMatch. Raises RefusalError 412 conditionNotMet."""
    item = bucket.objects.get(name)
    generation = item.generation if item else 0
    wanted, unwanted = query.get("ifGenerationMatch"), query.get("ifGenerationNotMatch")
    unmet = wanted is not None and int(wanted) != generation
    if unmet or (unwanted is not None and int(unwanted) == generation):
        raise RefusalError(
            412,
            "conditionNotMet",
            "At least one of the pre-conditions you specified did not hold.",
            location="If-Match",
        )


def hash_claims(header: str) -> dict[str, str]:
    """X-Goog-Hash: `crc32c=...,md5=...` -> base64 by digest name."""
    pairs = (item.strip().partition("=") for item in header.split(",") if item.strip())
    return {name: value for name, _, value in pairs}


def check_hashes(claims: Mapping[str, str], digests: Mapping[str, bytes]) -> None:
    """Raises RefusalError 400 for a digest that is not the content's, or not a digest."""
    for name, claimed in claims.items():
        actual = digests.get(name)
        if actual is None:
            continue
        try:
            value = base64.b64decode(claimed, validate=True)
        except binascii.Error:
            value = b""
        if len(value) != len(actual):
            raise RefusalError(400, "invalid", f"Invalid value for {name}: {claimed}")
        if value != actual:
            raise RefusalError(
                400,
                "invalid",
                f'Provided {name.upper()} hash "{claimed}" doesn\'t match calculated {name.upper()} hash '
                f'"{base64.b64encode(actual).decode()}".',
            )


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON object, empty for an empty body. Raises RefusalError 400 parseError."""
    try:
        value = json.loads(body or b"{}")
    except ValueError as error:
        raise RefusalError(400, "parseError", "Parse Error") from error
    if not isinstance(value, dict):
        raise RefusalError(400, "parseError", "Parse Error")
    return value
