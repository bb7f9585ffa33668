"""The same models as `status --json`, `list --json` and `history --json`, over HTTP."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from uploaderd.acts.acting import Acting, user
from uploaderd.config import Config
from uploaderd.config.units import parse_duration
from uploaderd.errors import LedgerError, Refused
from uploaderd.ledger import read
from uploaderd.report import model
from uploaderd.report.history import history
from uploaderd.report.model import HistoryLine, Recording
from uploaderd.report.recordings import recording
from uploaderd.web import asking
from uploaderd.web.access import peer
from uploaderd.web.keys import LIVE, READING

HISTORY: Final = 1000
"""Attempts and events of a recording that are told at most: the newest."""

_STATUSES: Final = {"usage": 404, "problem": 409, "unavailable": 502, "again": 503}


def add_to(app: web.Application) -> None:
    one = "/api/v1/recordings/{id}"
    app.router.add_get("/api/v1/status", _status)
    app.router.add_get("/api/v1/recordings", _told(_recordings))
    app.router.add_get(one, _told(_recording))
    app.router.add_get(f"{one}/history", _told(_history))
    app.router.add_get(f"{one}/url", _told(_url))


Answer = Callable[[web.Request], Awaitable[Any]]


def _told(answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    """As JSON; and what is wrong as `{"error": {"message", "hint"}}`."""

    async def handler(request: web.Request) -> web.Response:
        try:
            return web.json_response(await answer(request))
        except asking.Misunderstood as error:
            return _no(400, str(error))
        except Refused as error:
            return _no(_STATUSES[error.kind], error.message, error.hint)
        except LedgerError as error:
            return _no(503, error.message, error.hint)

    return handler


def _no(status: int, message: str, hint: str = "") -> web.Response:
    return web.json_response({"error": {"message": message, "hint": hint}}, status=status)


async def _status(request: web.Request) -> web.Response:
    return web.json_response((await request.app[READING].now()).status)


async def _recordings(request: web.Request) -> dict[str, Any]:
    """A page, newest first. `next` is the cursor of the next one; null: there is none."""
    what = asking.asked(request)

    def answer(conn: sqlite3.Connection, config: Config) -> dict[str, Any]:
        page = asking.found(conn, config, what)
        return {
            "schema_version": model.SCHEMA_VERSION,
            "recordings": [recording(row, config) for row in page.rows],
            "next": str(page.before) if page.before is not None else None,
        }

    return await request.app[READING].ask(answer)


async def _recording(request: web.Request) -> Recording:
    wanted = request.match_info["id"]
    return await request.app[READING].ask(lambda conn, config: recording(known(conn, wanted), config))


async def _history(request: web.Request) -> dict[str, Any]:
    """The recording's attempts and events, oldest first."""
    wanted = request.match_info["id"]

    def answer(conn: sqlite3.Connection, _: Config) -> list[HistoryLine]:
        return history(conn, known(conn, wanted).row, HISTORY)

    lines = await request.app[READING].ask(answer)
    return {"schema_version": model.SCHEMA_VERSION, "history": lines}


async def _url(request: web.Request) -> dict[str, Any]:
    """A URL that anybody can read the recording with; see `uploaderd.acts.retrieval`."""
    from uploaderd.acts.orders import Url
    from uploaderd.acts.retrieval import url

    live, uid = request.app[LIVE], peer(request)
    if uid is None and live.config.web.token is None:
        # Whatever runs on this machine may read the status; not therefore every recording.
        text = "over TCP a URL is given only to who brings the token"
        raise web.HTTPForbidden(text=text + ": set [web] token, or ask through the control socket\n")
    try:
        expires = parse_duration(request.query.get("expires", "1h"))
    except ValueError as error:
        raise asking.Misunderstood(f"expires: {error}") from None
    if expires < 1:
        raise asking.Misunderstood("expires: a second or more")
    if live.generation is None:
        raise Refused("the daemon is only just starting", "ask again", kind="again")
    who = user(uid) if uid is not None else "web"
    acting = Acting(who, live.generation.config, live.ledger, live.clock, lambda: live.generation)
    order = Url(expires, recording=request.match_info["id"].upper(), provider=request.query.get("provider"))
    return dict(await url(order, acting))


def known(conn: sqlite3.Connection, public_id: str) -> read.RecordingRow:
    """The recording with that id.

    Raises:
        Refused: there is none.
    """
    row = read.recording(conn, public_id.upper())
    if row is None:
        raise Refused(f"the ledger knows no recording with the id {public_id!r}", kind="usage")
    return row
