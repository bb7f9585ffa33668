"""What a request asks for: filters and a cursor, or why they are none."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote_to_bytes

from aiohttp import web

from uploaderd.config import Config
from uploaderd.ledger import paging, read
from uploaderd.ledger.paging import Page
from uploaderd.ledger.stretches import Wanted
from uploaderd.model import RecordingState
from uploaderd.report.lookup import nearest

FILTERS: Final = ("q", "state", "source", "provider")

LIMIT: Final = 50
"""Recordings on a page, unless another number is asked for."""

MOST: Final = 500

LONGEST_PART: Final = 4096
"""Characters: no path is longer (limits.h, PATH_MAX)."""

SECONDS: Final = 0.2
"""How long a search may go on before it gives what it has."""


class Misunderstood(Exception):
    """What was asked for is not understood; the message says what would be."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which recordings, from where on, and how many."""

    part: str = ""
    state: str | None = None
    source: str | None = None
    provider: str | None = None
    before: int | None = None
    limit: int = LIMIT

    @property
    def filtered(self) -> bool:
        return replace(self, before=None, limit=LIMIT) != Asked()

    @property
    def query(self) -> dict[str, str]:
        """The filters again, as the query of an address."""
        values = zip(FILTERS, (self.part, self.state, self.source, self.provider), strict=True)
        return {name: value for name, value in values if value}


def asked(request: web.Request) -> Asked:
    """What the query asks for.

    Raises:
        Misunderstood: a parameter that nobody knows, or a value that cannot be.
    """
    query = request.query
    for name in query:
        if name not in (*FILTERS, "cursor", "limit"):
            known = [*FILTERS, "cursor", "limit"]
            raise Misunderstood(f"unknown parameter {name!r}{nearest(name, known)}")
    if len(part := query.get("q", "").strip()) > LONGEST_PART:
        raise Misunderstood(f"q has more than {LONGEST_PART} characters")
    state = query.get("state") or None
    if state is not None and state not in (states := list(RecordingState)):
        raise Misunderstood(f"no state is called {state!r}{nearest(state, [str(one) for one in states])}")
    limit = _number(query.get("limit"), "limit", MOST)
    return Asked(
        part,
        state,
        query.get("source") or None,
        query.get("provider") or None,
        _number(query.get("cursor"), "cursor", 2**62),
        limit if limit is not None else LIMIT,
    )


def _number(text: str | None, name: str, most: int) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and 1 <= int(text) <= most):
        raise Misunderstood(f"{name} is a number from 1 to {most}")
    return int(text)


def found(conn: sqlite3.Connection, config: Config, what: Asked) -> Page:
    """The page that is asked for.

    Raises:
        Misunderstood: no source or provider has that name.
    """
    sources = {*config.sources, *(row.name for row in read.sources(conn))}
    providers = {*config.providers, *(row.name for row in read.providers(conn))}
    _known(what.source, sources, "source")
    _known(what.provider, providers, "provider")
    until = time.monotonic() + SECONDS

    def late() -> bool:
        return time.monotonic() >= until

    wanted = Wanted(what.state, what.source, what.provider, _spellings(what.part))
    return paging.page(conn, wanted, what.before, what.limit, late)


def _spellings(part: str) -> tuple[bytes, ...]:
    """As it was typed; and as it is meant if it was copied from here, where odd bytes have percent signs."""
    typed = os.fsencode(part)
    return tuple(dict.fromkeys(one for one in (typed, unquote_to_bytes(typed)) if one))


def _known(name: str | None, known: Iterable[str], kind: str) -> None:
    if name is not None and name not in known:
        raise Misunderstood(f"no {kind} is called {name!r}{nearest(name, sorted(known))}")
