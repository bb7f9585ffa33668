"""Aborting half-done uploads that will never be gone on with, so that nobody pays for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from uploaderd.errors import CannotLook
from uploaderd.ledger import Ledger, leftovers
from uploaderd.ledger.leftovers import Leftover
from uploaderd.model import Session
from uploaderd.provider import Provider, Strays

ABORT_SECONDS: Final = 30.0
"""For looking for one session, and aborting it."""


async def sweep_up(
    provider: Provider, provider_id: int, ledger: Ledger, stopping: Callable[[], bool] = lambda: False
) -> None:
    """Abort the provider's leftovers that are due, one after another.

    Raises:
        Fault, TimeoutError: one could not be; it is tried again later.
    """
    while not stopping():
        leftover = await ledger.run(leftovers.due, provider_id)
        if leftover is None:
            return
        async with asyncio.timeout(ABORT_SECONDS):
            sessions = await _sessions_of(provider, leftover)
            gone = [await provider.abort(session) for session in sessions]
        if all(gone):
            expires = provider.limits.expires_days
            await ledger.insist(
                leftovers.gone, leftover, provider.name, found=bool(gone), expires_days=expires
            )


async def _sessions_of(provider: Provider, leftover: Leftover) -> Sequence[Session]:
    """The leftover's session; if its opening was never answered, whatever came of that."""
    if leftover.session.handle:
        return (leftover.session,)
    if not isinstance(provider, Strays):
        return ()  # nothing was begun there, or it expires by itself
    try:
        return await provider.strays(leftover.session.spec, leftover.seconds)
    except CannotLook:
        return ()
