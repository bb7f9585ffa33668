"""What is taken for a checksum of the content in S3's replies, and what is not."""

from __future__ import annotations

import hashlib

import pytest

from uploaderd import checksum
from uploaderd.errors import Corrupted
from uploaderd.providers.s3_checksum import Algorithm, compared, content_md5


def test_an_etag_that_is_not_the_md5_is_damage() -> None:
    """Where a store does not look at Content-MD5, its ETag shows what came."""
    sent = checksum.of(b"abc")
    right = content_md5(hashlib.md5(b"abc").digest())
    whole, parted = hashlib.md5(b"abd").hexdigest(), hashlib.md5(b"abd").hexdigest() + "-2"

    with pytest.raises(Corrupted) as caught:
        compared(Algorithm.MD5, sent, {"ETag": f'"{whole}"'}, right, "sending")

    assert "checksum" in caught.value.hint
    assert compared(Algorithm.MD5, sent, {"ETag": f'"{parted}"'}, right, "sending") is None
    assert compared(Algorithm.NONE, sent, {"ETag": f'"{whole}"'}, None, "sending") is None


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"ChecksumCRC64NVME": "sP7gLb80aAY=-4"},
        {"ChecksumCRC64NVME": "sP7gLb80aAY=", "ChecksumType": "COMPOSITE"},
        {"ChecksumCRC64NVME": "no base64"},
    ],
    ids=["none", "of parts", "composite", "nonsense"],
)
def test_what_is_no_checksum_of_the_content_is_not_taken_for_one(reply: dict[str, str]) -> None:
    assert Algorithm.CRC64NVME.told(reply) is None
    assert Algorithm.CRC64NVME.told({"ChecksumCRC64NVME": "sP7gLb80aAY="}) is not None
