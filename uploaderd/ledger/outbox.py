"""What is to be told to webhooks: written down by the transaction that makes it so, until it is delivered.

Triggers note what moved (`moved`); `settle`, which runs before each COMMIT, compares with how it was before
the transaction and queues a message for each webhook that wants to know. So no code path can forget one, and
a state that a transaction only passes through is told to nobody.

A message holds what the ledger knew at that moment. It leaves once it is delivered, or given up; neither
depends on anything else, and nothing else on it.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from uploaderd.ledger import read
from uploaderd.ledger.chain import Event
from uploaderd.ledger.writer import Transaction
from uploaderd.model import Milliseconds, Occasion, ProviderState

MOST_WAITING: Final = 10_000
"""Messages of one webhook: some 15 MB. For each one more, the oldest is given up."""

LONGEST_WAIT_MS: Final = 3 * 86_400_000
"""After this a message is given up."""

_PAGE: Final = 500

TABLES: Final = (
    # `events` is a JSON list. `given_up` counts for ever; `unsaid` those of them that no event tells of yet.
    # `tries` and the problem are of the message that is first in the line.
    """
    CREATE TABLE webhooks (
        id                INTEGER PRIMARY KEY,
        name              TEXT NOT NULL UNIQUE,
        events            TEXT NOT NULL,
        waiting           INTEGER NOT NULL DEFAULT 0,
        delivered         INTEGER NOT NULL DEFAULT 0,
        given_up          INTEGER NOT NULL DEFAULT 0,
        unsaid            INTEGER NOT NULL DEFAULT 0,
        tries             INTEGER NOT NULL DEFAULT 0,
        next_try_at       INTEGER,
        problem_message   TEXT,
        problem_hint      TEXT,
        problem_since     INTEGER,
        last_delivered_at INTEGER
    ) STRICT
    """,
    # `name` is what a receiver knows a message by, however often it comes.
    """
    CREATE TABLE messages (
        id         INTEGER PRIMARY KEY AUTOINCREMENT,
        webhook_id INTEGER NOT NULL REFERENCES webhooks,
        name       TEXT NOT NULL,
        at         INTEGER NOT NULL,
        occasion   TEXT NOT NULL,
        about      TEXT NOT NULL,
        tries      INTEGER NOT NULL DEFAULT 0
    ) STRICT
    """,
    "CREATE INDEX messages_waiting ON messages (webhook_id, id)",
    # What the transaction under way has moved, and how it was before; empty after each COMMIT.
    """
    CREATE TABLE moved (
        id   INTEGER PRIMARY KEY,
        what TEXT NOT NULL,
        row  INTEGER NOT NULL,
        was  TEXT NOT NULL,
        UNIQUE (what, row)
    ) STRICT
    """,
)


def _note(name: str, moment: str, condition: str, what: str, was: str) -> str:
    return f"""
    CREATE TRIGGER {name} AFTER {moment} WHEN {condition} AND EXISTS (SELECT 1 FROM webhooks) BEGIN
        INSERT INTO moved (what, row, was) VALUES ('{what}', NEW.id, {was}) ON CONFLICT DO NOTHING;
    END
    """


TRIGGERS: Final = (
    _note("recordings_told", "UPDATE ON recordings", "OLD.state <> NEW.state", "recording", "OLD.state"),
    _note("recordings_held", "INSERT ON recordings", "NEW.state = 'held'", "recording", "''"),
    _note(
        "providers_told",
        "UPDATE OF state, paused_by ON providers",
        "(OLD.state = 'paused' OR OLD.paused_by IS NOT NULL) <>"
        " (NEW.state = 'paused' OR NEW.paused_by IS NOT NULL)",
        "provider",
        "CASE WHEN OLD.state = 'paused' OR OLD.paused_by IS NOT NULL THEN 'paused' ELSE '' END",
    ),
    _note(
        "sources_told",
        "UPDATE OF silent_since ON sources",
        "(OLD.silent_since IS NULL) <> (NEW.silent_since IS NULL)",
        "source",
        "CASE WHEN OLD.silent_since IS NULL THEN '' ELSE 'silent' END",
    ),
    """
    CREATE TRIGGER messages_added AFTER INSERT ON messages BEGIN
        UPDATE webhooks SET waiting = waiting + 1 WHERE id = NEW.webhook_id;
    END
    """,
    """
    CREATE TRIGGER messages_gone AFTER DELETE ON messages BEGIN
        UPDATE webhooks SET waiting = waiting - 1 WHERE id = OLD.webhook_id;
    END
    """,
)

_OF_RECORDINGS: Final[Mapping[str, Occasion]] = {
    "safe": "recording.safe",
    "failed": "recording.failed",
    "lost": "recording.lost",
    "held": "recording.held",
}


@dataclass(frozen=True, slots=True)
class Message:
    """A message that waits. `about` is what the ledger knew; `recording` gives it its form back.

    `tries`: of this message, in vain. `failures`: of its webhook, in a row.
    """

    id: int
    name: str
    at: Milliseconds
    occasion: Occasion
    about: Mapping[str, Any]
    tries: int
    failures: int
    next_try_at: Milliseconds | None


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A webhook, as `status` shows it. Without a problem it has never failed, or delivered since."""

    name: str
    waiting: int
    delivered: int
    given_up: int
    next_try_at: int | None
    problem_message: str | None
    problem_hint: str | None
    problem_since: int | None
    last_delivered_at: int | None


# --- into the line ---------------------------------------------------------------------------------


def settle(tx: Transaction) -> None:
    """Queue what the transaction has made so. Runs before each COMMIT, and mostly finds nothing."""
    last = tx.conn.execute("SELECT max(id) FROM moved").fetchone()[0]
    if last is None:
        return
    hooks = [(id_, frozenset(json.loads(events))) for id_, events in _hooks(tx.conn)]
    # A retired provider can move a million recordings at once: of those, what would be dropped is not made.
    after = max(0, last - MOST_WAITING)
    tx.conn.execute("UPDATE webhooks SET given_up = given_up + ?, unsaid = unsaid + ?", (after, after))
    while page := tx.conn.execute(
        "SELECT id, what, row, was FROM moved WHERE id > ? ORDER BY id LIMIT ?", (after, _PAGE)
    ).fetchall():
        after = page[-1][0]
        recordings = [row for _, what, row, _ in page if what == "recording"]
        known = {one.row: one for one in read.by_rows(tx.conn, recordings)} if recordings else {}
        for _, what, row, was in page:
            match what:
                case "recording":
                    occasion, about = _of_recording(known.get(row), was)
                case "provider":
                    occasion, about = _of_provider(tx.conn, row, was)
                case _:
                    occasion, about = _of_source(tx.conn, row, was)
            if occasion is not None:
                _queue(tx, [id_ for id_, wanted in hooks if occasion in wanted], occasion, about)
    tx.conn.execute("DELETE FROM moved")


def _hooks(conn: sqlite3.Connection) -> list[tuple[int, str]]:
    return conn.execute("SELECT id, events FROM webhooks ORDER BY id").fetchall()


def _queue(tx: Transaction, hooks: Iterable[int], occasion: Occasion, about: Mapping[str, Any]) -> None:
    text = json.dumps(about, ensure_ascii=False, separators=(",", ":"))
    for hook in hooks:
        (waiting,) = tx.conn.execute("SELECT waiting FROM webhooks WHERE id = ?", (hook,)).fetchone()
        if waiting >= MOST_WAITING:
            first = "SELECT min(id) FROM messages WHERE webhook_id = ?"
            tx.conn.execute(f"DELETE FROM messages WHERE id = ({first})", (hook,))
            _gave_up(tx, hook, 1)
        tx.conn.execute(
            "INSERT INTO messages (webhook_id, name, at, occasion, about) VALUES (?, ?, ?, ?, ?)",
            (hook, f"msg_{secrets.token_hex(16)}", tx.now, occasion, text),
        )


def _of_recording(row: read.RecordingRow | None, was: str) -> tuple[Occasion | None, Mapping[str, Any]]:
    if row is None or row.state == was or row.state not in _OF_RECORDINGS:
        return None, {}
    about = {field.name: getattr(row, field.name) for field in fields(row)}
    about["path"] = row.path.hex()
    about["crc64nvme"] = row.crc64nvme.hex() if row.crc64nvme is not None else None
    about["uploads"] = {
        name: {field.name: getattr(upload, field.name) for field in fields(upload)}
        for name, upload in row.uploads.items()
    }
    return _OF_RECORDINGS[row.state], about


def recording(about: Mapping[str, Any]) -> read.RecordingRow:
    """The recording that a message is about, as it was. What an earlier version did not note is None."""
    values: dict[str, Any] = {field.name: about.get(field.name) for field in fields(read.RecordingRow)}
    values["path"] = bytes.fromhex(about["path"])
    values["crc64nvme"] = bytes.fromhex(about["crc64nvme"]) if about["crc64nvme"] is not None else None
    values["uploads"] = {
        name: read.UploadRow(**{field.name: upload.get(field.name) for field in fields(read.UploadRow)})
        for name, upload in about["uploads"].items()
    }
    return read.RecordingRow(**values)


def _of_provider(conn: sqlite3.Connection, row: int, was: str) -> tuple[Occasion | None, Mapping[str, Any]]:
    about = _row(
        conn,
        "SELECT name, type, state, paused_by, problem_class, problem_message, problem_hint, problem_since"
        " FROM providers WHERE id = ?",
        row,
    )
    paused = about["state"] == ProviderState.PAUSED or about["paused_by"] is not None
    if paused == (was == "paused") or about["state"] in (ProviderState.DISABLED, ProviderState.RETIRED):
        return None, {}
    return ("provider.paused" if paused else "provider.resumed"), about


def _of_source(conn: sqlite3.Connection, row: int, was: str) -> tuple[Occasion | None, Mapping[str, Any]]:
    about = _row(
        conn, "SELECT name, hex(path) AS path, last_found_at, silent_since FROM sources WHERE id = ?", row
    )
    silent = about["silent_since"] is not None
    if silent == (was == "silent"):
        return None, {}
    return ("source.silent" if silent else "source.heard"), about


def _row(conn: sqlite3.Connection, query: str, row: int) -> dict[str, Any]:
    cursor = conn.execute(query, (row,))
    return dict(zip((column[0] for column in cursor.description), cursor.fetchone(), strict=True))


# --- out of it -------------------------------------------------------------------------------------


def configured(tx: Transaction, wanted: Mapping[str, Sequence[Occasion]]) -> dict[str, int]:
    """Make the webhooks known; their rows. One that is not configured any more is forgotten, with its line.

    What waits is due at once: what kept it from being delivered may just have been mended.
    """
    for name, waiting in tx.conn.execute("SELECT name, waiting FROM webhooks").fetchall():
        if name not in wanted:
            which = "(SELECT id FROM webhooks WHERE name = ?)"
            tx.conn.execute(f"DELETE FROM messages WHERE webhook_id = {which}", (name,))
            tx.conn.execute("DELETE FROM webhooks WHERE name = ?", (name,))
            tx.event(Event("webhook-removed", detail={"webhook": name, "messages": waiting}))
    rows: dict[str, int] = {}
    for name, events in wanted.items():
        row = tx.conn.execute(
            "INSERT INTO webhooks (name, events) VALUES (?, ?) ON CONFLICT (name)"
            " DO UPDATE SET events = excluded.events, next_try_at = NULL, tries = 0 RETURNING id",
            (name, json.dumps(events)),
        ).fetchone()
        rows[name] = int(row[0])
    return rows


def first(tx: Transaction, hook: int) -> Message | None:
    """What is next in the webhook's line; None if nothing waits. In the order in which it happened."""
    row = tx.conn.execute(
        "SELECT m.id, m.name, m.at, m.occasion, m.about, m.tries, w.tries, w.next_try_at FROM messages m"
        " JOIN webhooks w ON w.id = m.webhook_id WHERE m.webhook_id = ? ORDER BY m.id LIMIT 1",
        (hook,),
    ).fetchone()
    if row is None:
        return None
    id_, name, at, occasion, about, tries, failures, next_try_at = row
    return Message(id_, name, at, occasion, json.loads(about), tries, failures, next_try_at)


def delivered(tx: Transaction, hook: int, message: int) -> bool:
    """The receiver has it. False if it was given up meanwhile."""
    there = tx.conn.execute("DELETE FROM messages WHERE id = ?", (message,)).rowcount == 1
    tx.conn.execute(
        "UPDATE webhooks SET delivered = delivered + 1, tries = 0, next_try_at = NULL,"
        " problem_message = NULL, problem_hint = NULL, problem_since = NULL, last_delivered_at = ?"
        " WHERE id = ?",
        (tx.now, hook),
    )
    return there


def undelivered(
    tx: Transaction, hook: int, message: int, problem: tuple[str, str], next_try_at: Milliseconds
) -> None:
    """The receiver has not taken it; `problem` is what is wrong, and what to do about it."""
    tx.conn.execute("UPDATE messages SET tries = tries + 1 WHERE id = ?", (message,))
    tx.conn.execute(
        "UPDATE webhooks SET tries = tries + 1, next_try_at = ?, problem_message = ?, problem_hint = ?,"
        " problem_since = coalesce(problem_since, ?) WHERE id = ?",
        (next_try_at, *problem, tx.now, hook),
    )


def refused(tx: Transaction, hook: int, message: int) -> None:
    """The receiver will never take this one: give it up, and go on with the next."""
    if tx.conn.execute("DELETE FROM messages WHERE id = ?", (message,)).rowcount == 1:
        _gave_up(tx, hook, 1)


def give_up_old(tx: Transaction, hook: int) -> int:
    """Give up what has waited for too long; how many were given up since the last time that was asked.

    One event tells of them all: a dead receiver must not fill the history either.
    """
    before = tx.now - LONGEST_WAIT_MS
    old = tx.conn.execute("DELETE FROM messages WHERE webhook_id = ? AND at < ?", (hook, before)).rowcount
    _gave_up(tx, hook, old)
    name, unsaid = tx.conn.execute("SELECT name, unsaid FROM webhooks WHERE id = ?", (hook,)).fetchone()
    if unsaid:
        tx.conn.execute("UPDATE webhooks SET unsaid = 0 WHERE id = ?", (hook,))
        tx.event(Event("webhook-gave-up", detail={"webhook": name, "messages": unsaid}))
    return int(unsaid)


def _gave_up(tx: Transaction, hook: int, count: int) -> None:
    tx.conn.execute(
        "UPDATE webhooks SET given_up = given_up + ?, unsaid = unsaid + ? WHERE id = ?", (count, count, hook)
    )


def webhooks(conn: sqlite3.Connection) -> list[WebhookRow]:
    """In the order in which the ledger met them."""
    return [
        WebhookRow(*row)
        for row in conn.execute(
            "SELECT name, waiting, delivered, given_up, next_try_at, problem_message, problem_hint,"
            " problem_since, last_delivered_at FROM webhooks ORDER BY id"
        )
    ]
