"""Buckets and objects that somebody else put there: made in the server's memory, past the protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.strict.azure_state import Blob, new_etag
from tests.strict.gcs_state import GcsObject
from tests.strict.s3_state import StoredObject, b64

if TYPE_CHECKING:
    from tests.strict.server import StrictServer


def create_bucket(
    server: StrictServer, protocol: str, name: str, *, versioning: bool = False, object_lock: bool = False
) -> None:
    """A bucket or container, unless it is there. Raises ValueError for an unknown protocol."""
    match protocol:
        case "s3":
            server.s3.create_bucket(name, versioning=versioning, object_lock=object_lock)
        case "azure":
            server.azure.create_container(name, versioning=versioning)
        case "gcs":
            server.gcs.create_bucket(name)
        case _:
            raise ValueError(f"no such protocol: {protocol}")


def put(
    server: StrictServer,
    protocol: str,
    bucket: str,
    key: str,
    *,
    data: bytes,
    metadata: dict[str, str] | None = None,
) -> None:
    """An object at `key`, replacing what was there. Raises ValueError for an unknown protocol, KeyError for a
    missing bucket."""
    content, now = server.store.content(data, "md5"), server.clock.now()
    md5 = content.digests["md5"]
    match protocol:
        case "s3":
            checksum = ("crc64nvme", b64(content.digests["crc64nvme"]))
            etag, kind = f'"{md5.hex()}"', {"content-type": "binary/octet-stream"}
            item = StoredObject(key, content, etag, now, kind, metadata or {}, checksum=checksum)
            server.s3.buckets[bucket].put(item)
        case "azure":
            properties = {"content-type": "application/octet-stream", "content-md5": b64(md5)}
            blob = Blob(key, content, new_etag(), now, now, properties, metadata or {}, "", "Hot")
            server.azure.container(bucket).put(blob)
        case "gcs":
            fields = {"metadata": metadata} if metadata else {}
            number = server.gcs.next_generation()
            server.gcs.buckets[bucket].objects[key] = GcsObject(key, bucket, content, number, now, fields)
        case _:
            raise ValueError(f"no such protocol: {protocol}")
