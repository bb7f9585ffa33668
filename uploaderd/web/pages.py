"""The documents for people: the status page, and a page a recording."""

from __future__ import annotations

import os
import sqlite3
from functools import partial

from aiohttp import web

from uploaderd import __version__
from uploaderd.config import Config
from uploaderd.errors import LedgerError, Refused
from uploaderd.ledger.lock import Holder
from uploaderd.model import Word
from uploaderd.report.history import history
from uploaderd.report.recordings import recording
from uploaderd.report.why import why
from uploaderd.web import asking
from uploaderd.web.api import HISTORY, known
from uploaderd.web.asking import Asked
from uploaderd.web.keys import LIVE, READING
from uploaderd.web.page.markup import Html, tag
from uploaderd.web.reading import Now


def add_to(app: web.Application) -> None:
    app.router.add_get("/", _overview)
    app.router.add_get("/recordings/{id}", _recording)


async def _overview(request: web.Request) -> web.Response:
    reading, config = request.app[READING], request.app[LIVE].config
    wrong, status = "", 200
    try:
        asked = asking.asked(request)
    except asking.Misunderstood as error:
        asked, wrong, status = Asked(), str(error), 400
    now = await reading.now()
    try:
        text = await reading.ask(partial(_made, now=now, asked=asked, wrong=wrong))
    except asking.Misunderstood as error:
        text, status = await reading.ask(partial(_made, now=now, asked=Asked(), wrong=str(error))), 400
    except LedgerError as error:
        from uploaderd.web.page.document import overview

        # What is wrong with the ledger stands above; the rest of the page is told all the same.
        text = overview(now, config, tag("p", f"The recordings cannot be read: {error.message}"))
    return _document(text, status)


def _made(conn: sqlite3.Connection, config: Config, *, now: Now, asked: Asked, wrong: str) -> str:
    """The status page, on a thread."""
    from uploaderd.web.page.document import overview
    from uploaderd.web.page.listing import recordings
    from uploaderd.web.page.markup import join

    page = asking.found(conn, config, asked)
    rows = [recording(row, config) for row in page.rows]
    listing = recordings(rows, page.before, asked, now.status, config)
    said = tag("p", f"Not understood: {wrong}", class_="wrong", role="alert") if wrong else None
    return overview(now, config, join(said, listing))


async def _recording(request: web.Request) -> web.Response:
    live, wanted = request.app[LIVE], request.match_info["id"]
    holder = Holder(os.getpid(), __version__, live.started_at)
    at = live.clock.now()

    def made(conn: sqlite3.Connection, config: Config) -> str:
        from uploaderd.web.page import detail
        from uploaderd.web.page.document import page

        row = known(conn, wanted)
        one = recording(row, config)
        lines = history(conn, row.row, HISTORY + 1)
        body = detail.recording(
            one,
            why(conn, config, holder, row.id, at),
            lines[-HISTORY:],
            cut=len(lines) > HISTORY,
        )
        return page(one["path"], config, Word.SAFE, body)

    try:
        return _document(await request.app[READING].ask(made), 200)
    except Refused as error:
        return _document(_no(live.config, error.message), 404)
    except LedgerError as error:
        return _document(_no(live.config, error.message, error.hint), 503)


def _no(config: Config, message: str, hint: str = "") -> str:
    from uploaderd.web.page.document import page

    back: Html = tag("p", tag("a", "All recordings", href="/#recordings"))
    told = tag("section", tag("h1", "Not there"), tag("p", message), tag("p", hint) if hint else None)
    return page("Not there", config, Word.SAFE, told, back)


def _document(text: str, status: int) -> web.Response:
    from uploaderd.web.page.document import POLICY

    headers = {"Content-Security-Policy": POLICY}
    return web.Response(text=text, content_type="text/html", charset="utf-8", status=status, headers=headers)
