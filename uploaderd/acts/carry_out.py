"""Which order is carried out by what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from uploaderd.acts import decisions
from uploaderd.acts.acting import Acting, Tell
from uploaderd.acts.orders import Acknowledge, Order, Pause, Resume, Retry


async def carry_out(order: Order, acting: Acting, tell: Tell) -> Mapping[str, Any]:
    """Carry an order out; what came of it, as plain values.

    `tell` hears how far it is, of what takes time.

    Raises:
        Refused: it cannot be done.
        LedgerError: the ledger takes nothing.
    """
    del tell
    match order:
        case Pause():
            return await decisions.pause(order, acting)
        case Resume():
            return await decisions.resume(order, acting)
        case Retry():
            return await decisions.retry(order, acting)
        case Acknowledge():
            return await decisions.acknowledge(order, acting)
        case _:
            assert_never(order)
