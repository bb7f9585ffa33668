"""Whether a store keeps to `If-None-Match: *`, which some take and ignore.

Amazon says so (S3 user guide, "Conditional write behavior"). Of other stores it is seen by a write that
none should carry out: an object that was written a moment ago, once more, on the condition that there is
none, and with checksums of another content. 412 shows that the condition is kept to. BadDigest shows
nothing: the checksums were looked at first, or the condition not at all. Only a store that looks at none
of them writes, and then the same bytes to the same place.
"""

from __future__ import annotations

from uploaderd import checksum
from uploaderd.errors import Corrupted, Fault
from uploaderd.providers.s3_checksum import Algorithm


def on_trial(algorithm: Algorithm, content: bytes) -> dict[str, str]:
    """The condition, and checksums that are not the content's, as members of a PutObject."""
    another = checksum.of(content + b"another")
    # No content is known that has this MD5.
    return algorithm.asked(another) | {"IfNoneMatch": "*", "ContentMD5": "AAAAAAAAAAAAAAAAAAAAAA=="}


def settles(refusal: Fault) -> bool:
    """Whether the store would refuse it like that another time, too."""
    return isinstance(refusal, Corrupted) or refusal.http_status in (400, 405, 411, 501)
