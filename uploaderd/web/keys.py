"""What the application's handlers find in it."""

from __future__ import annotations

from aiohttp import web

from uploaderd.live import Live

LIVE: web.AppKey[Live] = web.AppKey("live", Live)
