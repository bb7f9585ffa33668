"""Whether a provider that does not say so guards its keys: seen by a write that should not take place.

It comes before the object is proven: what a store made of it by then is judged with it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from uploaderd import checksum
from uploaderd.errors import Fault, Stopped
from uploaderd.logs.setup import get_logger
from uploaderd.model import Checksum, ObjectSpec
from uploaderd.provider import Guards, Provider
from uploaderd.reader import OpenRecording
from uploaderd.send import Conditions, PartBook

log = get_logger(__name__)

SECONDS: Final = 5.0
"""No upload waits longer for it."""


def begins(provider: Provider, size: int, conditions: Conditions) -> bool:
    """Whether to see it now, with an object of so many bytes. `see` must follow; none begins before."""
    if provider.limits.guards_keys or conditions.stopping.is_set():
        return False
    rate = conditions.allowance.rate
    return (rate is None or rate >= size) and conditions.vacancy.begin_trial(size)


async def see(
    provider: Provider,
    spec: ObjectSpec,
    content: Checksum,
    file: OpenRecording,
    book: PartBook,
    conditions: Conditions,
) -> None:
    """Have an object of ours written over that was just written. No fault of the provider comes of it.

    Args:
        provider: which wrote it.
        spec: of the object.
        content: what the object has. Only these very bytes are sent, whatever became of the file.
        file: where they are.
        book: is charged with them.
        conditions: of the upload.
    """
    settled = False
    try:
        if not (isinstance(provider, Guards) and provider.may_be_tried):
            settled = True
            return
        with suppress(Fault, Stopped, TimeoutError):
            async with asyncio.timeout(SECONDS):
                held = b"".join([bytes(window) async for window in file.body(0, content.size)])
                if not checksum.same(checksum.of(held), content):
                    return
                async with conditions.lane():
                    await conditions.allowance.take(len(held))
                    await book.charge(len(held))
                    await provider.write_over(spec, held)
            settled = not provider.limits.guards_keys
            log.info(
                "tried whether the provider refuses to write over an object",
                refuses=not settled,
                small_recordings="looked at first" if settled else "sent without a look first",
            )
    finally:
        conditions.vacancy.tried(settled=settled)
