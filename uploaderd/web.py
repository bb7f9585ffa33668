"""The control socket's application: HTTP over a Unix socket, for the command line beside the daemon."""

from __future__ import annotations

from aiohttp import web

from uploaderd.live import Live

LIVE: web.AppKey[Live] = web.AppKey("live", Live)


def application(live: Live) -> web.Application:
    """The application that the control socket serves."""
    app = web.Application()
    app[LIVE] = live
    app.router.add_get("/healthz", _health)
    app.router.add_get("/api/v1/live", _live)
    return app


async def _health(request: web.Request) -> web.Response:
    alive = await request.app[LIVE].alive()
    return web.json_response({"alive": alive}, status=200 if alive else 503)


async def _live(request: web.Request) -> web.Response:
    return web.json_response(request.app[LIVE].values())
