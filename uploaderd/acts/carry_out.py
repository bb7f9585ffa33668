"""Which order is carried out by what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from uploaderd.acts import decisions, ensure, moving, orders, retrieval, verify
from uploaderd.acts.acting import Acting, Tell


async def carry_out(order: orders.Order, acting: Acting, tell: Tell) -> Mapping[str, Any]:
    """Carry an order out; what came of it, as plain values.

    `tell` hears how far it is, of what takes time.

    Raises:
        Refused: it cannot be done.
        LedgerError: the ledger takes nothing.
    """
    match order:
        case orders.Pause():
            return await decisions.pause(order, acting)
        case orders.Resume():
            return await decisions.resume(order, acting)
        case orders.Retry():
            return await decisions.retry(order, acting)
        case orders.Acknowledge():
            return await decisions.acknowledge(order, acting)
        case orders.Release():
            return await decisions.release(order, acting)
        case orders.Ensure():
            return await ensure.ensure(order, acting, tell)
        case orders.Verify():
            return await verify.verify(order, acting, tell)
        case orders.Backfill():
            return await moving.backfill(order, acting, tell)
        case orders.Retire():
            return await moving.retire(order, acting)
        case orders.Url():
            return await retrieval.url(order, acting)
        case _:
            assert_never(order)
