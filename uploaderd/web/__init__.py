"""What the daemon answers over HTTP; so far, for the command line beside it, on a Unix socket."""

from __future__ import annotations

from aiohttp import web

from uploaderd.live import Live
from uploaderd.web import control
from uploaderd.web.keys import LIVE


def application(live: Live) -> web.Application:
    """The application that the control socket serves."""
    app = web.Application()
    app[LIVE] = live
    app.router.add_get("/healthz", _health)
    app.router.add_get("/api/v1/live", _live)
    control.add_to(app)
    return app


async def _health(request: web.Request) -> web.Response:
    alive = await request.app[LIVE].alive()
    return web.json_response({"alive": alive}, status=200 if alive else 503)


async def _live(request: web.Request) -> web.Response:
    return web.json_response(request.app[LIVE].values())
