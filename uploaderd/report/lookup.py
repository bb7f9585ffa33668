"""From what a person types to the recording that is meant: its id, its path, or a part of its name."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from uploaderd.config import Config
from uploaderd.errors import UploaderdError
from uploaderd.keys import text_of
from uploaderd.ledger import find, read

CANDIDATES: Final = 10
"""Recordings that are listed when a part of a name fits several."""


EMPTY: Final = "an empty path names nothing: was a variable not set?"


class Unknown(UploaderdError):
    """No recording is meant by it; the message names the nearest known one, if there is one."""


class Ambiguous(UploaderdError):
    """Several recordings may be meant by it.

    Attributes:
        candidates: the newest of them, as `source: path  (id)`; at most `CANDIDATES`.
    """

    def __init__(self, wanted: str, candidates: list[str]) -> None:
        self.candidates = candidates[:CANDIDATES]
        count = "more than " if len(candidates) > CANDIDATES else ""
        count += str(len(self.candidates))
        super().__init__(f"{wanted!r} fits {count} recordings; give more of the path, or the id")


def one(conn: sqlite3.Connection, config: Config, wanted: str) -> read.RecordingRow:
    """The recording that is meant; of several contents that were at one path, the newest.

    Raises:
        Unknown: there is none.
        Ambiguous: there are several.
    """
    found = exact(conn, config, wanted)
    return found if found is not None else by_part(conn, wanted)


def exact(conn: sqlite3.Connection, config: Config, wanted: str) -> read.RecordingRow | None:
    """The recording with that id, or at that path.

    Raises:
        Unknown: nothing at all is given.
        Ambiguous: several sources have something at that path.
    """
    if not wanted:
        raise Unknown(EMPTY)
    found = read.recording(conn, wanted.upper())
    if found is not None:
        return found
    for spelt in _spellings(wanted):
        rows = [row for source, path in places(config, spelt) for row in read.at_path(conn, source, path)[:1]]
        if rows:
            return _only(wanted, rows)
    return None


def by_part(conn: sqlite3.Connection, wanted: str) -> read.RecordingRow:
    """The one recording whose path has that part.

    Raises:
        Unknown: there is none.
        Ambiguous: there are several.
    """
    for spelt in _spellings(wanted):
        rows = find.containing(conn, spelt, CANDIDATES + 1) if spelt else []
        if rows:
            return _only(wanted, _distinct(rows))
    known = [text_of(path) for path in find.similar(conn, os.fsencode(wanted))]
    raise Unknown(f"the ledger knows no recording {wanted!r}{nearest(wanted, known)}")


def _only(wanted: str, rows: list[read.RecordingRow]) -> read.RecordingRow:
    if len(rows) > 1:
        raise Ambiguous(wanted, [f"{row.source}: {text_of(row.path)}  ({row.id})" for row in rows])
    return rows[0]


def places(config: Config, wanted: bytes) -> Iterator[tuple[str, bytes]]:
    """Source and path that are meant: an absolute path, one relative to here, or to a source."""
    roots = [(name, os.fsencode(Path(source.path)) + b"/") for name, source in config.sources.items()]
    absolute = os.path.normpath(os.path.join(os.getcwdb(), wanted))
    inside = [(name, absolute[len(root) :]) for name, root in roots if absolute.startswith(root)]
    yield from inside
    relative = os.path.normpath(wanted)
    # "." is the folder one is in, and not the root of each source.
    if not os.path.isabs(wanted) and relative not in (b".", b"..") and not relative.startswith(b"../"):
        yield from ((name, relative) for name, _ in roots if (name, relative) not in inside)


def nearest(word: str, known: list[str]) -> str:
    """`; did you mean "x"?`, or nothing if no known word is near."""
    near = get_close_matches(word, known, n=1)
    if not near:
        # A file's name alone, where the folder was left out or mistyped.
        by_name = {path.rpartition("/")[2]: path for path in reversed(known)}
        near = [by_name[name] for name in get_close_matches(word.rpartition("/")[2], list(by_name), n=1)]
    return f'; did you mean "{near[0]}"?' if near else ""


def _spellings(wanted: str) -> Iterator[bytes]:
    """As it was typed; and, if it was copied from our own output, with its percent signs resolved."""
    typed = os.fsencode(wanted)
    yield typed
    if (meant := unquote_to_bytes(typed)) != typed:
        yield meant


def _distinct(rows: list[read.RecordingRow]) -> list[read.RecordingRow]:
    """The newest at each path."""
    newest: dict[tuple[str, bytes], read.RecordingRow] = {}
    for row in rows:
        newest.setdefault((row.source, row.path), row)
    return list(newest.values())
