"""What the daemon answers over HTTP: on its control socket and, where wanted, over TCP."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from uploaderd.live import Live
from uploaderd.web import access, api, control, feed, health, pages, textfile
from uploaderd.web.keys import LIVE, READING
from uploaderd.web.reading import Reading


def application(live: Live) -> web.Application:
    """The application; both doors lead to the same one."""
    app = web.Application(middlewares=[access.guard])
    app.on_response_prepare.append(access.protect)
    app[LIVE] = live
    app[READING] = Reading(live)
    app.cleanup_ctx.append(_reading)
    app.cleanup_ctx.append(textfile.kept)
    app.router.add_get("/api/v1/live", _live)
    health.add_to(app)
    api.add_to(app)
    pages.add_to(app)
    feed.add_to(app)
    control.add_to(app)
    return app


async def _reading(app: web.Application) -> AsyncIterator[None]:
    yield
    app[READING].close()


async def _live(request: web.Request) -> web.Response:
    return web.json_response(request.app[LIVE].values())
