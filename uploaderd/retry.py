"""When to try again: pure decisions, no sleep.

Full jitter, `random(0, min(cap, base * 2**n))`, as measured best for contended retries on the AWS
Architecture Blog ("Exponential Backoff And Jitter", 2015).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from uploaderd.model import Milliseconds


@dataclass(frozen=True, slots=True)
class Backoff:
    """`base` and `cap` in seconds."""

    base: float = 1.0
    cap: float = 300.0

    def delay(
        self,
        failures: int,
        random: Callable[[], float],
        retry_after: float | None = None,
    ) -> float:
        """Seconds to wait after the `failures`-th failure in a row (counted from 1).

        `random` draws from [0, 1). A provider's own `Retry-After` is a lower bound, and is obeyed
        beyond the cap too; the jitter is added so that a herd does not return in one instant.
        """
        if failures < 1:
            raise ValueError("a delay follows at least one failure")
        # 2**64 exceeds every cap: the exponent stays small however long an outage lasts.
        ceiling = min(self.cap, self.base * 2.0 ** min(failures - 1, 64))
        if retry_after is None:
            return random() * ceiling
        return retry_after + random() * self.base


def asked_for(text: str | None, now: Milliseconds | None = None) -> float | None:
    """Seconds from a `Retry-After` header: a number, or an HTTP date (RFC 9110, 10.2.3); else None.

    `now`: by the wall clock, which is looked at where it is not given.
    """
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    seconds = time.time() if now is None else now / 1000
    return max(0.0, at.replace(tzinfo=at.tzinfo or UTC).timestamp() - seconds)


UPLOADS: Final = Backoff(base=1.0, cap=300.0)
"""Between attempts of one upload."""

PARTS: Final = Backoff(base=0.25, cap=8.0)
"""Between tries of one part inside an attempt."""

PART_TRIES: Final = 4
"""Tries of one part before the attempt ends; the upload's own backoff takes over then."""

MESSAGES: Final = Backoff(base=1.0, cap=300.0)
"""Between tries of a webhook's message."""

PROBES: Final = Backoff(base=2.0, cap=60.0)
"""Between probes of a provider that is down or paused: at most a minute after it is mended."""
