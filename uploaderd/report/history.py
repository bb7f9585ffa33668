"""What happened: attempts and events in one row of time, with their reasons."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any

from uploaderd.keys import text_of
from uploaderd.ledger import read
from uploaderd.report import model
from uploaderd.report.model import HistoryLine, iso

_EMPTY: HistoryLine = {
    "schema_version": model.SCHEMA_VERSION,
    "type": "event",
    "at": "",
    "recording": None,
    "path": None,
    "source": None,
    "provider": None,
    "attempt": None,
    "outcome": None,
    "started_at": None,
    "seconds": None,
    "class": None,
    "code": None,
    "http_status": None,
    "request_id": None,
    "bytes_sent": None,
    "resumed_from": None,
    "message": None,
    "kind": None,
    "who": None,
    "detail": None,
}


def history(conn: sqlite3.Connection, row: int | None, limit: int) -> list[HistoryLine]:
    """The newest `limit` attempts and events, of one recording (by its row) or of all; oldest first."""
    attempts = [{**one, "at": one["ended_at"]} for one in read.attempts(conn, row, limit)]
    events = read.events(conn, row, limit)
    # Both lists are newest first; where times are equal, an event tells what the attempt led to.
    newest = list(islice(merge(events, attempts, key=itemgetter("at"), reverse=True), limit))
    recordings = _recordings(conn, newest)
    return [_line(one, recordings.get(one["recording_id"])) for one in reversed(newest)]


def _recordings(conn: sqlite3.Connection, lines: list[dict[str, Any]]) -> Mapping[int, read.RecordingRow]:
    rows = sorted({one["recording_id"] for one in lines if one["recording_id"] is not None})
    found: dict[int, read.RecordingRow] = {}
    for page in _pages(rows):
        found.update((recording.row, recording) for recording in read.by_rows(conn, page))
    return found


def _pages(rows: list[int]) -> Iterator[list[int]]:
    """Pieces that fit into one statement (SQLite takes 32,766 values)."""
    for start in range(0, len(rows), read.PAGE):
        yield rows[start : start + read.PAGE]


def _line(one: Mapping[str, Any], recording: read.RecordingRow | None) -> HistoryLine:
    line = _EMPTY.copy()
    line["at"] = iso(one["at"])
    line["provider"] = one["provider"]
    if recording is not None:
        line["recording"] = recording.id
        line["path"] = text_of(recording.path)
        line["source"] = recording.source
    if "outcome" in one:
        line["type"] = "attempt"
        line["attempt"] = one["number"]
        line["outcome"] = one["outcome"]
        line["started_at"] = iso(one["started_at"])
        line["seconds"] = max(0, one["ended_at"] - one["started_at"]) / 1000
        line["class"] = one["class"]
        line["code"] = one["code"]
        line["http_status"] = one["http_status"]
        line["request_id"] = one["request_id"]
        line["bytes_sent"] = one["bytes_sent"]
        line["resumed_from"] = one["resumed_from"]
        line["message"] = one["message"]
    else:
        line["source"] = one["source"] or line["source"]
        line["kind"] = one["kind"]
        line["who"] = one["who"]
        line["detail"] = json.loads(one["detail"])
    return line
