"""What each provider's protocol allows, known before it is opened: keys and plans are made from it.

Sources: Amazon S3 "multipart upload limits" (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html),
Azure "scalability targets for Blob storage" and "Naming containers, blobs, and metadata", Cloud Storage
"quotas and limits".
"""

from __future__ import annotations

import os
from typing import Final

from uploaderd.config import AzureProvider, DirectoryProvider, GcsProvider, Provider, S3Provider
from uploaderd.provider import Limits

_KIB: Final = 2**10
_MIB: Final = 2**20
_GIB: Final = 2**30
_TIB: Final = 2**40

S3: Final = Limits(
    max_single=16 * _MIB,  # PutObject takes 5 GiB; a larger file is better resumable
    min_part=5 * _MIB,
    max_part=5 * _GIB,
    max_parts=10_000,
    max_object=10_000 * 5 * _GIB,
)

AZURE: Final = Limits(
    max_single=8 * _MIB,  # Put Blob takes 5000 MiB; the content is read twice, so only what is small
    min_part=1,
    max_part=4_000 * _MIB,
    max_parts=50_000,
    max_object=50_000 * 4_000 * _MIB,
    expires_days=7,  # uncommitted blocks (Put Block, "Remarks")
    max_key_bytes=1024,  # characters, by the reference: bytes are the safe side
)

GCS: Final = Limits(
    max_single=8 * _MIB,
    min_part=256 * _KIB,
    max_part=5 * _TIB,
    max_parts=2**31,  # the protocol counts bytes, not chunks
    max_object=5 * _TIB,
    part_multiple=256 * _KIB,
    ordered=True,
    proves_whole=True,
)


def directory(config: DirectoryProvider) -> Limits:
    """Of a directory; its path takes room from the keys."""
    return Limits(
        max_single=16 * _MIB,
        min_part=1,
        max_part=_TIB,
        max_parts=10_000,
        max_object=2**63 - 1,
        ordered=True,
        proves_whole=True,
        # No longer than any cloud's, so that a recording can go to another provider later; and PATH_MAX,
        # for whoever reads it.
        max_key_bytes=min(1024, 4_095 - len(os.fsencode(config.path)) - 1),
        max_key_component_bytes=255,
    )


def bounds(config: Provider) -> Limits:
    """What the configured provider's protocol allows."""
    match config:
        case S3Provider():
            return S3
        case AzureProvider():
            return AZURE
        case GcsProvider():
            return GCS
        case DirectoryProvider():
            return directory(config)
