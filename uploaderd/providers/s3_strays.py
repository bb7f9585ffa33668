"""Half-done uploads of ours that we have no handle of, found in the listing of a bucket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from uploaderd.errors import CannotLook, Fault
from uploaderd.model import ObjectSpec, Session
from uploaderd.providers.s3_checksum import Algorithm, Reply
from uploaderd.providers.s3_endpoint import Endpoint
from uploaderd.providers.s3_object import handle_of, opened_as

ROUNDING: Final = timedelta(seconds=2)
"""`Initiated` is told in whole seconds by some stores, rounded either way."""


async def strays(
    endpoint: Endpoint,
    spec: ObjectSpec,
    seconds: float,
    but: Session | None,
    *,
    begin: Callable[[ObjectSpec, int], Awaitable[Session]],
    abort: Callable[[Session], Awaitable[object]],
) -> Sequence[Session]:
    """What `provider.Strays.strays` promises; `begin` and `abort` are the provider's own.

    Raises:
        CannotLook: this login may not list; nothing was left by the question.
        Fault: likewise.
    """
    ours, at = but, endpoint.at(spec.key)
    try:
        with endpoint.trying(f"looking for half-done uploads of {spec.key!r} in {endpoint.place.target}"):
            if ours is None:
                if not await listed(endpoint.client, at):
                    return ()
                # The listing says who began an upload, but not who we are: one that we begin does.
                ours = await begin(spec, 0)
            uploads = begun(await listed(endpoint.client, at), opened_as(ours)[1], seconds)
    except Fault as fault:
        if ours is not None and but is None:
            await abort(ours)
        if fault.http_status == 403:
            raise CannotLook(fault.message, code=fault.code, http_status=403) from fault
        raise
    # What it was opened with does not matter to an abort.
    theirs = [Session(spec, 0, handle_of(Algorithm.NONE, upload)) for upload in uploads]
    return theirs if but is not None else [*theirs, ours]


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
