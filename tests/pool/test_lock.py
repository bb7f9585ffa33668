"""Object lock: a copy counts once the retention that was configured reads back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from tests.pool.conftest import Rig, content_of
from tests.strict import StrictServer
from uploaderd.model import UploadState

DAY = 86_400.0
pytestmark = pytest.mark.at("s3")


def locked_bucket(rig: Rig, strict: StrictServer) -> dict[str, Any]:
    """A fresh bucket with object lock, and what makes a provider lock in it."""
    name = f"locked-{rig.settings['bucket']}"
    strict.s3.create_bucket(name, object_lock=True)
    return {"bucket": name, "lock_mode": "governance", "retain_for": "1d", "legal_hold": True}


def only(row: Any) -> Any:
    (upload,) = row.uploads.values()
    return upload


@pytest.mark.parametrize("parts", [0.5, 2.5])
async def test_an_object_is_locked_for_as_long_as_configured(
    rig: Rig, strict: StrictServer, parts: float
) -> None:
    lock = locked_bucket(rig, strict)
    recording = await rig.queue("a.mp4", content_of(int(parts * rig.place.part_size)))
    async with rig.working(**lock):
        row = await rig.settled(recording)
    assert row.state == "safe"
    headers = strict.s3.objects(lock["bucket"])["cams/a.mp4"].headers
    assert headers["x-amz-object-lock-mode"] == "GOVERNANCE"
    assert headers["x-amz-object-lock-legal-hold"] == "ON"
    until = datetime.fromisoformat(headers["x-amz-object-lock-retain-until-date"])
    assert timedelta(0) < until - datetime.now(UTC) <= timedelta(seconds=DAY + 1)


@pytest.mark.parametrize("unseen", ["s3:GetObjectRetention", "s3:GetObjectLegalHold"])
async def test_a_lock_that_does_not_read_back_pauses_the_provider_until_it_does(
    rig: Rig, strict: StrictServer, unseen: str
) -> None:
    lock = locked_bucket(rig, strict)
    content = content_of(1000)
    account = strict.s3.account
    account.denied.add(unseen)
    recording = await rig.queue("a.mp4", content)
    try:
        async with rig.working(**lock):
            row = await rig.until(lambda _, row: only(row).error_code == "unmet", recording)
            assert row.state == "waiting", "the content is there, and does not count"
            assert "does not read back" in (only(row).error_message or "")
            account.denied.discard(unseen)
            row = await rig.settled(recording)
    finally:
        account.denied.discard(unseen)
    assert (row.state, only(row).state) == ("safe", UploadState.VERIFIED)
    assert only(row).bytes_sent == len(content), "it was not sent again"
    assert len(strict.s3.versions(lock["bucket"], "cams/a.mp4")) == 1


async def test_a_bucket_without_object_lock_is_said(rig: Rig) -> None:
    lock: dict[str, Any] = {"lock_mode": "compliance", "retain_for": "1d"}
    recording = await rig.queue("a.mp4", b"content")
    async with rig.working(**lock):
        row = await rig.until(lambda _, row: only(row).error_code is not None, recording)
    assert only(row).error_class == "provider"
    assert row.state == "waiting"


async def test_an_equal_object_without_a_lock_is_not_taken_over(rig: Rig, strict: StrictServer) -> None:
    lock = locked_bucket(rig, strict)
    account = strict.s3.account
    vendor = boto3.client(
        "s3",
        endpoint_url=strict.url,
        region_name="us-east-1",
        aws_access_key_id=account.access_key,
        aws_secret_access_key=account.secret_key,
    )
    vendor.put_object(Bucket=lock["bucket"], Key="cams/a.mp4", Body=b"equal")
    vendor.close()
    recording = await rig.queue("a.mp4", b"equal")
    async with rig.working(**lock):
        row = await rig.settled(recording)
    assert row.state == "safe"
    assert only(row).key != "cams/a.mp4"
    assert "x-amz-object-lock-mode" in strict.s3.objects(lock["bucket"])[only(row).key].headers
