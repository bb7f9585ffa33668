"""How an object is described in requests to S3, and in its replies.

Metadata that is not plain ASCII is written as S3 itself shows such values: in the encoded words of
RFC 2047, in UTF-8. Names of metadata come back in lower case.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from uploaderd.config import S3Provider
from uploaderd.model import TOKEN_METADATA, HeldPart, ObjectInfo, ObjectSpec, Session, Token
from uploaderd.providers import s3_lock
from uploaderd.providers.s3_checksum import Algorithm, Reply, Way, etag_of, md5_etag


def described(spec: ObjectSpec, config: S3Provider) -> dict[str, Any]:
    """What an object is given when it is made: metadata, and what the configuration says."""
    chosen = {
        "StorageClass": config.storage_class,
        "ServerSideEncryption": config.sse,
        "SSEKMSKeyId": config.kms_key_id,
        "Tagging": urlencode(config.tags, quote_via=quote) if config.tags else None,
    }
    lock, promise = s3_lock.asked(config, datetime.now(UTC))
    metadata = {name: _plain(value) for name, value in spec.metadata.items()}
    return {
        "ContentType": spec.content_type,
        "Metadata": metadata | promise | {TOKEN_METADATA: spec.token},
        **lock,
    } | {name: value for name, value in chosen.items() if value}


def writing(config: S3Provider) -> str:
    """What the login must be allowed to do for it, as policies call it (docs/providers.md)."""
    needed = {
        "s3:PutObject": True,
        "s3:PutObjectTagging": config.tags,
        "s3:PutObjectRetention": config.lock_mode,
        "s3:PutObjectLegalHold": config.legal_hold,
        "kms:GenerateDataKey": config.kms_key_id,
        "kms:Decrypt": config.kms_key_id,
    }
    return ", ".join(action for action, wanted in needed.items() if wanted)


def condition(spec: ObjectSpec, way: Way) -> dict[str, str]:
    """Nothing may be at the key, or only the named version."""
    if not way.conditional:
        return {}
    return {"IfNoneMatch": "*"} if spec.replaces is None else {"IfMatch": f'"{spec.replaces}"'}


def handle_of(algorithm: Algorithm, upload: str) -> str:
    """A session's handle: the checksum that it was opened with goes on beyond this process."""
    return f"{algorithm}:{upload}"


def opened_as(session: Session) -> tuple[Algorithm, str]:
    """The checksum and the UploadId."""
    algorithm, _, upload = session.handle.partition(":")
    return Algorithm(algorithm), upload


def held(part: Reply, algorithm: Algorithm, part_size: int) -> HeldPart:
    """An entry of ListParts."""
    told = algorithm.told(part) if algorithm.whole else None
    number = int(part["PartNumber"])
    return HeldPart(
        number=number,
        offset=(number - 1) * part_size,
        size=int(part["Size"]),
        etag=etag_of(part),
        crc32c=told if algorithm is Algorithm.CRC32C else None,
        crc64nvme=told if algorithm is Algorithm.CRC64NVME else None,
    )


def seen(key: str, reply: Reply) -> ObjectInfo:
    """An object as HeadObject shows it."""
    token = reply.get("Metadata", {}).get(TOKEN_METADATA)
    return written(key, int(reply["ContentLength"]), Token(token) if token else None, reply)


def written(key: str, size: int, token: Token | None, reply: Reply) -> ObjectInfo:
    """An object as the reply to its writing shows it, which tells neither size nor metadata."""
    version = reply.get("VersionId")
    return ObjectInfo(
        key=key,
        size=size,
        etag=etag_of(reply) or None,
        version_id=None if version == "null" else version,
        token=token,
        crc32c=Algorithm.CRC32C.told(reply),
        crc64nvme=Algorithm.CRC64NVME.told(reply),
        md5=md5_etag(reply),
        archived=_archived(reply),
    )


def _archived(reply: Reply) -> bool:
    """Whether RestoreObject must bring it back first; HeadObject's reference, "Restore", "ArchiveStatus"."""
    restored = 'ongoing-request="false"' in reply.get("Restore", "")
    asleep = reply.get("StorageClass") in ("GLACIER", "DEEP_ARCHIVE") or "ArchiveStatus" in reply
    return asleep and not restored


def _plain(value: str) -> str:
    """A metadata value in ASCII.

    S3 signs the header as it was sent and stores it trimmed: white space at the ends is encoded, too.
    """
    if value.isascii() and value.isprintable() and value == value.strip() and "=?" not in value:
        return value
    words = [b""]
    for character in value:
        encoded = character.encode("utf-8", "surrogateescape")
        if len(words[-1]) + len(encoded) > 45:  # an encoded word has at most 75 characters
            words.append(b"")
        words[-1] += encoded
    return " ".join(f"=?UTF-8?B?{base64.b64encode(word).decode()}?=" for word in words)
