"""Is everything safe? The status model, from the ledger, the daemon's live values and a look at the disks."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from uploaderd.config import Config, Source
from uploaderd.config.units import format_duration
from uploaderd.errors import LedgerError
from uploaderd.keys import text_of
from uploaderd.ledger import find, outbox, read
from uploaderd.ledger.lock import Holder
from uploaderd.model import FailureClass, ProviderState, RecordingState, SourceState, Word
from uploaderd.report import model
from uploaderd.report.disks import Disk, look_at
from uploaderd.report.model import Problem, Status, iso, time_of
from uploaderd.report.word import UNSEEN_HINT, judge, unseen_folders

LEDGER_NEEDS: Final = 1024 * 1024
"""Free bytes below which a ledger's disk counts as full: less than a group of commits may take."""

TROUBLED_SHOWN: Final = 5
"""Recordings that need a person, of each kind, that are shown by name."""

MISSING_HINT: Final = (
    "mount or create it; nothing of it counts as deleted meanwhile, and it goes on by itself"
)

FORBIDDEN_HINT: Final = (
    "let the daemon's user read it, by the recorder's group or as the recorder's user; nothing of it counts"
    " as deleted meanwhile, and it goes on by itself"
)

SILENT_HINT: Final = (
    "see whether its recorder runs and writes there, and whether include and exclude take its files;"
    " while it is meant to be silent, pause it"
)

_LOST: Final = "its file vanished before it was safe"

Live = Mapping[str, Any]
"""The daemon's live values, as its socket gives them."""


def status(
    conn: sqlite3.Connection | None,
    config: Config,
    holder: Holder | None,
    live: Live | None,
    now: int,
    *,
    fault: LedgerError | None = None,
    look: bool = True,
    disks: Mapping[str, Disk] | None = None,
) -> Status:
    """The status model.

    Args:
        conn: the ledger; None if there is none, or `fault` keeps it from being read.
        config: what is watched, and how late is late.
        holder: the process that holds the ledger: the daemon, if there is one.
        live: the daemon's live values; None without a daemon, or if it does not answer.
        now: milliseconds since the epoch.
        fault: why the ledger cannot be read.
        look: at the disks, too. Each look at a mount that hangs leaves a thread behind, which is nothing
            for a process that asks again and again.
        disks: what a look at them came to, for who has looked: by the sources' names, and the ledger's
            as "".
    """
    folders = {name: Path(source.path) for name, source in config.sources.items()}
    folders[""] = config.ledger.path.parent
    if disks is None:
        disks = look_at(folders) if look else dict.fromkeys(folders, Disk())
    if conn is not None:
        # One moment for all that is read: a recording must not be seen twice, or in neither state.
        conn.execute("BEGIN")
    try:
        result: Status = {
            "schema_version": model.SCHEMA_VERSION,
            "state": Word.SAFE,
            "reasons": [],
            "at": iso(now),
            "daemon": _daemon(holder),
            "ledger": _ledger(config.ledger.path, fault, live, disks[""], now),
            "recordings": _counts(conn),
            "providers": _providers(conn, config, live),
            "uploading": _uploading(conn, live) if holder is not None else [],
            "sources": _sources(conn, config, disks, live),
            "webhooks": _webhooks(conn, config),
            "troubled": _troubled(conn),
        }
    finally:
        if conn is not None and conn.in_transaction:
            conn.execute("ROLLBACK")  # nothing was written
    word, reasons = judge(result, config.daemon.behind_after)
    result["state"], result["reasons"] = word, reasons
    return result


def _daemon(holder: Holder | None) -> model.DaemonLine:
    if holder is None:
        return {"running": False, "pid": None, "version": None, "started_at": None}
    return {
        "running": True,
        "pid": holder.pid or None,
        "version": holder.version or None,
        "started_at": time_of(holder.started_at or None),
    }


def _ledger(
    path: Path, fault: LedgerError | None, live: Live | None, disk: Disk, now: int
) -> model.LedgerLine:
    told = live.get("ledger") if live is not None else None
    problem: Problem | None = None
    if fault is not None:
        problem = _problem(FailureClass.PROVIDER, fault.message, fault.hint, now)
    elif told is not None:
        # The daemon's own word: it was refused when it wrote.
        problem = {
            "class": str(told["class"]),
            "message": str(told["message"]),
            "hint": str(told["hint"]),
            "since": told["since"],
        }
    elif disk.free is not None and disk.free < LEDGER_NEEDS:
        free = f"its disk has {disk.free} bytes free"
        problem = _problem(FailureClass.PROVIDER, free, f"free some space in {path.parent}", now)
    return {"path": str(path), "problem": problem}


def _problem(failure: str, message: str, hint: str | None, since: int | None) -> Problem:
    return {"class": str(failure), "message": message, "hint": hint or "", "since": time_of(since)}


def _counts(conn: sqlite3.Connection | None) -> model.RecordingCounts:
    totals = read.totals(conn) if conn is not None else read.Totals(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None)
    oldest = find.oldest_waiting(conn) if conn is not None else None
    return {
        "total": totals.total,
        "safe": totals.safe,
        "waiting": totals.waiting,
        "failed": totals.failed,
        "lost": totals.lost,
        "held": totals.held,
        "skipped": totals.skipped,
        "superseded": totals.superseded,
        "alarming": totals.alarming,
        "waiting_bytes": totals.waiting_bytes,
        "oldest_waiting_at": time_of(totals.oldest_waiting_at),
        "oldest_waiting": f"{oldest.source}: {text_of(oldest.path)}" if oldest is not None else None,
    }


def _providers(
    conn: sqlite3.Connection | None, config: Config, live: Live | None
) -> list[model.ProviderLine]:
    """In the configuration's order; what is not in it any more comes last."""
    rows = {row.name: row for row in read.providers(conn)} if conn is not None else {}
    names = [*config.providers, *(name for name in rows if name not in config.providers)]
    rates = live.get("providers", {}) if live is not None else {}
    lines: list[model.ProviderLine] = []
    for name in names:
        row = rows.get(name)
        rate = rates.get(name, {}).get("rate_bytes_per_second")
        if row is None:
            # The daemon has not started since it was added.
            state = ProviderState.OK if config.providers[name].enabled else ProviderState.DISABLED
            type_ = config.providers[name].type
            row = read.ProviderRow(
                0, name, type_, state, *(None,) * 7, probes=0, verified=0, waiting=0, failed=0
            )
        troubled = row.problem_class is not None and row.problem_message is not None
        in_trouble, why = _in_trouble(conn, config, row)
        lines.append(
            {
                "name": name,
                "type": row.type,
                "state": ProviderState.PAUSED if row.paused_by is not None else row.state,
                "verified": row.verified,
                "waiting": row.waiting,
                "failed": row.failed,
                "in_trouble": in_trouble,
                "rate_bytes_per_second": float(rate) if rate is not None else None,
                "last_verified_at": time_of(row.last_verified_at),
                "next_probe_at": time_of(row.next_probe_at),
                "probes": row.probes,
                "problem": _problem(
                    row.problem_class or "", row.problem_message or "", row.problem_hint, row.problem_since
                )
                if troubled
                else _paused(row.paused_by, row.problem_since)
                or (_problem(FailureClass.TRANSIENT, why, "", None) if why else None),
            }
        )
    return lines


def _in_trouble(
    conn: sqlite3.Connection | None, config: Config, row: read.ProviderRow
) -> tuple[int, str | None]:
    """Uploads that failed `trouble_after` times, and why. While a provider is down its probes count."""
    provider = config.providers.get(row.name)
    if conn is None or provider is None or provider.trouble_after is None:
        return 0, None
    if row.state == ProviderState.RETRYING and row.probes >= provider.trouble_after:
        return row.waiting, row.problem_message
    return read.in_trouble(conn, row.name, provider.trouble_after)


def _paused(by: str | None, since: int | None) -> Problem | None:
    if by is None:
        return None
    return _problem(FailureClass.PROVIDER, f"paused by {by}", "resume it once that is over", since)


def _uploading(conn: sqlite3.Connection | None, live: Live | None) -> list[model.UploadingLine]:
    """What is on its way; without the daemon's word, what the ledger says was begun."""
    if live is not None:
        return [_progress(one) for one in live.get("uploading", ())]
    if conn is None:
        return []
    return [
        {
            "path": text_of(one.path),
            "source": one.source,
            "provider": one.provider,
            "bytes_sent": None,
            "size": one.size,
            "resumed_from": one.resumed_from,
            "rate_bytes_per_second": None,
            "eta_seconds": None,
        }
        for one in find.working(conn)
    ]


def _progress(one: Live) -> model.UploadingLine:
    rate, left = float(one["rate_bytes_per_second"]), int(one["size"]) - int(one["bytes_sent"])
    return {
        "path": str(one["path"]),
        "source": str(one["source"]),
        "provider": str(one["provider"]),
        "bytes_sent": int(one["bytes_sent"]),
        "size": int(one["size"]),
        "resumed_from": int(one["resumed_from"]),
        "rate_bytes_per_second": rate,
        "eta_seconds": round(max(0, left) / rate, 1) if rate > 0 else None,
    }


def _sources(
    conn: sqlite3.Connection | None, config: Config, disks: Mapping[str, Disk], live: Live | None
) -> list[model.SourceLine]:
    """Those of the configuration, in its order."""
    watched = live.get("sources", {}) if live is not None else {}
    rows = {row.name: row for row in read.sources(conn)} if conn is not None else {}
    lines: list[model.SourceLine] = []
    for name, source in config.sources.items():
        row = rows.get(name)
        if row is None:
            state = SourceState.MISSING if disks[name].there is False else SourceState.OK
        else:
            state = SourceState.PAUSED if row.paused_by is not None else SourceState(row.state)
        unseen = row.unseen if row is not None and state != SourceState.PAUSED else None
        # A missing root is an alarm of its own, and a paused source none.
        silent_since = (
            row.silent_since
            if row is not None and state == SourceState.OK and source.expect_every is not None
            else None
        )
        lines.append(
            {
                "name": name,
                "path": text_of(os.fsencode(source.path)),
                "state": state,
                "last_sweep_at": time_of(_last_sweep(row, watched.get(name, {}))),
                "last_recording_at": time_of(row.last_found_at) if row is not None else None,
                "silent_since": time_of(silent_since),
                "free_bytes": disks[name].free,
                "polling": watched.get(name, {}).get("polling"),
                "lease": watched.get(name, {}).get("lease"),
                "problem": _missing(source.path, row, watched.get(name, {}).get("missing"))
                if state == SourceState.MISSING
                else _silent(source, silent_since) or _unseen(unseen),
                "unseen": unseen,
            }
        )
    return lines


def _last_sweep(row: read.SourceRow | None, watched: Live) -> int | None:
    """The daemon knows each; the ledger's may be an hour old (`watcher.WRITTEN_SECONDS`)."""
    if (last := watched.get("last_sweep")) is not None:
        return int(last["at"])
    return row.last_sweep_at if row is not None else None


def _missing(path: Path, row: read.SourceRow | None, why: str | None) -> Problem:
    """`why`: the system's words, where the daemon runs that met them."""
    since = row.missing_since if row is not None else None
    message, hint = f"{text_of(os.fsencode(path))} is not there", MISSING_HINT
    if why == os.strerror(errno.EACCES):
        message, hint = f"the daemon may not read {text_of(os.fsencode(path))}", FORBIDDEN_HINT
    elif why not in (None, os.strerror(errno.ENOENT)):
        message += f": {why}"
    return _problem(FailureClass.TRANSIENT, message, hint, since)


def _silent(source: Source, since: int | None) -> Problem | None:
    if since is None or source.expect_every is None:
        return None
    message = (
        f"no new recording in {text_of(os.fsencode(source.path))} since {iso(since)},"
        f" and one is expected every {format_duration(source.expect_every)}"
    )
    return _problem(FailureClass.TRANSIENT, message, SILENT_HINT, since)


def _unseen(folders: str | None) -> Problem | None:
    if folders is None:
        return None
    return _problem(FailureClass.RECORDING, unseen_folders(folders), UNSEEN_HINT, None)


def _webhooks(conn: sqlite3.Connection | None, config: Config) -> list[model.WebhookLine]:
    """Those of the configuration, in its order."""
    rows = {row.name: row for row in outbox.webhooks(conn)} if conn is not None else {}
    none = outbox.WebhookRow("", 0, 0, 0, None, None, None, None, None)
    return [
        {
            "name": name,
            "waiting": row.waiting,
            "delivered": row.delivered,
            "given_up": row.given_up,
            "last_delivered_at": time_of(row.last_delivered_at),
            "next_try_at": time_of(row.next_try_at),
            "problem": _problem(
                FailureClass.TRANSIENT, row.problem_message, row.problem_hint, row.problem_since
            )
            if row.problem_message is not None
            else None,
        }
        for name in config.webhooks
        for row in (rows.get(name, none),)
    ]


def _troubled(conn: sqlite3.Connection | None) -> list[model.TroubledLine]:
    lines: list[model.TroubledLine] = []
    for state in ("lost", "failed", "held") if conn is not None else ():
        assert conn is not None
        for row in find.troubled(conn, state, TROUBLED_SHOWN):
            message, hint = reason(row)
            lines.append(
                {
                    "path": text_of(row.path),
                    "source": row.source,
                    "state": state,
                    "message": message,
                    "hint": hint,
                }
            )
    return lines


def reason(row: read.RecordingRow) -> tuple[str, str]:
    """Why a recording is where it is, and what to do: its own reason, or its failed uploads'."""
    if row.state == RecordingState.HELD:
        if row.gate is not None:
            return row.reason or "", "it is sent once it is whole, or if you `uploaderd release` it"
        return row.reason or "", "mend that; the next sweep queues it"
    if row.state == RecordingState.LOST:
        return _LOST, "if there is another copy of it, put it back; the next sweep finds it"
    if row.reason is not None:
        return row.reason, ""
    failed = [upload for upload in row.uploads.values() if upload.error_message and upload.state == "failed"]
    message = "; ".join(f"{upload.provider}: {upload.error_message}" for upload in failed)
    return message, next((upload.error_hint for upload in failed if upload.error_hint), "")
