"""What an S3 bucket does with objects by itself, and its clock; asked by `doctor` alone.

A login that may upload need not be allowed to ask any of this, and compatible stores lack some of it:
whatever is refused is not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from uploaderd.provider import Rules
from uploaderd.providers.s3_faults import code_of

_NO_LOCK: Final = frozenset({"ObjectLockConfigurationNotFoundError", "ObjectLockConfigurationNotFound"})


async def rules(client: Any, bucket: str, prefix: str) -> Rules:
    """Lifecycle and default object lock. `prefix`: that of our keys, without its last slash."""
    return Rules(
        unfinished_end=await _unfinished_end(client, bucket, prefix), kept=await _kept(client, bucket)
    )


async def time(client: Any, bucket: str) -> datetime | None:
    """The `Date` of a reply, whether it is a refusal or not."""
    try:
        reply = await client.head_bucket(Bucket=bucket)
    except ClientError as error:
        reply = error.response
    date = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(date) if date else None


async def _unfinished_end(client: Any, bucket: str, prefix: str) -> bool | None:
    try:
        reply = await client.get_bucket_lifecycle_configuration(Bucket=bucket)
    except ClientError as error:
        return False if code_of(error) == "NoSuchLifecycleConfiguration" else None
    return _ends_ours(reply.get("Rules", ()), prefix)


def _ends_ours(found: Iterable[Any], prefix: str) -> bool:
    """Whether one of the rules ends half-done uploads of all our keys."""
    for rule in found:
        # The prefix stands in the rule itself in older configurations.
        wanted = rule.get("Filter", {}).get("Prefix", rule.get("Prefix", ""))
        ends = rule.get("Status") == "Enabled" and "AbortIncompleteMultipartUpload" in rule
        if ends and f"{prefix}/".removeprefix("/").startswith(wanted or ""):
            return True
    return False


async def _kept(client: Any, bucket: str) -> str | None:
    try:
        reply = await client.get_object_lock_configuration(Bucket=bucket)
    except ClientError as error:
        return "" if code_of(error) in _NO_LOCK else None
    lock = reply.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
    if not lock:
        return ""
    span = f"{lock['Years']} years" if lock.get("Years") else f"{lock.get('Days')} days"
    return f"object lock, {str(lock.get('Mode', '')).lower()} mode, for {span}"
