"""How a file is cut into parts: legal at the provider, and fit for the link.

S3 answers a part that took more than 15 minutes with RequestTimeTooSkewed, so a slow link gets small
parts; a fast one gets larger parts, since each costs a round trip and a ledger row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from uploaderd.errors import FileFault
from uploaderd.provider import Limits

MIB: Final = 1024 * 1024

DEFAULT_PART: Final = 16 * MIB
SMALLEST: Final = 8 * MIB
LARGEST: Final = 64 * MIB
"""Beyond this a part saves nothing more, and a crash would cost more to send again."""

WISHED_SECONDS: Final = 8.0
"""What one part should take on a link whose speed is known."""

LONGEST_SECONDS: Final = 300.0
"""What no part may take, as far as the measured speed tells: a third of S3's patience."""


@dataclass(frozen=True, slots=True)
class Range:
    """Part `number` (from 1): bytes [offset, offset + size)."""

    number: int
    offset: int
    size: int


def part_size(size: int, limits: Limits, *, configured: int | None = None, rate: float | None = None) -> int:
    """Bytes of every part but the last, for a file of `size` bytes.

    `configured` is the operator's wish; `rate` the bytes per second that one part was last seen to
    move at. The provider's limits win over both.

    Raises:
        FileFault: no legal plan exists: the file is larger than the provider takes.
    """
    if size > limits.max_object:
        raise FileFault(
            f"{size} bytes are more than the provider takes as one object ({limits.max_object})",
            code="too-large",
            hint="record in shorter segments, or leave this provider out for this source",
        )
    wish = configured if configured is not None else DEFAULT_PART
    if rate is not None and rate > 0:
        if configured is None:
            wish = min(max(int(rate * WISHED_SECONDS), SMALLEST), LARGEST)
        wish = min(wish, int(rate * LONGEST_SECONDS))
    # Fewer than max_parts, so that a plan never sits right at the limit.
    wish = max(wish, limits.min_part, -(-size // max(1, limits.max_parts - 1)))
    multiple = max(limits.part_multiple, MIB if wish >= MIB else 1)
    wish = -(-wish // multiple) * multiple
    largest = limits.max_part // limits.part_multiple * limits.part_multiple
    return max(min(wish, largest), limits.part_multiple)


def ranges(size: int, part: int, start: int = 0) -> Iterator[Range]:
    """The parts of [start, size), in order; numbered as in a plan that began at 0."""
    offset = start
    while offset < size:
        number = offset // part + 1
        end = min(number * part, size)
        yield Range(number, offset, end - offset)
        offset = end
