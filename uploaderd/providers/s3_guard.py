"""Whether a store keeps to `If-None-Match: *`, which some take and ignore.

Amazon says so (S3 user guide, "Conditional write behavior"). Of other stores it is seen, once in the
life of a process, by a write that none should carry out: an object that was written a moment ago, once
more, on the condition that there is none, and with the Content-MD5 of another content. 412 shows that
the condition is kept to. BadDigest shows nothing: the digest was looked at first, or the condition not
at all. A store that looks at neither has the same bytes in the same place as before.
"""

from __future__ import annotations

from typing import Final

from uploaderd.errors import Fault, KeyTaken
from uploaderd.model import FailureClass

FIRST: Final = 64
"""The write after which it is asked: who sends a few files never asks."""

LARGEST: Final = 2**20
"""Bytes of a write that may be repeated for it."""

ON_TRIAL: Final = {"IfNoneMatch": "*", "ContentMD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
"""Members of the request. No content is known that has this digest."""


class Guard:
    """What is known of one store.

    Attributes:
        keeps: a write on that condition is refused where an object is.
    """

    def __init__(self, *, promised: bool) -> None:
        self.keeps = promised
        self._written = 0
        self._due = None if promised else FIRST

    def due(self, size: int) -> bool:
        """Whether to ask now that one more object, of so many bytes, was written. At most once at a time."""
        self._written += 1
        if self._due is None or self._written < self._due or size > LARGEST:
            return False
        self._due = None
        return True

    def answered(self, fault: Fault) -> None:
        """The write that none should carry out was refused."""
        if isinstance(fault, KeyTaken):
            self.keeps = True
        elif fault.failure is FailureClass.TRANSIENT and fault.http_status in (None, 429, 500, 502, 503, 504):
            # No answer to the question: another time, and less and less often.
            self._due = 2 * self._written
