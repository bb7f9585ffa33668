"""What changed on the status page, as server-sent events: one look a second for all who watch."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from aiohttp import web

from uploaderd.config import Config
from uploaderd.model import Word
from uploaderd.waiting import first_of
from uploaderd.web.keys import LIVE, READING
from uploaderd.web.reading import Now

EVERY_SECONDS: Final = 1.0

MOST: Final = 32
"""Readers at once."""

STUCK_SECONDS: Final = 30.0
"""After which a reader who takes nothing is gone: a laptop that sleeps keeps nobody else out."""


class Feed:
    """The readers of `/events`."""

    def __init__(self) -> None:
        self._made: tuple[Now, dict[str, str]] | None = None
        self.readers = 0
        self.ended = asyncio.Event()

    def sections(self, now: Now) -> dict[str, str]:
        """The page's sections, made once for all readers. Takes some milliseconds."""
        from uploaderd.web.page.document import fragments

        made = self._made
        if made is None or made[0] is not now:
            made = self._made = now, dict(fragments(now))
        return made[1]


_FEED: Final = web.AppKey("feed", Feed)


def add_to(app: web.Application) -> None:
    app[_FEED] = Feed()
    app.router.add_get("/events", _events)
    app.on_shutdown.append(_end)


async def _end(app: web.Application) -> None:
    """Nobody who only watches keeps the daemon from ending."""
    app[_FEED].ended.set()


async def _events(request: web.Request) -> web.StreamResponse:
    feed, live = request.app[_FEED], request.app[LIVE]
    if feed.readers >= MOST:
        raise web.HTTPServiceUnavailable(text=f"{MOST} others watch already\n")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    await response.prepare(request)
    await response.write(b"retry: 2000\n\n")
    sent: dict[str, str] = {}
    feed.readers += 1
    try:
        while not feed.ended.is_set():
            now = await request.app[READING].now()
            sections = await asyncio.to_thread(feed.sections, now)
            fresh = {name: markup for name, markup in sections.items() if sent.get(name) != markup}
            if fresh:
                sent = sections
                async with asyncio.timeout(STUCK_SECONDS):
                    await response.write(_event(now, live.config, fresh))
            await first_of(live.clock.sleep(EVERY_SECONDS), feed.ended.wait())
    except (ConnectionError, TimeoutError):
        pass  # the reader has gone
    finally:
        feed.readers -= 1
    return response


def _event(now: Now, config: Config, sections: dict[str, str]) -> bytes:
    from uploaderd.web.page import document

    told = {
        "title": document.title(now.status, config),
        "icon": document.icon(Word(now.status["state"])),
        "sections": sections,
    }
    # JSON has no line breaks, which would end the event.
    return f"event: sections\ndata: {json.dumps(told)}\n\n".encode()
