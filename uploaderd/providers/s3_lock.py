"""Object lock: asked for when an object is made, and read back before its copy counts.

Until when it was promised goes with the object as metadata as well, so that whoever looks at it later
(after a restart, with another `retain_for`) compares with the promise that was made, to the second. A
store that knows nothing of object lock may ignore its headers in silence: only what reads back is there.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from uploaderd.config import S3Provider
from uploaderd.providers.s3_checksum import Reply

PROMISE: Final = "uploaderd-retain-until"
"""Metadata: until when the object shall not be removed (ISO 8601, UTC)."""


def wanted(config: S3Provider) -> bool:
    """Whether objects are to be locked."""
    return config.lock_mode is not None or config.legal_hold


def asked(config: S3Provider, now: datetime) -> tuple[dict[str, Any], dict[str, str]]:
    """What a request that makes an object says of it: members, and metadata."""
    members: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    if config.lock_mode is not None and config.retain_for is not None:
        # A whole second, and none too few: that is all that the header can say.
        until = (now + timedelta(seconds=config.retain_for + 1)).replace(microsecond=0)
        text = until.strftime("%Y-%m-%dT%H:%M:%SZ")
        members = {"ObjectLockMode": config.lock_mode.upper(), "ObjectLockRetainUntilDate": text}
        metadata = {PROMISE: text}
    if config.legal_hold:
        members["ObjectLockLegalHoldStatus"] = "ON"
    return members, metadata


def unmet(config: S3Provider, reply: Reply) -> str:
    """What an object lacks of the lock that it should have, from its HeadObject; "" if nothing."""
    if config.legal_hold and reply.get("ObjectLockLegalHoldStatus") != "ON":
        return "its legal hold does not read back"
    if config.lock_mode is None:
        return ""
    mode, until = reply.get("ObjectLockMode"), _time(reply.get("ObjectLockRetainUntilDate"))
    if mode is None or until is None:
        return "its retention does not read back"
    if mode != config.lock_mode.upper():
        return f"its retention is {mode.lower()}, not {config.lock_mode}"
    promised = _time(reply.get("Metadata", {}).get(PROMISE)) or datetime.now(UTC)
    if until < promised:
        return f"its retention ends {until:%Y-%m-%d %H:%M:%S} UTC, before {promised:%Y-%m-%d %H:%M:%S}"
    return ""


def _time(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
