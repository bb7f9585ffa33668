"""Is the server itself right? Asked before anything is measured, of checksums that AWS' own library makes."""

from __future__ import annotations

import base64
import http.client
import json
import random
import ssl
from collections.abc import Mapping
from email.message import Message
from urllib.parse import urlsplit

from tests.bench.bench import Bench
from tests.bench.endpoint import Endpoint
from uploaderd import checksum

_CONTENT = random.Random(7).randbytes(300_001)


class WrongError(Exception):
    """The server does not do what clients rely on: nothing that it measures would mean anything."""


def endpoint(bench: Bench) -> None:
    """Send the same bytes by each protocol, right and damaged.

    Raises:
        WrongError: an answer is not what it must be.
    """
    with bench.endpoint() as there:
        _s3(there)
        _azure(there)
        _gcs(there)


def _s3(there: Endpoint) -> None:
    whole = checksum.of(_CONTENT)
    nvme = {"x-amz-checksum-crc64nvme": checksum.b64_crc64nvme(whole.crc64nvme)}
    _expect(there, "PUT", "/b/one", {**nvme, "x-amz-meta-a": "b"}, _CONTENT, 200, nvme)
    _expect(there, "PUT", "/b/bad", nvme, b"x" + _CONTENT[1:], 400, {})
    shown = {**nvme, "x-amz-meta-a": "b", "Content-Length": str(len(_CONTENT))}
    _expect(there, "HEAD", "/b/one", {"x-amz-checksum-mode": "ENABLED"}, None, 200, shown)
    _expect(there, "HEAD", "/b/bad", {}, None, 404, {})

    asked = {"x-amz-checksum-algorithm": "CRC64NVME", "x-amz-checksum-type": "FULL_OBJECT"}
    opened = _expect(there, "POST", "/b/two?uploads", asked, b"", 200, {})
    upload = opened.decode().partition("<UploadId>")[2].partition("<")[0]
    for number, part in ((2, _CONTENT[100_000:]), (1, _CONTENT[:100_000])):
        told = {"x-amz-checksum-crc64nvme": checksum.b64_crc64nvme(checksum.of(part).crc64nvme)}
        _expect(there, "PUT", f"/b/two?partNumber={number}&uploadId={upload}", {}, part, 200, told)
    listed = b"".join(b"<Part><PartNumber>%d</PartNumber></Part>" % number for number in (1, 2))
    done = _expect(there, "POST", f"/b/two?uploadId={upload}", nvme, listed, 200, {})
    if nvme["x-amz-checksum-crc64nvme"] not in done.decode():
        raise WrongError("S3: the checksum of the joined parts is not that of the whole")
    _expect(there, "HEAD", "/b/two", {"x-amz-checksum-mode": "ENABLED"}, None, 200, nvme)


def _azure(there: Endpoint) -> None:
    version = {"x-ms-version": "2021-12-02"}
    little = base64.b64encode(checksum.of(_CONTENT).crc64nvme.to_bytes(8, "little")).decode()
    crc64 = {"x-ms-content-crc64": little}
    _expect(there, "PUT", "/a/c/k?comp=block&blockid=QQ%3D%3D", {**version, **crc64}, _CONTENT, 201, crc64)
    _expect(there, "PUT", "/a/c/k?comp=block&blockid=Qg%3D%3D", {**version, **crc64}, b"no", 400, {})
    commit = b"<?xml version='1.0'?><BlockList><Uncommitted>QQ==</Uncommitted></BlockList>"
    _expect(there, "PUT", "/a/c/k?comp=blocklist", {**version, "x-ms-meta-t": "1"}, commit, 201, {})
    listed = _expect(there, "GET", "/a/c/k?comp=blocklist&blocklisttype=committed", version, None, 200, {})
    if b"<Name>QQ==</Name><Size>300001</Size>" not in listed:
        raise WrongError("Azure: the committed blocks are not those that were staged")
    shown = {"x-ms-meta-t": "1", "Content-Length": str(len(_CONTENT))}
    _expect(there, "HEAD", "/a/c/k", version, None, 200, shown)


def _gcs(there: Endpoint) -> None:
    crc32c = checksum.b64_crc32c(checksum.of(_CONTENT).crc32c)
    for claimed, status in ((crc32c, 200), ("AAAAAA==", 400)):
        described = json.dumps({"name": "k", "metadata": {"t": "1"}, "crc32c": claimed}).encode()
        body = b"--x\r\n\r\n" + described + b"\r\n--x\r\n\r\n" + _CONTENT + b"\r\n--x--\r\n"
        told = _expect(there, "POST", "/upload/storage/v1/b/c/o?uploadType=multipart", {}, body, status, {})
    described = json.dumps({"name": "r", "metadata": {"t": "1"}}).encode()
    path = "/upload/storage/v1/b/c/o?uploadType=resumable"
    location = _ask(there, "POST", path, {"Host": "h"}, described)[1]["Location"]
    session = location.partition("h/")[2]
    first = {"Content-Range": f"bytes 0-262143/{len(_CONTENT)}"}
    _expect(there, "PUT", f"/{session}", first, _CONTENT[:262144], 308, {"Range": "bytes=0-262143"})
    last = {"Content-Range": f"bytes 262144-300000/{len(_CONTENT)}", "X-Goog-Hash": f"crc32c={crc32c}"}
    told = _expect(there, "PUT", f"/{session}", last, _CONTENT[262144:], 200, {})
    resource = json.loads(told)
    if (resource["crc32c"], resource["size"]) != (crc32c, str(len(_CONTENT))):
        raise WrongError(f"GCS: {resource} is not what was sent")
    if json.loads(_expect(there, "GET", "/storage/v1/b/c/o/r", {}, None, 200, {}))["metadata"] != {"t": "1"}:
        raise WrongError("GCS: the metadata is not what was sent")


def _expect(
    there: Endpoint,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes | None,
    status: int,
    told: Mapping[str, str],
) -> bytes:
    got, heads, content = _ask(there, method, path, headers, body)
    wrong = {name: heads.get(name) for name, value in told.items() if heads.get(name) != value}
    if got != status or wrong:
        raise WrongError(
            f"{method} {path}: {got} instead of {status}; {wrong} instead of {dict(told)}; {content!r}"
        )
    return content


def _ask(
    there: Endpoint, method: str, path: str, headers: Mapping[str, str], body: bytes | None
) -> tuple[int, Message, bytes]:
    trust = ssl.create_default_context(cafile=there.authority)
    connection = http.client.HTTPSConnection(urlsplit(there.url).netloc, context=trust, timeout=10)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()
