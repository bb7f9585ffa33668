"""What the daemon answers over HTTP: on its control socket and, where wanted, over TCP."""

from __future__ import annotations

from aiohttp import web

from uploaderd.live import Live
from uploaderd.web import access, control
from uploaderd.web.keys import LIVE


def application(live: Live) -> web.Application:
    """The application; both doors lead to the same one."""
    app = web.Application(middlewares=[access.guard])
    app.on_response_prepare.append(access.protect)
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
