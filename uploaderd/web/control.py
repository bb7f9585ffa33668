"""Orders over the control socket: `POST /api/v1/acts/NAME`, answered by JSON lines.

Any number of `{"progress": ...}`, then one `{"result": ...}` or `{"refused": {...}}`. Whoever hangs up
ends what takes time; a decision, once asked for, is carried out. Only for the daemon's own user and
root: whoever else may read the socket may not act.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from uploaderd.acts.acting import Acting, user
from uploaderd.acts.carry_out import carry_out
from uploaderd.acts.orders import ORDERS, Backfill, Ensure, Order, Verify
from uploaderd.errors import LedgerError, LedgerFull, Refused
from uploaderd.logs.setup import get_logger
from uploaderd.web.access import peer
from uploaderd.web.keys import LIVE

log = get_logger(__name__)

MOST_BYTES: Final = 2**20
"""Of one order: enough for ten thousand recordings by name."""

LISTENS_SECONDS: Final = 0.5
"""How often it is looked whether anybody still listens: what is said next may be long in coming."""

_LONG: Final = (Ensure, Verify, Backfill)
"""Orders that may be cut off anywhere."""


def add_to(app: web.Application) -> None:
    app.router.add_post("/api/v1/acts/{name}", _act)


async def _act(request: web.Request) -> web.StreamResponse:
    uid = peer(request)
    if uid is None or uid not in (0, os.geteuid()):
        return _no(403, Refused("only the daemon's own user and root may do that", kind="problem"))
    kind = ORDERS.get(request.match_info["name"])
    if kind is None:
        return _no(404, Refused(f"unknown act {request.match_info['name']!r}", kind="usage"))
    try:
        order: Order = TypeAdapter(kind).validate_json(await request.content.read(MOST_BYTES))
    except ValidationError as error:
        return _no(400, Refused(f"not understood: {error.errors()[0]['msg']}", kind="usage"))
    live = request.app[LIVE]
    generation = live.generation
    if generation is None:
        return _no(503, Refused("the daemon is only just starting", "ask again", kind="again"))
    log.info("asked to act", act=request.match_info["name"], by=user(uid))
    acting = Acting(user(uid), generation.config, live.ledger, live.clock, lambda: live.generation)
    return await _stream(request, order, acting)


async def _stream(request: web.Request, order: Order, acting: Acting) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    try:
        await _carry_out(request, response, order, acting)
    except ConnectionResetError:
        # Ctrl-C, mostly. What the order has done so far stands, and the rest is not wanted any more.
        log.info("whoever asked has hung up", by=acting.who)
    return response


async def _carry_out(
    request: web.Request, response: web.StreamResponse, order: Order, acting: Acting
) -> None:
    """Tell how far it is, line by line, and what came of it.

    Raises:
        ConnectionResetError: nobody listens any more.
    """

    async def write(kind: str, what: Mapping[str, Any]) -> None:
        await response.write(json.dumps({kind: what}).encode() + b"\n")

    async def tell(progress: Mapping[str, Any]) -> None:
        await write("progress", progress)

    try:
        result = await _listened_to(request, order, carry_out(order, acting, tell))
    except Refused as refused:
        await write("refused", told(refused))
    except LedgerError as error:
        kind = "again" if isinstance(error, LedgerFull) else "problem"
        await write("refused", told(Refused(error.message, error.hint, kind=kind)))
    else:
        await write("result", result)
    await response.write_eof()


async def _listened_to(
    request: web.Request, order: Order, work: Coroutine[Any, Any, Mapping[str, Any]]
) -> Mapping[str, Any]:
    """What comes of the work; cut off once nobody listens, if that may be.

    Raises:
        ConnectionResetError: nobody listens any more.
    """
    working = asyncio.create_task(work)
    try:
        while not (await asyncio.wait((working,), timeout=LISTENS_SECONDS))[0]:
            if request.transport is None and isinstance(order, _LONG):
                raise ConnectionResetError
        return working.result()
    finally:
        working.cancel()
        await asyncio.wait((working,))


def told(refused: Refused) -> dict[str, str]:
    return {"message": refused.message, "hint": refused.hint, "kind": refused.kind}


def _no(status: int, refused: Refused) -> web.Response:
    return web.json_response({"refused": told(refused)}, status=status)
