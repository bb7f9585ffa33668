"""Half-done uploads of ours that we have no handle of, found in the listing of a bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from uploaderd.providers.s3_checksum import Reply

ROUNDING: Final = timedelta(seconds=2)
"""`Initiated` is told in whole seconds by some stores, rounded either way."""


async def begun(client: Any, at: Mapping[str, Any], ours: str, seconds: float) -> Sequence[str]:
    """UploadIds at the key in `at` of what was begun at most `seconds` before `ours`, by the same login.

    Times are the store's own, compared with each other. A store that does not say who began an upload
    (no Initiator) is taken at its word about the rest.
    """
    listed = [upload async for upload in _listed(client, at)]
    mine = next((upload for upload in listed if upload["UploadId"] == ours), None)
    if mine is None:
        return ()  # a store that does not list what was just begun says nothing about the rest either
    earliest = mine["Initiated"] - timedelta(seconds=seconds) - ROUNDING
    return [
        upload["UploadId"]
        for upload in listed
        if upload["UploadId"] != ours
        and upload.get("Initiator", {}).get("ID") == mine.get("Initiator", {}).get("ID")
        and upload["Initiated"] >= earliest
    ]


async def _listed(client: Any, at: Mapping[str, Any]) -> AsyncIterator[Reply]:
    """Entries of ListMultipartUploads for exactly this key; the prefix finds longer keys too."""
    marker: dict[str, str] = {}
    while True:
        page = await client.list_multipart_uploads(Bucket=at["Bucket"], Prefix=at["Key"], **marker)
        for upload in page.get("Uploads", ()):
            if upload["Key"] == at["Key"]:
                yield upload
        following = {
            "KeyMarker": page.get("NextKeyMarker") or "",
            "UploadIdMarker": page.get("NextUploadIdMarker") or "",
        }
        if not page.get("IsTruncated") or following == marker:
            return
        marker = following
