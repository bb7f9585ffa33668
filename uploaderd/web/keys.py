"""What the application's handlers find in it."""

from __future__ import annotations

from aiohttp import web

from uploaderd.live import Live
from uploaderd.web.reading import Reading

LIVE: web.AppKey[Live] = web.AppKey("live", Live)
READING: web.AppKey[Reading] = web.AppKey("reading", Reading)
