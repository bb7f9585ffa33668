"""The strict endpoint's S3 side against the vendor's own client: what S3 refuses must be refused here."""

from __future__ import annotations

import base64
import hashlib
import os
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import botocore.session
import pytest
from awscrt import checksums as crt
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.strict import Fault, Kind, StrictServer

MIB = 1024 * 1024
BUCKET = "recordings"


@pytest.fixture
def server() -> Iterator[StrictServer]:
    with StrictServer() as running:
        running.s3.create_bucket(BUCKET)
        yield running
        assert running.crashes == []


def client(server: StrictServer, **changes: Any) -> Any:
    settings = {
        "endpoint_url": server.url,
        "region_name": "us-east-1",
        "aws_access_key_id": server.s3.account.access_key,
        "aws_secret_access_key": server.s3.account.secret_key,
        "verify": str(server.ca_file) if server.ca_file else None,
        "config": Config(
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    }
    return botocore.session.Session().create_client("s3", **(settings | changes))


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def b64(number: int, width: int) -> str:
    return base64.b64encode(number.to_bytes(width, "big")).decode()


def crc64(data: bytes) -> str:
    return b64(crt.crc64nvme(data), 8)


def upload(s3: Any, key: str, parts: list[bytes], **options: Any) -> tuple[str, list[dict[str, Any]]]:
    """An open multipart upload with these parts; its id, and the parts as Complete wants them."""
    opened = s3.create_multipart_upload(Bucket=BUCKET, Key=key, **options)["UploadId"]
    done = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(Bucket=BUCKET, Key=key, UploadId=opened, PartNumber=number, Body=data)[
                "ETag"
            ],
        }
        for number, data in enumerate(parts, 1)
    ]
    return opened, done


FULL = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}


def test_put_head_get_and_list(server: StrictServer) -> None:
    s3 = client(server)
    key, data = "tag 1/ä+%#😀 ~x.mp4", os.urandom(700_000)
    put = s3.put_object(
        Bucket=BUCKET,
        Key=key,
        Body=data,
        Metadata={"token": "abc"},
        ContentType="video/mp4",
        StorageClass="STANDARD_IA",
    )
    assert put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert (put["ChecksumCRC64NVME"], put["ChecksumType"]) == (crc64(data), "FULL_OBJECT")
    head = s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    assert head["ContentLength"] == len(data)
    assert head["Metadata"] == {"token": "abc"}
    assert head["StorageClass"] == "STANDARD_IA"
    assert head["ServerSideEncryption"] == "AES256"
    assert head["ChecksumCRC64NVME"] == crc64(data)
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == data
    assert s3.get_object(Bucket=BUCKET, Key=key, Range="bytes=5-9")["Body"].read() == data[5:10]
    listed = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert [(item["Key"], item["Size"]) for item in listed] == [(key, len(data))]
    assert server.s3.objects(BUCKET)[key].content.bytes() == data
    s3.delete_object(Bucket=BUCKET, Key=key)
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=BUCKET, Key=key)
    assert code(error) == (404, "NoSuchKey")


def test_credentials_and_clock(server: StrictServer) -> None:
    for changes, expected in [
        ({"aws_access_key_id": "nobody"}, (403, "InvalidAccessKeyId")),
        ({"aws_secret_access_key": "wrong"}, (403, "SignatureDoesNotMatch")),
        ({"aws_session_token": "surplus"}, (400, "InvalidToken")),
    ]:
        with pytest.raises(ClientError) as error:
            client(server, **changes).put_object(Bucket=BUCKET, Key="a", Body=b"x")
        assert code(error) == expected
    # botocore learns the region from the refusal and asks again, as it does at S3.
    client(server, region_name="eu-central-1").put_object(Bucket=BUCKET, Key="elsewhere", Body=b"x")
    assert [entry.code for entry in server.log.entries("PutObject")[-2:]] == [
        "AuthorizationHeaderMalformed",
        "",
    ]
    server.clock.offset = 16 * 60
    with pytest.raises(ClientError) as error:
        client(server).put_object(Bucket=BUCKET, Key="a", Body=b"x")
    assert code(error) == (403, "RequestTimeTooSkewed")
    assert list(server.s3.objects(BUCKET)) == ["elsewhere"]


def test_session_token_and_its_end(server: StrictServer) -> None:
    account = server.s3.add_account("temporary", "not-a-real-secret-2", session_token="not-a-real-token")
    s3 = client(
        server,
        aws_access_key_id="temporary",
        aws_secret_access_key="not-a-real-secret-2",
        aws_session_token="not-a-real-token",
    )
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")
    account.expired = True
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")
    assert code(error) == (400, "ExpiredToken")


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"ContentMD5": base64.b64encode(b"0" * 16).decode()}, "BadDigest"),
        ({"ContentMD5": "short"}, "InvalidDigest"),
        ({"ChecksumCRC64NVME": crc64(b"other")}, "BadDigest"),
        ({"ChecksumCRC32C": b64(crt.crc32c(b"other"), 4)}, "BadDigest"),
        ({"ChecksumCRC32": b64(crt.crc32(b"other"), 4)}, "BadDigest"),
        ({"ChecksumSHA256": base64.b64encode(hashlib.sha256(b"other").digest()).decode()}, "BadDigest"),
        ({"ChecksumCRC32C": crc64(b"content")}, "InvalidRequest"),
    ],
)
def test_wrong_checksum_stores_nothing(server: StrictServer, wrong: dict[str, str], expected: str) -> None:
    s3 = client(server)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"content", **wrong)
    assert code(error) == (400, expected)
    opened = s3.create_multipart_upload(Bucket=BUCKET, Key="a")["UploadId"]
    with pytest.raises(ClientError) as error:
        s3.upload_part(Bucket=BUCKET, Key="a", UploadId=opened, PartNumber=1, Body=b"content", **wrong)
    assert code(error)[0] == 400
    assert server.s3.objects(BUCKET) == {}
    assert [upload.parts for upload in server.s3.open_uploads(BUCKET)] == [{}]


def test_right_checksums_pass_as_header(server: StrictServer) -> None:
    s3, data = client(server), b"content"
    for name, value in {
        "ChecksumCRC64NVME": crc64(data),
        "ChecksumCRC32C": b64(crt.crc32c(data), 4),
        "ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
        "ContentMD5": base64.b64encode(hashlib.md5(data).digest()).decode(),
    }.items():
        answer = s3.put_object(Bucket=BUCKET, Key=name, Body=data, **{name: value})
        if name != "ContentMD5":
            assert answer[name] == value


def test_trailer_is_decoded_and_checked() -> None:
    data = os.urandom(300_000)
    with StrictServer(tls=True) as server:
        server.s3.create_bucket(BUCKET)
        s3 = client(server)
        s3.put_object(Bucket=BUCKET, Key="a", Body=data, ChecksumAlgorithm="CRC32")
        sent = server.log.entries("PutObject")[-1]
        assert sent.headers["x-amz-content-sha256"] == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
        assert sent.headers["x-amz-trailer"] == "x-amz-checksum-crc32"
        stored = server.s3.objects(BUCKET)["a"]
        assert stored.content.bytes() == data
        assert stored.checksum == ("crc32", b64(crt.crc32(data), 4))
        assert "content-encoding" not in stored.headers
        with (
            server.faults.expected(Fault(Kind.FLIP_IN_TRANSIT, at_byte=1000)),
            pytest.raises(ClientError) as error,
        ):
            s3.put_object(Bucket=BUCKET, Key="b", Body=data, ChecksumAlgorithm="CRC32")
        assert code(error) == (400, "BadDigest")
        assert list(server.s3.objects(BUCKET)) == ["a"]


def test_signed_payload_is_compared_with_the_bytes(server: StrictServer) -> None:
    with server.faults.expected(Fault(Kind.FLIP_IN_TRANSIT)), pytest.raises(ClientError) as error:
        client(server).put_object(Bucket=BUCKET, Key="a", Body=b"content")  # http: botocore signs the payload
    assert code(error) == (400, "XAmzContentSHA256Mismatch")
    assert server.s3.objects(BUCKET) == {}


def test_multipart_with_a_full_object_checksum(server: StrictServer) -> None:
    s3, parts = client(server), [os.urandom(5 * MIB), os.urandom(5 * MIB), b"end"]
    opened, done = upload(s3, "a", parts, Metadata={"token": "t"}, **FULL)
    part = s3.upload_part(
        Bucket=BUCKET,
        Key="a",
        UploadId=opened,
        PartNumber=2,
        Body=parts[1],
        ChecksumCRC64NVME=crc64(parts[1]),
    )
    assert part["ChecksumCRC64NVME"] == crc64(parts[1])
    listed = s3.list_parts(Bucket=BUCKET, Key="a", UploadId=opened)
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == ("CRC64NVME", "FULL_OBJECT")
    assert [(p["PartNumber"], p["Size"], p["ChecksumCRC64NVME"]) for p in listed["Parts"]] == [
        (number, len(data), crc64(data)) for number, data in enumerate(parts, 1)
    ]
    whole = b"".join(parts)
    wanted = {"Bucket": BUCKET, "Key": "a", "UploadId": opened, "MultipartUpload": {"Parts": done}}
    for wrong in ({"ChecksumCRC64NVME": crc64(b"other")}, {"MpuObjectSize": 17}):
        with pytest.raises(ClientError) as error:
            s3.complete_multipart_upload(**wanted, **wrong)
        assert code(error) == (400, "BadDigest" if "ChecksumCRC64NVME" in wrong else "InvalidRequest")
        assert server.s3.objects(BUCKET) == {}
    ended = s3.complete_multipart_upload(
        **wanted, ChecksumCRC64NVME=crc64(whole), ChecksumType="FULL_OBJECT", MpuObjectSize=len(whole)
    )
    assert ended["ETag"].endswith('-3"')
    head = s3.head_object(Bucket=BUCKET, Key="a", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC64NVME"], head["ChecksumType"]) == (crc64(whole), "FULL_OBJECT")
    assert head["Metadata"] == {"token": "t"}
    assert server.s3.objects(BUCKET)["a"].content.bytes() == whole
    with pytest.raises(ClientError) as error:  # a second Complete is not taken
        s3.complete_multipart_upload(**wanted)
    assert code(error) == (404, "NoSuchUpload")
    with pytest.raises(ClientError) as error:
        s3.abort_multipart_upload(Bucket=BUCKET, Key="a", UploadId=opened)
    assert code(error) == (404, "NoSuchUpload")


def test_composite_checksum_needs_each_part(server: StrictServer) -> None:
    s3, parts = client(server), [os.urandom(5 * MIB), b"end"]
    opened, done = upload(s3, "a", parts, ChecksumAlgorithm="CRC32C")
    wanted = {"Bucket": BUCKET, "Key": "a", "UploadId": opened}
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(**wanted, MultipartUpload={"Parts": done})
    assert code(error) == (400, "InvalidRequest")
    sums = [crt.crc32c(data).to_bytes(4, "big") for data in parts]
    for part, value in zip(done, sums, strict=True):
        part["ChecksumCRC32C"] = base64.b64encode(value).decode()
    ended = s3.complete_multipart_upload(**wanted, MultipartUpload={"Parts": done})
    assert ended["ChecksumCRC32C"] == b64(crt.crc32c(b"".join(sums)), 4) + "-2"
    assert ended["ChecksumType"] == "COMPOSITE"


def test_parts_that_s3_refuses(server: StrictServer) -> None:
    s3 = client(server)
    opened, done = upload(s3, "a", [b"small", b"end"], **FULL)
    wanted = {"Bucket": BUCKET, "Key": "a", "UploadId": opened}

    def refused(parts: list[dict[str, Any]]) -> tuple[int, str]:
        with pytest.raises(ClientError) as error:
            s3.complete_multipart_upload(**wanted, MultipartUpload={"Parts": parts})
        return code(error)

    assert refused(done) == (400, "EntityTooSmall")
    assert refused(done[::-1]) == (400, "InvalidPartOrder")
    assert refused([done[0], {"PartNumber": 3, "ETag": "x"}]) == (400, "InvalidPart")
    assert refused([{"PartNumber": 1, "ETag": '"0"'}]) == (400, "InvalidPart")
    for number in (0, 10_001):
        with pytest.raises(ClientError) as error:
            s3.upload_part(**wanted, PartNumber=number, Body=b"x")
        assert code(error) == (400, "InvalidArgument")
    server.s3.max_part = 3
    with pytest.raises(ClientError) as error:
        s3.upload_part(**wanted, PartNumber=3, Body=b"four")
    assert code(error) == (400, "EntityTooLarge")
    with pytest.raises(ClientError) as error:  # CRC64NVME was promised
        s3.upload_part(**wanted, PartNumber=3, Body=b"x", ChecksumCRC32C=b64(crt.crc32c(b"x"), 4))
    assert code(error) == (400, "InvalidRequest")
    with pytest.raises(ClientError) as error:
        s3.create_multipart_upload(
            Bucket=BUCKET, Key="b", ChecksumAlgorithm="SHA256", ChecksumType="FULL_OBJECT"
        )
    assert code(error) == (400, "InvalidRequest")
    server.s3.min_part = 1
    s3.complete_multipart_upload(**wanted, MultipartUpload={"Parts": done})


def test_listings_come_in_pages(server: StrictServer) -> None:
    s3 = client(server)
    opened, _ = upload(s3, "ä b", [b"1", b"2", b"3"])
    others = [s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"] for key in ("ä b", "b", "c")]
    server.s3.max_page = 2
    first = s3.list_parts(Bucket=BUCKET, Key="ä b", UploadId=opened)
    assert (first["IsTruncated"], first["NextPartNumberMarker"], len(first["Parts"])) == (True, 2, 2)
    found = s3.get_paginator("list_parts").paginate(Bucket=BUCKET, Key="ä b", UploadId=opened)
    assert [part["PartNumber"] for page in found for part in page["Parts"]] == [1, 2, 3]
    pages = list(s3.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET))
    assert len(pages) == 2
    listed = [item for page in pages for item in page["Uploads"]]
    assert {item["UploadId"] for item in listed} == {opened, *others}
    assert {item["Initiator"]["ID"] for item in listed} == {server.s3.account.access_key}
    assert [item["Key"] for item in listed] == ["b", "c", "ä b", "ä b"]


def test_preconditions(server: StrictServer) -> None:
    s3 = client(server)
    etag = s3.put_object(Bucket=BUCKET, Key="a", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"2", IfNoneMatch="*")
    assert code(error) == (412, "PreconditionFailed")
    opened, done = upload(s3, "a", [b"3"])
    wanted = {"Bucket": BUCKET, "Key": "a", "UploadId": opened, "MultipartUpload": {"Parts": done}}
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"0"'}):
        with pytest.raises(ClientError) as error:
            s3.complete_multipart_upload(**wanted, **condition)
        assert code(error) == (412, "PreconditionFailed")
    assert server.s3.objects(BUCKET)["a"].content.bytes() == b"1"
    s3.complete_multipart_upload(**wanted, IfMatch=etag)
    assert server.s3.objects(BUCKET)["a"].content.bytes() == b"3"
    with server.faults.expected(Fault(Kind.STATUS, status=409)), pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="b", Body=b"1", IfNoneMatch="*")
    assert code(error) == (409, "ConditionalRequestConflict")


def test_permissions_and_missing_things(server: StrictServer) -> None:
    s3 = client(server)
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket=BUCKET, Key="missing")
    assert code(error)[0] == 404
    server.s3.account.denied = {"s3:ListBucket"}
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket=BUCKET, Key="missing")
    assert code(error)[0] == 403
    server.s3.account.denied = {"s3:PutObject"}
    with pytest.raises(ClientError) as error:
        s3.create_multipart_upload(Bucket=BUCKET, Key="a")
    assert code(error) == (403, "AccessDenied")
    server.s3.account.denied = set()
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="nowhere", Key="a", Body=b"")
    assert code(error) == (404, "NoSuchBucket")
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="k" * 1025, Body=b"")
    assert code(error) == (400, "KeyTooLongError")
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"", Metadata={"m": "x" * 2100})
    assert code(error) == (400, "MetadataTooLarge")


def test_versions_locks_and_kms(server: StrictServer) -> None:
    server.s3.create_bucket("locked", object_lock=True)
    s3 = client(server)
    lock: dict[str, Any] = {
        "ObjectLockMode": "COMPLIANCE",
        "ObjectLockRetainUntilDate": "2030-01-01T00:00:00Z",
    }
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"x", ChecksumCRC64NVME=crc64(b"x"), **lock)
    assert code(error) == (400, "InvalidRequest")
    first = s3.put_object(
        Bucket="locked",
        Key="a",
        Body=b"x",
        ChecksumCRC64NVME=crc64(b"x"),
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId="key-1",
        Tagging="a=1&b=2",
        **lock,
    )
    second = s3.put_object(Bucket="locked", Key="a", Body=b"y", ChecksumCRC64NVME=crc64(b"y"))
    assert first["VersionId"] != second["VersionId"]
    old = s3.head_object(Bucket="locked", Key="a", VersionId=first["VersionId"])
    assert (old["ObjectLockMode"], old["SSEKMSKeyId"], old["TagCount"]) == ("COMPLIANCE", "key-1", 2)
    assert old["ObjectLockRetainUntilDate"].year == 2030
    opened = s3.create_multipart_upload(Bucket="locked", Key="b", **lock)["UploadId"]
    server.log.clear()
    with pytest.raises(ClientError) as error:
        s3.upload_part(Bucket="locked", Key="b", UploadId=opened, PartNumber=1, Body=b"x")
    assert code(error) == (400, "InvalidRequest")
    s3.delete_object(Bucket="locked", Key="a")
    assert [item.deleted for item in server.s3.versions("locked", "a")] == [False, False, True]
    assert server.s3.objects("locked") == {}


def test_presigned_urls(server: StrictServer) -> None:
    s3 = client(server, config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))
    s3.put_object(Bucket=BUCKET, Key="ä b", Body=b"content")
    url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "ä b"}, ExpiresIn=60)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"content"

    def refused(address: str) -> int:
        with pytest.raises(HTTPError) as error:
            urllib.request.urlopen(address)
        with error.value:
            return error.value.code

    assert refused(url.replace("Expires=60", "Expires=61")) == 403
    assert refused(url.replace("%20b", "%20c")) == 403
    assert refused(url.partition("?")[0]) == 403
    server.clock.offset = 61
    assert refused(url) == 403


def test_quirks_of_compatible_stores(server: StrictServer) -> None:
    server.s3.quirks = {"no-checksums", "ignores-preconditions"}
    s3 = client(server)
    with pytest.raises(ClientError) as error:
        s3.create_multipart_upload(Bucket=BUCKET, Key="a", **FULL)
    assert code(error) == (501, "NotImplemented")
    assert "ChecksumCRC64NVME" not in s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"2", IfNoneMatch="*")
    assert server.s3.objects(BUCKET)["a"].content.bytes() == b"2"


async def test_the_asynchronous_client_too(server: StrictServer) -> None:
    from aiobotocore.session import get_session

    parts = [os.urandom(5 * MIB), os.urandom(600_000)]
    async with get_session().create_client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=server.s3.account.access_key,
        aws_secret_access_key=server.s3.account.secret_key,
    ) as s3:  # with the library's defaults: CRC32, Expect: 100-continue for streams
        opened = (await s3.create_multipart_upload(Bucket=BUCKET, Key="a", ChecksumAlgorithm="CRC32"))[
            "UploadId"
        ]
        done = []
        for number, data in enumerate(parts, 1):
            part = await s3.upload_part(
                Bucket=BUCKET,
                Key="a",
                UploadId=opened,
                PartNumber=number,
                Body=data,
                ChecksumAlgorithm="CRC32",
            )
            done.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]})
        await s3.complete_multipart_upload(
            Bucket=BUCKET, Key="a", UploadId=opened, MultipartUpload={"Parts": done}
        )
    assert server.s3.objects(BUCKET)["a"].content.bytes() == b"".join(parts)
