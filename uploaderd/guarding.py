"""Whether a provider that does not say so guards its keys: seen by a write that should not take place.

It comes before the object is proven: whatever a store makes of it is judged with it. No fault of an
upload comes of it, and no upload waits for it longer than `SECONDS`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from uploaderd import checksum
from uploaderd.errors import Fault
from uploaderd.model import Checksum, ObjectSpec
from uploaderd.provider import Guards, Provider
from uploaderd.reader import OpenRecording
from uploaderd.send import Conditions, PartBook

SECONDS: Final = 5.0


def is_due(provider: Provider, size: int, conditions: Conditions) -> bool:
    """Whether to see it now, with an object of so many bytes; `see` must follow. At most one at a time."""
    if provider.limits.guards_keys or conditions.stopping.is_set():
        return False
    rate = conditions.allowance.rate
    return (rate is None or rate >= size) and conditions.vacancy.trial_due(size)


async def see(
    provider: Provider,
    spec: ObjectSpec,
    content: Checksum,
    file: OpenRecording,
    book: PartBook,
    conditions: Conditions,
) -> None:
    """Have an object of ours written over that was just written.

    Args:
        provider: which wrote it.
        spec: of the object.
        content: what the object has. Only these very bytes are sent, whatever became of the file.
        file: where they are.
        book: is charged with them.
        conditions: of the upload.
    """
    answered = False
    try:
        if not isinstance(provider, Guards):
            answered = True
            return
        with suppress(Fault, TimeoutError):
            async with asyncio.timeout(SECONDS):
                held = b"".join([bytes(window) async for window in file.body(0, content.size)])
            if checksum.same(checksum.of(held), content):
                await book.charge(len(held))
                async with asyncio.timeout(SECONDS):
                    await conditions.allowance.take(len(held))
                    answered = await provider.write_over(spec, held)
    finally:
        conditions.vacancy.tried(answered=answered)
