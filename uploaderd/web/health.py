"""Whether the daemon lives, whether it works, and its figures: what machines ask for."""

from __future__ import annotations

import asyncio

from aiohttp import web

from uploaderd.web.keys import LIVE, READING


def add_to(app: web.Application) -> None:
    app.router.add_get("/healthz", _alive)
    app.router.add_get("/readyz", _ready)
    app.router.add_get("/metrics", _metrics)


async def _alive(request: web.Request) -> web.Response:
    """Whether a restart would help: does the loop move, does the ledger? Never anything of the clouds."""
    alive = await request.app[LIVE].alive()
    return web.json_response({"alive": alive}, status=200 if alive else 503)


async def _ready(request: web.Request) -> web.Response:
    """Whether it has started and takes recordings in: sources are watched, the ledger takes writes."""
    live = request.app[LIVE]
    reason = ""
    if live.generation is None:
        reason = "the daemon is only just starting"
    elif live.ledger.trouble is not None:
        reason = live.ledger.trouble.error.message
    elif not await live.alive():
        reason = "the ledger does not move"
    body = {"ready": not reason, "reason": reason or None}
    return web.json_response(body, status=503 if reason else 200)


async def _metrics(request: web.Request) -> web.Response:
    now = await request.app[READING].now()

    def made() -> tuple[bytes, str]:
        # Imported when first asked for, on a thread: the start does not wait for it.
        from uploaderd.web.metrics import exposition

        return exposition(now, request.headers.get("Accept", ""))

    text, content_type = await asyncio.to_thread(made)
    return web.Response(body=text, headers={"Content-Type": content_type})
