"""Half-done uploads of ours that we have no handle of, found in the listing of a bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from uploaderd.providers.s3_checksum import Reply

ROUNDING: Final = timedelta(seconds=2)
"""`Initiated` is told in whole seconds by some stores, rounded either way."""


async def listed(client: Any, at: Mapping[str, Any]) -> Sequence[Reply]:
    """Entries of ListMultipartUploads for exactly the key in `at`; the prefix finds longer keys too."""
    found: list[Reply] = []
    marker: dict[str, str] = {}
    while True:
        page = await client.list_multipart_uploads(Bucket=at["Bucket"], Prefix=at["Key"], **marker)
        found += [upload for upload in page.get("Uploads", ()) if upload["Key"] == at["Key"]]
        following = {
            "KeyMarker": page.get("NextKeyMarker") or "",
            "UploadIdMarker": page.get("NextUploadIdMarker") or "",
        }
        if not page.get("IsTruncated") or following == marker:
            return found
        marker = following


def begun(uploads: Sequence[Reply], ours: str, seconds: float) -> Sequence[str]:
    """UploadIds of what was begun at most `seconds` before `ours`, by the same login.

    Times are the store's own, compared with each other. A store that names nobody (no Initiator) is
    taken at its word about the rest; one that does not list what was just begun, at none.
    """
    mine = next((upload for upload in uploads if upload["UploadId"] == ours), None)
    if mine is None:
        return ()
    earliest = mine["Initiated"] - timedelta(seconds=seconds) - ROUNDING
    return [
        upload["UploadId"]
        for upload in uploads
        if upload["UploadId"] != ours
        and upload.get("Initiator", {}).get("ID") == mine.get("Initiator", {}).get("ID")
        and upload["Initiated"] >= earliest
    ]
