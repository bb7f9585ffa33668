"""Multipart uploads."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tests.strict.checksums import Digests
from tests.strict.s3_body import check_claim, claimed_checksum, receive
from tests.strict.s3_objects import check_preconditions, commit, exchange_headers, require_lock_checksum
from tests.strict.s3_state import (
    ALGORITHMS,
    SSE_HEADERS,
    Bucket,
    Part,
    StoredObject,
    Upload,
    b64,
    checksum_name,
    document,
    element,
    encoded,
    iso_date,
    kept_headers,
    parsed,
    random_id,
    user_metadata,
    xml,
)
from tests.strict.sigv4 import Account
from tests.strict.store import joined
from tests.strict.wire import Exchange, RefusalError, Reply

if TYPE_CHECKING:
    from tests.strict.s3 import S3

_XML = {"content-type": "application/xml"}
_DEFAULT_TYPE = {"crc64nvme": "FULL_OBJECT"}  # the others are COMPOSITE unless FULL_OBJECT is asked for
_LEGAL_TYPES = {
    "crc32": ("COMPOSITE", "FULL_OBJECT"),
    "crc32c": ("COMPOSITE", "FULL_OBJECT"),
    "crc64nvme": ("FULL_OBJECT",),
    "sha1": ("COMPOSITE",),
    "sha256": ("COMPOSITE",),
}


class Multipart:
    """CreateMultipartUpload to AbortMultipartUpload."""

    def __init__(self, s3: S3) -> None:
        self._s3 = s3

    def operations(self) -> dict[str, Callable[[Exchange, Account, str], Awaitable[Reply]]]:
        return {
            "CreateMultipartUpload": self.create,
            "UploadPart": self.upload_part,
            "ListParts": self.list_parts,
            "ListMultipartUploads": self.list_uploads,
            "CompleteMultipartUpload": self.complete,
            "AbortMultipartUpload": self.abort,
        }

    def _bucket(self, exchange: Exchange) -> Bucket:
        return self._s3.buckets[exchange.call.bucket]

    def _upload(self, exchange: Exchange) -> Upload:
        upload = self._bucket(exchange).uploads.get(exchange.call.session)
        if upload is None or upload.key != exchange.call.key:
            raise RefusalError(
                404,
                "NoSuchUpload",
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have "
                "been aborted or completed.",
                UploadId=exchange.call.session,
            )
        return upload

    async def create(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        headers = exchange_headers(exchange)
        bucket, key = self._bucket(exchange), exchange.call.key
        await receive(exchange, headers, payload, self._s3.store, limit=64 * 1024)
        algorithm = headers.get("x-amz-checksum-algorithm", "").lower()
        if algorithm and algorithm not in ALGORITHMS:
            raise RefusalError(400, "InvalidRequest", "Checksum algorithm provided is unsupported.")
        if not algorithm and "x-amz-checksum-type" in headers:
            raise RefusalError(400, "InvalidRequest", "x-amz-checksum-type needs x-amz-checksum-algorithm")
        declared, algorithm = bool(algorithm), algorithm or "crc64nvme"
        kind = headers.get("x-amz-checksum-type", _DEFAULT_TYPE.get(algorithm, "COMPOSITE")).upper()
        if kind not in _LEGAL_TYPES[algorithm]:
            raise RefusalError(400, "InvalidRequest", f"{kind} is not supported with {algorithm.upper()}")
        if any(name.startswith("x-amz-object-lock-") for name in headers) and not bucket.object_lock:
            raise RefusalError(400, "InvalidRequest", "Bucket is missing Object Lock Configuration")
        upload = Upload(
            id=random_id(48),
            key=key,
            initiated=self._s3.clock.now(),
            initiator=account.access_key,
            headers=kept_headers(headers),
            metadata=user_metadata(headers),
            tags=headers.get("x-amz-tagging", ""),
            algorithm=algorithm,
            checksum_type=kind,
            declared=declared,
        )
        bucket.uploads[upload.id] = upload
        answer = dict(_XML) | {name: upload.headers[name] for name in SSE_HEADERS if name in upload.headers}
        if declared:
            answer |= {"x-amz-checksum-algorithm": algorithm.upper(), "x-amz-checksum-type": kind}
        body = [element("Bucket", bucket.name), element("Key", key), element("UploadId", upload.id)]
        return Reply(200, answer, document("InitiateMultipartUploadResult", *body))

    async def upload_part(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        headers = exchange_headers(exchange)
        upload = self._upload(exchange)
        number = _number(exchange.query.get("partNumber", ""))
        require_lock_checksum(self._bucket(exchange), headers)
        claimed = claimed_checksum(headers)
        sent = claimed[0] if claimed else headers.get("x-amz-trailer", "").removeprefix("x-amz-checksum-")
        if sent and sent != upload.algorithm:
            expected = upload.algorithm if upload.declared else "null"
            raise RefusalError(
                400,
                "InvalidRequest",
                f"Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: "
                f"{sent}",
            )
        received = await receive(
            exchange, headers, payload, self._s3.store, limit=self._s3.max_part, also=upload.algorithm
        )
        upload = self._upload(exchange)  # it may have been completed or aborted while the body came
        content = received.content
        checksum = (upload.algorithm, b64(content.digests[upload.algorithm]))
        etag = f'"{content.digests["md5"].hex()}"'
        answer = {"etag": etag} | {
            name: upload.headers[name] for name in SSE_HEADERS if name in upload.headers
        }
        quiet = "no-checksums" in self._s3.quirks
        if not quiet:
            answer[f"x-amz-checksum-{checksum[0]}"] = checksum[1]
        kept = exchange.spoil(content)
        if kept is not None:
            upload.parts[number] = Part(number, kept, etag, self._s3.clock.now(), None if quiet else checksum)
        return Reply(200, answer)

    async def list_parts(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        upload, query = self._upload(exchange), exchange.query
        after = int(query.get("part-number-marker", "0") or 0)
        limit = min(int(query.get("max-parts", "1000")), self._s3.max_page)
        parts = [part for number, part in sorted(upload.parts.items()) if number > after]
        page, truncated = parts[:limit], len(parts) > limit
        children = [
            element("Bucket", exchange.call.bucket),
            element("Key", encoded(upload.key, query)),
            element("UploadId", upload.id),
            xml("Initiator", element("ID", upload.initiator), element("DisplayName", upload.initiator)),
            xml("Owner", element("ID", upload.initiator)),
            element("StorageClass", upload.headers.get("x-amz-storage-class", "STANDARD")),
            element("PartNumberMarker", after),
            element("MaxParts", limit),
            element("IsTruncated", str(truncated).lower()),
        ]
        if page:
            children.append(element("NextPartNumberMarker", page[-1].number))
        if upload.declared:
            children += [
                element("ChecksumAlgorithm", upload.algorithm.upper()),
                element("ChecksumType", upload.checksum_type),
            ]
        for part in page:
            sums = [element(checksum_name(part.checksum[0]), part.checksum[1])] if part.checksum else []
            children.append(
                xml(
                    "Part",
                    element("PartNumber", part.number),
                    element("LastModified", iso_date(part.modified)),
                    element("ETag", part.etag),
                    element("Size", part.content.size),
                    *sums,
                )
            )
        return Reply(200, dict(_XML), document("ListPartsResult", *children))

    async def list_uploads(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        query = exchange.query
        prefix = query.get("prefix", "")
        marker = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
        limit = min(int(query.get("max-uploads", "1000")), self._s3.max_page)
        found = sorted(
            (
                upload
                for upload in list(self._bucket(exchange).uploads.values())
                if upload.key.startswith(prefix) and _after(upload, marker)
            ),
            key=lambda upload: (upload.key.encode(), upload.id),
        )
        page, truncated = found[:limit], len(found) > limit
        children = [
            element("Bucket", exchange.call.bucket),
            element("Prefix", encoded(prefix, query)),
            element("KeyMarker", encoded(marker[0], query)),
            element("UploadIdMarker", marker[1]),
            element("MaxUploads", limit),
            element("IsTruncated", str(truncated).lower()),
        ]
        if "encoding-type" in query:
            children.append(element("EncodingType", query["encoding-type"]))
        if truncated:
            children.append(element("NextKeyMarker", encoded(page[-1].key, query)))
            children.append(element("NextUploadIdMarker", page[-1].id))
        children += [
            xml(
                "Upload",
                element("Key", encoded(upload.key, query)),
                element("UploadId", upload.id),
                xml("Initiator", element("ID", upload.initiator), element("DisplayName", upload.initiator)),
                xml("Owner", element("ID", upload.initiator)),
                element("StorageClass", upload.headers.get("x-amz-storage-class", "STANDARD")),
                element("Initiated", iso_date(upload.initiated)),
            )
            for upload in page
        ]
        return Reply(200, dict(_XML), document("ListMultipartUploadsResult", *children))

    async def complete(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        headers = exchange_headers(exchange)
        upload, bucket = self._upload(exchange), self._bucket(exchange)
        # The x-amz-checksum-* header of this call speaks of the object, not of this body.
        about_body = {
            name: value for name, value in headers.items() if not name.startswith("x-amz-checksum-")
        }
        received = await receive(exchange, about_body, payload, self._s3.store, limit=4 * 1024 * 1024)
        self._upload(exchange)
        parts = self._chosen(upload, parsed(received.content.bytes()))
        content = joined(part.content for part in parts)
        checksum = self._object_checksum(upload, parts)
        self._check_claims(headers, upload, checksum, content.size)
        check_preconditions(self._s3, bucket, exchange)
        digest = hashlib.md5(b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)).hexdigest()
        item = StoredObject(
            key=upload.key,
            content=content,
            etag=f'"{digest}-{len(parts)}"',
            modified=self._s3.clock.now(),
            headers=upload.headers,
            metadata=upload.metadata,
            tags=upload.tags,
            checksum=None if "no-checksums" in self._s3.quirks else checksum,
            checksum_type=upload.checksum_type,
            version_id=random_id() if bucket.versioning else None,
            upload_id=upload.id,
            parts=len(parts),
        )
        reply = commit(exchange, bucket, item)
        del bucket.uploads[upload.id]
        children = [
            element("Location", f"{exchange.path}"),
            element("Bucket", bucket.name),
            element("Key", upload.key),
            element("ETag", item.etag),
        ]
        if item.checksum:
            children.append(element(checksum_name(item.checksum[0]), item.checksum[1]))
            children.append(element("ChecksumType", item.checksum_type))
        told = {
            name: value
            for name, value in reply.headers.items()
            if not name.startswith(("etag", "x-amz-checksum"))
        }
        return Reply(200, told | _XML, document("CompleteMultipartUploadResult", *children))

    def _chosen(self, upload: Upload, root: ET.Element) -> list[Part]:
        chosen: list[Part] = []
        for node in root.findall("Part"):
            number = _number(node.findtext("PartNumber", ""))
            if chosen and number <= chosen[-1].number:
                raise RefusalError(
                    400,
                    "InvalidPartOrder",
                    "The list of parts was not in ascending order.",
                    UploadId=upload.id,
                )
            part = upload.parts.get(number)
            etag = node.findtext("ETag", "").strip('"')
            listed = node.findtext(checksum_name(upload.algorithm))
            if upload.declared and upload.checksum_type == "COMPOSITE" and listed is None:
                raise RefusalError(
                    400,
                    "InvalidRequest",
                    f"The upload was created using a {upload.algorithm} checksum. The complete request must "
                    f"include the checksum for each part. It was missing for part {number} in the request.",
                )
            wrong = part is None or etag != part.etag.strip('"')
            if part is None or wrong or (listed and part.checksum and listed != part.checksum[1]):
                raise RefusalError(
                    400,
                    "InvalidPart",
                    "One or more of the specified parts could not be found. The part may not have been "
                    "uploaded, or the specified entity tag may not match the part's entity tag.",
                    UploadId=upload.id,
                    PartNumber=str(number),
                )
            chosen.append(part)
        if not chosen:
            raise RefusalError(400, "MalformedXML", "You must specify at least one part")
        for part in chosen[:-1]:
            if part.content.size < self._s3.min_part:
                raise RefusalError(
                    400,
                    "EntityTooSmall",
                    "Your proposed upload is smaller than the minimum allowed size",
                    ProposedSize=str(part.content.size),
                    MinSizeAllowed=str(self._s3.min_part),
                    PartNumber=str(part.number),
                )
        return chosen

    @staticmethod
    def _object_checksum(upload: Upload, parts: list[Part]) -> tuple[str, str]:
        name = upload.algorithm
        if upload.checksum_type == "FULL_OBJECT":
            return name, b64(joined(part.content for part in parts).digests[name])
        over_parts = Digests({name})
        over_parts.update(b"".join(part.content.digests[name] for part in parts))
        return name, f"{b64(over_parts.values()[name])}-{len(parts)}"

    @staticmethod
    def _check_claims(headers: dict[str, str], upload: Upload, checksum: tuple[str, str], size: int) -> None:
        kind = headers.get("x-amz-checksum-type", upload.checksum_type).upper()
        claimed = claimed_checksum(headers)
        if kind != upload.checksum_type or (claimed and claimed[0] != upload.algorithm):
            raise RefusalError(
                400,
                "InvalidRequest",
                f"The upload was created with {upload.algorithm} {upload.checksum_type}",
            )
        if claimed and upload.checksum_type == "COMPOSITE" and claimed[1] != checksum[1]:
            raise RefusalError(
                400, "BadDigest", "The checksum you specified did not match the calculated checksum."
            )
        if claimed and upload.checksum_type == "FULL_OBJECT":
            check_claim(claimed, base64.b64decode(checksum[1]))
        told = headers.get("x-amz-mp-object-size")
        if told is not None and int(told) != size:
            raise RefusalError(
                400,
                "InvalidRequest",
                f"The provided 'x-amz-mp-object-size' header value {told} does not match",
            )

    async def abort(self, exchange: Exchange, account: Account, payload: str) -> Reply:
        upload = self._upload(exchange)
        del self._bucket(exchange).uploads[upload.id]
        return Reply(204)


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise RefusalError(
            400,
            "InvalidArgument",
            "Part number must be an integer between 1 and 10000, inclusive",
            ArgumentValue=text,
        )
    return int(text)


def _after(upload: Upload, marker: tuple[str, str]) -> bool:
    key, upload_id = marker
    if not upload_id:
        return upload.key.encode() > key.encode()
    return (upload.key.encode(), upload.id) > (key.encode(), upload_id)
