"""How S3's errors are classified, and that real ones arrive as such."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as boto

from tests.contract import acts
from tests.strict import Fault, Kind, StrictServer
from uploaderd import errors
from uploaderd.model import FailureClass
from uploaderd.provider import Provider
from uploaderd.providers.s3_faults import Place, fault_of
from uploaderd.reader import OpenRecording

MIB = 2**20
PLACE = Place("s3_main", "recordings", "s3://recordings", "us-east-1")
TRANSIENT, PROVIDER = FailureClass.TRANSIENT, FailureClass.PROVIDER
RECORDING, CONFLICT = FailureClass.RECORDING, FailureClass.CONFLICT


def answer(code: str, status: int, operation: str = "PutObject", **headers: str) -> boto.ClientError:
    return boto.ClientError(
        {
            "Error": {"Code": code, "Message": "words that nobody decides by"},
            "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "R1", "HTTPHeaders": headers},
        },
        operation,
    )


def fault(error: Exception, seconds: float = 0.0) -> errors.Fault:
    return fault_of(error, PLACE, "profile 'cameras'", "sending 'a.mp4'", seconds)


@pytest.mark.parametrize(
    ("code", "status", "failure", "kind"),
    [
        ("NoSuchBucket", 404, PROVIDER, errors.Fault),
        ("AccessDenied", 403, PROVIDER, errors.Fault),
        ("InvalidAccessKeyId", 403, PROVIDER, errors.Fault),
        ("SignatureDoesNotMatch", 403, PROVIDER, errors.Fault),
        ("ExpiredToken", 400, PROVIDER, errors.Fault),
        ("RequestTimeTooSkewed", 403, PROVIDER, errors.Fault),
        ("AuthorizationHeaderMalformed", 400, PROVIDER, errors.Fault),
        ("PermanentRedirect", 301, PROVIDER, errors.Fault),
        ("QuotaExceeded", 403, PROVIDER, errors.Fault),
        ("XMinioStorageFull", 507, PROVIDER, errors.Fault),
        ("InvalidStorageClass", 400, PROVIDER, errors.Fault),
        ("KMS.DisabledException", 400, PROVIDER, errors.Fault),
        ("EntityTooSmall", 400, PROVIDER, errors.Fault),
        ("403", 403, PROVIDER, errors.Fault),
        ("NeverHeardOf", 401, PROVIDER, errors.Fault),
        ("NeverHeardOf", 403, PROVIDER, errors.Fault),
        ("SlowDown", 503, TRANSIENT, errors.Fault),
        ("InternalError", 500, TRANSIENT, errors.Fault),
        ("RequestTimeout", 400, TRANSIENT, errors.Fault),
        ("KMS.ThrottlingException", 400, TRANSIENT, errors.Fault),
        ("TooManyRequests", 429, TRANSIENT, errors.Fault),
        ("NeverHeardOf", 502, TRANSIENT, errors.Fault),
        ("NoSuchUpload", 404, TRANSIENT, errors.SessionGone),
        ("BadDigest", 400, TRANSIENT, errors.Corrupted),
        ("XAmzContentChecksumMismatch", 400, TRANSIENT, errors.Corrupted),
        ("PreconditionFailed", 412, CONFLICT, errors.KeyTaken),
        ("412", 412, CONFLICT, errors.KeyTaken),
        ("KeyTooLongError", 400, RECORDING, errors.KeyRefused),
        ("EntityTooLarge", 400, RECORDING, errors.FileFault),
    ],
)
def test_answers_are_classified_by_code(
    code: str, status: int, failure: FailureClass, kind: type[errors.Fault]
) -> None:
    found = fault(answer(code, status))

    assert (found.failure, type(found), found.recognised) == (failure, kind, True)
    assert found.code == code
    if kind is not errors.KeyTaken:
        assert (found.http_status, found.request_id) == (status, "R1")
    if failure is PROVIDER:
        assert found.hint
        assert "{" not in found.hint


def test_what_nobody_knows_is_transient_and_said_to_be_unknown() -> None:
    found = fault(answer("NeverHeardOf", 400))
    assert (found.failure, found.recognised) == (TRANSIENT, False)


def test_a_slow_part_is_no_wrong_clock() -> None:
    assert fault(answer("RequestTimeTooSkewed", 403), seconds=1000).failure is TRANSIENT


def test_hints_say_what_to_do() -> None:
    assert fault(answer("NoSuchBucket", 404)).hint == (
        "create the bucket 'recordings' or correct [providers.s3_main] bucket"
    )
    moved = answer("PermanentRedirect", 301, **{"x-amz-bucket-region": "eu-central-1"})
    assert fault(moved).hint == "set [providers.s3_main] region to the bucket's region, 'eu-central-1'"
    assert "profile 'cameras'" in fault(answer("InvalidAccessKeyId", 403)).hint
    assert "assume_role_arn" in fault(answer("AccessDenied", 403, "AssumeRole")).hint
    assert fault(answer("InternalFailure", 500, "AssumeRole")).failure is TRANSIENT


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("17", 17, 17),
        (timedelta(seconds=100), 50, 101),
        (timedelta(seconds=-100), 0, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | timedelta, least: float, most: float) -> None:
    if isinstance(text, timedelta):  # from now: when tests are collected is minutes ago
        text = format_datetime(datetime.now(UTC) + text, usegmt=True)
    after = fault(answer("SlowDown", 503, **{"retry-after": text})).retry_after
    assert after is not None
    assert least <= after <= most


def test_a_retry_after_that_is_neither_is_left() -> None:
    assert fault(answer("SlowDown", 503, **{"retry-after": "soon"})).retry_after is None


def test_no_secret_of_the_answer_is_repeated() -> None:
    leak = answer("NeverHeardOf", 400)
    leak.response["Error"]["Message"] = (
        "see https://b/k?X-Amz-Signature=0123abcd0123abcd&X-Amz-Credential=AKIANOTREAL"
    )
    assert "0123abcd" not in str(fault(leak))
    assert "AKIANOTREAL" not in str(fault(leak))


# Real ones ----------------------------------------------------------------------------------------


def settings(url: str, **changes: Any) -> dict[str, Any]:
    return {
        "type": "s3",
        "bucket": "recordings",
        "region": "us-east-1",
        "endpoint_url": url,
        "access_key_id": "strict-access-key",
        "secret_access_key": "not-a-real-secret",
    } | changes


async def met(table: dict[str, Any], *, key: str = "a.mp4") -> errors.Fault:
    """What a look at the endpoint's write permission meets."""
    async with aclosing(await acts.opened(table, "s3_main")) as provider:
        with pytest.raises(errors.Fault) as caught:
            await provider.probe()
    return caught.value


async def test_a_missing_bucket_pauses_until_it_is_there() -> None:
    with StrictServer() as server:
        async with aclosing(await acts.opened(settings(server.url), "s3_main")) as provider:
            with pytest.raises(errors.Fault) as caught:
                await provider.probe()
            server.s3.create_bucket("recordings")
            await provider.probe()
    assert (caught.value.failure, caught.value.code) == (PROVIDER, "NoSuchBucket")
    assert caught.value.request_id


async def test_a_wrong_region_is_named() -> None:
    with StrictServer() as server:
        server.s3.create_bucket("recordings")
        server.s3.region = "eu-central-1"
        found = await met(settings(server.url))
        asked = len(server.log.entries())
    assert found.failure is PROVIDER
    assert found.hint == "set [providers.s3_main] region to the bucket's region, 'eu-central-1'"
    assert asked == 1, "each call is tried once"


async def test_a_wrong_clock_is_named() -> None:
    with StrictServer() as server:
        server.s3.create_bucket("recordings")
        server.clock.offset = 3600.0
        found = await met(settings(server.url))
    assert (found.failure, found.code) == (PROVIDER, "RequestTimeTooSkewed")
    assert "clock" in found.hint


async def test_slow_down_is_asked_once_and_says_for_how_long() -> None:
    with StrictServer() as server:
        server.s3.create_bucket("recordings")
        slow = Fault(Kind.STATUS, operation="UploadPart", count=None, status=503, retry_after=7)
        with server.faults.expected(slow):
            found = await met(settings(server.url))
        assert slow.fired == 1
    assert (found.failure, found.code, found.retry_after) == (TRANSIENT, "SlowDown", 7.0)


async def test_an_untrusted_certificate_pauses() -> None:
    with StrictServer(tls=True) as server:
        found = await met(settings(server.url))
    assert (found.failure, found.code) == (PROVIDER, "CERTIFICATE_VERIFY_FAILED")
    assert "self-signed" in str(found)
    assert "ca_file" in found.hint


async def test_an_unreadable_ca_file_pauses(tmp_path: Path) -> None:
    with StrictServer(tls=True) as server:
        found = await met(settings(server.url, ca_file=str(tmp_path / "none.pem")))
    assert found.failure is PROVIDER
    assert "No such file" in str(found)
    assert "ca_file" in found.hint


@pytest.mark.parametrize("kind", [Kind.LOSE_REQUEST, Kind.LOSE_REPLY])
async def test_a_broken_connection_passes_and_nothing_is_tried_again(kind: Kind) -> None:
    with StrictServer() as server:
        server.s3.create_bucket("recordings")
        async with aclosing(await acts.opened(settings(server.url), "s3_main")) as provider:
            with server.faults.expected(Fault(kind, operation="CreateMultipartUpload")):
                with pytest.raises(errors.Fault) as caught:
                    await provider.open(acts.spec_of("a.mp4", 3), 5 * MIB)
        assert len(server.log.entries()) == 1
    assert (caught.value.failure, caught.value.recognised) == (TRANSIENT, True)
    assert caught.value.http_status is None


async def test_a_refused_connection_and_an_unknown_host_pass() -> None:
    with StrictServer() as server:
        server.switch_off()
        refused = await met(settings(server.url))
        server.switch_on()
        plain = await met(settings(server.url.replace("http:", "https:")))
    unknown = await met(settings("http://there-is-none.invalid"))
    assert "does the server speak https at that port?" in plain.hint
    for found in (refused, unknown, plain):
        assert (found.failure, found.recognised) == (TRANSIENT, True)


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[Provider]:
    """A provider at a server that does this with every connection."""
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with aclosing(await acts.opened(settings(url), "s3_main")) as provider:
            yield provider


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuses; where there is a body, the refusal is lost as it hangs up."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b"content-length: 0\r\n" not in head.lower():
        await reader.readexactly(MIB)
        writer.transport.abort()
        return
    body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    await writer.drain()
    writer.close()


def success(head: bytes, body: bytes = b"") -> Answer:
    """The same 200 to everything."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).lower()
        if length := re.search(rb"content-length: (\d+)", asked):
            await reader.readexactly(int(length[1]))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + head + b"\r\n" + body)
        await writer.drain()
        writer.close()

    return answer


async def test_a_refusal_that_is_lost_in_a_reset_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(16 * MIB))
    async with (
        served(hang_up) as provider,
        await OpenRecording.open(bytes(tmp_path), b"a.mp4") as recording,
    ):
        with pytest.raises(errors.Fault) as caught:
            await acts.put(provider, acts.spec_of("a.mp4", recording.size), recording)
    assert (caught.value.failure, caught.value.code) == (PROVIDER, "AccessDenied")


async def test_an_object_without_a_length_is_a_fault_that_passes() -> None:
    async with served(success(b"ETag: 1\r\n")) as provider:
        with pytest.raises(errors.Fault, match="does not say how long") as caught:
            await provider.stat("a.mp4")
    assert caught.value.failure is TRANSIENT


@pytest.mark.parametrize("opening", ["<Error>", '<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'])
async def test_an_error_inside_a_success_is_an_error(tmp_path: Path, opening: str) -> None:
    body = f"{opening}<Code>InternalError</Code><Message>no</Message></Error>".encode()
    (tmp_path / "a.mp4").write_bytes(b"recorded")
    async with (
        served(success(b"Content-Length: %d\r\n" % len(body), body)) as provider,
        await OpenRecording.open(bytes(tmp_path), b"a.mp4") as recording,
    ):
        with pytest.raises(errors.Fault) as caught:
            await acts.put(provider, acts.spec_of("a.mp4", recording.size), recording)
    assert (caught.value.failure, caught.value.http_status) == (TRANSIENT, 500)
