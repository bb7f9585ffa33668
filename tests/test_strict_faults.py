"""Every fault of the strict endpoint fires, does what it says, and is missed when it does not fire."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.strict import Fault, Kind, StrictProcess, StrictServer
from tests.strict.faults import FaultBook
from tests.strict.gcs_state import Session
from tests.strict.store import IN_MEMORY

BUCKET = "recordings"
MIB = 1024 * 1024
LOST = BotoCoreError  # no answer came; an answer that refuses is a ClientError


@pytest.fixture
def server() -> Iterator[StrictServer]:
    with StrictServer() as running:
        running.s3.create_bucket(BUCKET)
        yield running
        assert running.crashes == []


def connect(url: str, access_key: str, secret_key: str, **options: Any) -> Any:
    config = Config(
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        read_timeout=10,
        **options,
    )
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=config,
    )


@pytest.fixture
def s3(server: StrictServer) -> Any:
    return connect(server.url, server.s3.account.access_key, server.s3.account.secret_key)


def stored(server: StrictServer) -> dict[str, bytes]:
    return {key: item.content.bytes() for key, item in server.s3.objects(BUCKET).items()}


def test_a_fault_that_never_fires_is_an_error(server: StrictServer, s3: Any) -> None:
    with (
        pytest.raises(AssertionError, match="never fired"),
        server.faults.expected(Fault(Kind.LOSE_REPLY, operation="UploadPart")),
    ):
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")
    assert server.faults.all() == []


def test_matching_by_protocol_operation_key_skip_and_count() -> None:
    book = FaultBook()
    fault = book.add(Fault(Kind.STATUS, protocol="s3", operation="Upload*", key="*.mp4", skip=1, count=2))
    for call in [
        ("azure", "UploadPart", "a.mp4"),
        ("s3", "PutObject", "a.mp4"),
        ("s3", "UploadPart", "a.mkv"),
    ]:
        assert book.arm(*call) == []
    right = ("s3", "UploadPart", "a.mp4")
    assert [bool(book.arm(*right)) for _ in range(5)] == [False, True, True, False, False]
    book.disarm(fault)  # one of them could not show
    assert [bool(book.arm(*right)) for _ in range(2)] == [True, False]


def test_status_with_retry_after_and_code(server: StrictServer, s3: Any) -> None:
    with (
        server.faults.expected(Fault(Kind.STATUS, operation="PutObject", status=503, retry_after=3)),
        pytest.raises(ClientError) as error,
    ):
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"x" * MIB)
    answer = error.value.response
    assert answer["Error"]["Code"] == "SlowDown"
    assert answer["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "3"
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")  # once is once


def test_lost_request_and_lost_reply(server: StrictServer, s3: Any) -> None:
    for kind, there in ((Kind.LOSE_REQUEST, False), (Kind.LOSE_REPLY, True)):
        with server.faults.expected(Fault(kind)), pytest.raises(LOST):
            s3.put_object(Bucket=BUCKET, Key=kind.value, Body=b"x")
        assert (kind.value in stored(server)) is there
        assert server.log.entries("PutObject")[-1].status == 0


def test_reset_in_mid_body(server: StrictServer, s3: Any) -> None:
    with server.faults.expected(Fault(Kind.RESET_BODY, after_bytes=2 * MIB)), pytest.raises(LOST):
        s3.put_object(Bucket=BUCKET, Key="a", Body=os.urandom(8 * MIB))
    assert stored(server) == {}
    assert server.log.entries("PutObject")[-1].received == 2 * MIB


def test_a_fault_that_cannot_show_waits_for_its_turn(server: StrictServer, s3: Any) -> None:
    with server.faults.expected(Fault(Kind.RESET_BODY, after_bytes=100)) as (fault,):
        s3.put_object(Bucket=BUCKET, Key="short", Body=b"x")
        assert fault.fired == 0
        with pytest.raises(LOST):
            s3.put_object(Bucket=BUCKET, Key="long", Body=b"x" * 200)


async def test_stall_until_released_and_until_the_client_leaves(server: StrictServer, s3: Any) -> None:
    data = os.urandom(8 * MIB)
    with server.faults.expected(Fault(Kind.STALL_BODY, after_bytes=MIB)) as (fault,):
        sending = asyncio.create_task(asyncio.to_thread(s3.put_object, Bucket=BUCKET, Key="a", Body=data))
        await asyncio.to_thread(fault.wait_fired)
        assert not sending.done()
        fault.release()
        await sending
    assert stored(server)["a"] == data
    with server.faults.expected(Fault(Kind.STALL_BODY, after_bytes=MIB)) as (fault,):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        signed = _signed_put(server, "b", len(data))
        writer.write(signed + data[: 2 * MIB])
        await asyncio.to_thread(fault.wait_fired)
        writer.transport.abort()
        gone = await asyncio.to_thread(server.log.wait_for, lambda entry: entry.key == "b")
    assert (gone.status, gone.received) == (0, MIB)
    assert "b" not in stored(server)


def _signed_put(server: StrictServer, key: str, size: int) -> bytes:
    """The head of a PUT whose body may be anything."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest("PUT", f"{server.url}/{BUCKET}/{key}", {"Content-Length": str(size)})
    request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
    request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    account = server.s3.account
    auth = S3SigV4Auth(Credentials(account.access_key, account.secret_key), "s3", "us-east-1")
    auth.payload = lambda _: "UNSIGNED-PAYLOAD"
    auth.add_auth(request)
    request.headers["Host"] = f"127.0.0.1:{server.port}"
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"PUT /{BUCKET}/{key} HTTP/1.1\r\n{head}\r\n".encode()


@pytest.mark.parametrize("kind", ["s3", "azure", "gcs"])
def test_a_client_that_dies_in_mid_body(server: StrictServer, kind: str) -> None:
    head = _signed_put(server, "a", 2 * MIB)
    if kind == "azure":
        server.azure.account.tokens.add("t")
        server.azure.create_container(BUCKET)
        target = f"/azure/{server.azure.account.name}/{BUCKET}/a?comp=block&blockid=AAAA"
        head = _plain_put(target, 2 * MIB, "Authorization: Bearer t", "x-ms-version: 2021-12-02")
    if kind == "gcs":
        server.gcs.create_bucket(BUCKET)
        session = Session("s", BUCKET, "a", {}, {}, {}, 0.0)
        server.gcs.sessions["s"] = session
        target = f"/gcs/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&upload_id=s"
        head = _plain_put(target, 2 * MIB, f"Content-Range: bytes 0-{2 * MIB - 1}/*")
    with socket.create_connection(("127.0.0.1", server.port), 10) as peer:
        peer.sendall(head + b"x" * (MIB + 1))
    gone = server.log.wait_for(lambda entry: entry.key == "a")
    assert (gone.status, gone.received) == (0, MIB + 1)
    assert stored(server) == {}
    if kind == "azure":
        assert server.azure.uncommitted(BUCKET) == {}
    if kind == "gcs":
        assert server.gcs.sessions["s"].held == MIB


def _plain_put(target: str, size: int, *headers: str) -> bytes:
    lines = [f"PUT {target} HTTP/1.1", "Host: x", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode()


async def test_hold_and_hold_reply(server: StrictServer, s3: Any) -> None:
    for kind, there in ((Kind.HOLD, False), (Kind.HOLD_REPLY, True)):
        with server.faults.expected(Fault(kind)) as (fault,):
            put = asyncio.to_thread(s3.put_object, Bucket=BUCKET, Key=kind.value, Body=b"x")
            sending = asyncio.create_task(put)
            await asyncio.to_thread(fault.wait_fired)
            assert (kind.value in stored(server)) is there
            fault.release()
            await sending
        assert kind.value in stored(server)


def test_100_continue_comes_after_the_head_was_accepted(server: StrictServer) -> None:
    head = _signed_put(server, "a", 3).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    with socket.create_connection(("127.0.0.1", server.port), 10) as peer:
        peer.sendall(head)
        assert peer.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.sendall(b"abc")
        assert peer.recv(100).startswith(b"HTTP/1.1 200")
    with socket.create_connection(("127.0.0.1", server.port), 10) as peer:
        peer.sendall(head.replace(b"/recordings/a", b"/recordings/b"))
        assert peer.recv(100).startswith(b"HTTP/1.1 403")  # no body was asked for
    with (
        server.faults.expected(Fault(Kind.NEVER_CONTINUE)) as (fault,),
        socket.create_connection(("127.0.0.1", server.port), 10) as peer,
    ):
        peer.sendall(head)
        fault.wait_fired()
        peer.sendall(b"abc")
        assert peer.recv(100).startswith(b"HTTP/1.1 200")


def test_throttle(server: StrictServer, s3: Any) -> None:
    begun = time.monotonic()
    with (
        server.faults.expected(Fault(Kind.THROTTLE, rate=4 * MIB, count=None)),
        ThreadPoolExecutor(2) as pool,
    ):
        for key in "ab":  # the rate is that of both together
            pool.submit(s3.put_object, Bucket=BUCKET, Key=key, Body=b"x" * MIB)
    assert time.monotonic() - begun >= 0.45
    assert sorted(stored(server)) == ["a", "b"]


def test_latency(server: StrictServer, s3: Any) -> None:
    begun = time.monotonic()
    with server.faults.expected(Fault(Kind.LATENCY, seconds=0.2)):
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")
    assert time.monotonic() - begun >= 0.2


def test_lies(server: StrictServer, s3: Any) -> None:
    data = os.urandom(IN_MEMORY + 10)
    flipped = bytearray(data)
    flipped[IN_MEMORY] ^= 1
    for fault, kept in [
        (Fault(Kind.DISCARD), None),
        (Fault(Kind.TRUNCATE), data[: len(data) // 2]),
        (Fault(Kind.TRUNCATE, keep=3), data[:3]),
        (Fault(Kind.FLIP_AT_REST, at_byte=IN_MEMORY), bytes(flipped)),
    ]:
        with server.faults.expected(fault):
            answer = s3.put_object(Bucket=BUCKET, Key="a", Body=data)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert stored(server).get("a") == kept
        if kept is not None:  # the server vouches for what came, not for what it kept
            head = s3.head_object(Bucket=BUCKET, Key="a", ChecksumMode="ENABLED")
            assert (head["ContentLength"], head["ChecksumCRC64NVME"]) == (
                len(kept),
                answer["ChecksumCRC64NVME"],
            )


def test_a_flip_in_one_part_shows_in_the_object(server: StrictServer, s3: Any) -> None:
    server.s3.min_part = 1
    opened = s3.create_multipart_upload(
        Bucket=BUCKET, Key="a", ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
    )["UploadId"]
    wanted = {"Bucket": BUCKET, "Key": "a", "UploadId": opened}
    done = []
    with server.faults.expected(Fault(Kind.FLIP_AT_REST, operation="UploadPart", skip=1, at_byte=1)):
        for number in (1, 2, 3):
            etag = s3.upload_part(**wanted, PartNumber=number, Body=b"part")["ETag"]
            done.append({"PartNumber": number, "ETag": etag})
    s3.complete_multipart_upload(**wanted, MultipartUpload={"Parts": done})
    assert stored(server)["a"] == b"partp`rtpart"


def test_an_error_inside_200_and_a_forgotten_session(server: StrictServer, s3: Any) -> None:
    opened = s3.create_multipart_upload(Bucket=BUCKET, Key="a")["UploadId"]
    wanted = {"Bucket": BUCKET, "Key": "a", "UploadId": opened}
    etag = s3.upload_part(**wanted, PartNumber=1, Body=b"x")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    with server.faults.expected(Fault(Kind.ERROR_IN_200)), pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(**wanted, MultipartUpload=parts)
    assert error.value.response["Error"]["Code"] == "InternalError"
    assert server.log.entries("CompleteMultipartUpload")[-1].status == 200
    assert stored(server) == {}
    with server.faults.expected(Fault(Kind.FORGET_SESSION)), pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(**wanted, MultipartUpload=parts)
    assert error.value.response["Error"]["Code"] == "NoSuchUpload"


def test_cut_reply(server: StrictServer, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"x" * MIB)
    with server.faults.expected(Fault(Kind.CUT_REPLY, after_bytes=1000)), pytest.raises(LOST):
        s3.get_object(Bucket=BUCKET, Key="a")["Body"].read()


def test_switched_off_and_on_again(server: StrictServer, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")
    with server.switched_off(), pytest.raises(LOST):
        s3.head_object(Bucket=BUCKET, Key="a")
    assert s3.head_object(Bucket=BUCKET, Key="a")["ContentLength"] == 1


def test_large_bodies_leave_memory_and_disk(server: StrictServer, s3: Any) -> None:
    folder = server.store.folder
    data = os.urandom(3 * MIB)
    s3.put_object(Bucket=BUCKET, Key="a", Body=data)
    assert [path.stat().st_size for path in folder.iterdir()] == [3 * MIB]
    assert stored(server)["a"] == data
    with server.faults.expected(Fault(Kind.RESET_BODY, after_bytes=MIB)), pytest.raises(LOST):
        s3.put_object(Bucket=BUCKET, Key="b", Body=data)
    s3.delete_object(Bucket=BUCKET, Key="a")
    assert list(folder.iterdir()) == []


def test_the_process_is_steered_from_outside() -> None:
    with StrictProcess() as process:
        process.create_bucket("s3", BUCKET)
        process.create_bucket("azure", BUCKET)
        process.create_bucket("gcs", BUCKET)
        process.control(
            "POST", "object", {"protocol": "gcs", "bucket": BUCKET, "key": "a", "text": "foreign"}
        )
        state = process.state()
        s3 = connect(process.url, state["s3"]["access_key"], state["s3"]["secret_key"])
        fault = process.add_fault(Fault(Kind.LOSE_REPLY, operation="PutObject", skip=1))
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"one", Metadata={"token": "t"})
        with pytest.raises(LOST):
            s3.put_object(Bucket=BUCKET, Key="b", Body=b"two")
        assert process.fired(fault) == 1
        assert process.content("s3", BUCKET, "b") == b"two"
        assert process.content("gcs", BUCKET, "a") == b"foreign"
        objects = process.state()["s3"]["buckets"][BUCKET]["objects"]
        assert objects == {"a": {"size": 3, "metadata": {"token": "t"}}, "b": {"size": 3, "metadata": {}}}
        assert [entry["status"] for entry in process.requests(operation="PutObject")] == [200, 0]
        opened = s3.create_multipart_upload(Bucket=BUCKET, Key="c")["UploadId"]
        assert opened in process.state()["s3"]["buckets"][BUCKET]["uploads"]
        assert process.control("POST", "command", {"command": "forget_sessions", "bucket": BUCKET}) == {
            "count": 1
        }
        process.control("POST", "settings", {"s3": {"min_part": 7}, "clock_offset": 3600})
        process.control("POST", "deny", {"protocol": "s3", "names": ["s3:GetObject"]})
        with pytest.raises(ClientError) as error:
            s3.head_bucket(Bucket=BUCKET)
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        with pytest.raises(HTTPError) as refused:
            process.control("POST", "settings", {"s3": {"mistyped": 1}})
        with refused.value:
            assert "no setting mistyped" in json.loads(refused.value.read())["error"]
        assert process.control("DELETE", "faults") == []
        assert process.state()["crashes"] == []


def test_a_process_with_tls() -> None:
    with StrictProcess(tls=True) as process:
        assert process.url.startswith("https://")
        assert process.state()["ca_file"] == str(process.ca_file)
        with pytest.raises((OSError, http.client.HTTPException)):
            urlopen(process.url.replace("https", "http") + "/_control/state", timeout=10)
