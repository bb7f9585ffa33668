"""Is the copy there, and is it this content? The decision, from evidence alone; no calls.

In order of strength: the provider's own checksum over the whole object, asked for after the write;
its checksum over each part together with the committed object's size; the checksum in the write's
reply, where the credentials may not look. Less than that is no proof: the content is read back.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from uploaderd.checksum import b64_crc32c, b64_crc64nvme
from uploaderd.model import Checksum, ObjectInfo, Part, Proof, Token


class Verdict(StrEnum):
    MISSING = "missing"
    """Nothing is at the key."""
    FOREIGN = "foreign"
    """Another object is at the key: not our token."""
    DIFFERENT = "different"
    """Ours, but not this content: damaged, cut short, or of an interrupted write."""
    UNPROVEN = "unproven"
    """Ours and of the right size; the content must be read back to know."""


@dataclass(frozen=True, slots=True)
class Written:
    """What our own writing left as evidence: the reply that made the object visible, and the parts."""

    reply: ObjectInfo | None = None
    parts: Sequence[Part] = ()


def judge(
    content: Checksum, token: Token, found: ObjectInfo | None, written: Written | None = None
) -> Proof | Verdict:
    """Judge what `stat` found at the key."""
    if found is None:
        return Verdict.MISSING
    if found.token != token:
        return Verdict.FOREIGN
    if found.size != content.size:
        return Verdict.DIFFERENT
    whole = whole_object(content, found)
    if whole is not None:
        return Proof(f"{whole.kind}, stat", whole.value) if isinstance(whole, Proof) else whole
    if written is not None:
        reply = written.reply
        if reply is not None and (reply.etag, reply.version_id) == (found.etag, found.version_id):
            told = whole_object(content, reply)
            if isinstance(told, Proof):
                where = "size, stat" if reply.read_back else "reply; size, stat"
                return Proof(f"{told.kind}, {where}", told.value)
        if checked := _checked(content, written.parts):
            return Proof(f"{checked} of each part; size, stat", b64_crc64nvme(content.crc64nvme))
    return Verdict.UNPROVEN


def judge_blind(content: Checksum, written: Written) -> Proof | None:
    """Judge without a look at the object: the write's reply is all there is."""
    if written.reply is not None:
        told = whole_object(content, written.reply)
        if isinstance(told, Proof):
            return Proof(f"{told.kind}, reply", told.value)
    if checked := _checked(content, written.parts):
        return Proof(f"{checked} of each part, reply", b64_crc64nvme(content.crc64nvme))
    return None


def whole_object(content: Checksum, found: ObjectInfo) -> Proof | Verdict | None:
    """Compare the provider's checksum over the whole object with ours; None if it tells none."""
    if found.crc64nvme is not None:
        if found.crc64nvme != content.crc64nvme:
            return Verdict.DIFFERENT
        of = "read back" if found.read_back else "full object"
        return Proof(f"crc64nvme {of}", b64_crc64nvme(content.crc64nvme))
    if found.crc32c is not None:
        if found.crc32c != content.crc32c:
            return Verdict.DIFFERENT
        return Proof("crc32c full object", b64_crc32c(content.crc32c))
    if found.md5 is not None and content.md5 is not None:
        if found.md5 != content.md5:
            return Verdict.DIFFERENT
        return Proof("md5 full object", base64.b64encode(content.md5).decode())
    return None


def _checked(content: Checksum, parts: Sequence[Part]) -> str | None:
    """The checksum by which the provider confirmed every part, if the parts are the whole."""
    kinds = {part.checked for part in parts}
    if not parts or None in kinds or sum(part.size for part in parts) != content.size:
        return None
    return " or ".join(sorted(kind for kind in kinds if kind))
