"""The smallest policies: a login that may write, and neither list, read nor delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.contract.place import Backend
from tests.pool.conftest import Rig, content_of
from tests.strict import StrictServer

READS = {
    "s3": {
        "s3:GetObject",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:ListMultipartUploadParts",
        "s3:DeleteObject",
    },
    "azure": {"GetBlobProperties", "GetBlob", "GetBlockList", "ListBlobs", "DeleteBlob"},
    "gcs": {"storage.objects.get", "storage.objects.list", "storage.objects.delete"},
}


@contextmanager
def may_only_write(strict: StrictServer, type_: str) -> Iterator[None]:
    match type_:
        case "s3":
            denied = strict.s3.account.denied
        case "azure":
            denied = strict.azure.account.denied.setdefault("key", set())
        case _:
            denied = strict.gcs.auth.add_account().denied
    denied |= READS[type_]
    try:
        yield
    finally:
        denied -= READS[type_]


@pytest.mark.at("s3", "azure", "gcs")
@pytest.mark.parametrize("parts", [0.5, 2.5])
async def test_who_may_only_write_uploads_and_has_the_replies_as_proof(
    rig: Rig, backend: Backend, strict: StrictServer, parts: float
) -> None:
    content = content_of(int(parts * rig.place.part_size))
    recording = await rig.queue("a.mp4", content)
    with may_only_write(strict, backend.type):
        async with rig.working():
            row = await rig.settled(recording)
    (upload,) = row.uploads.values()
    assert row.state == "safe", upload.error_message
    kind: Any = upload.proof_kind
    assert kind.endswith("reply"), kind
    found = await rig.place.vendor.get(upload.key)
    assert found is not None and found.content == content
