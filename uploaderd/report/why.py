"""What holds a file back: every gate it passed, the one that holds it, what comes next and when."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uploaderd.config import Config, Source
from uploaderd.errors import Fault
from uploaderd.keys import text_of
from uploaderd.ledger import read
from uploaderd.ledger.lock import Holder
from uploaderd.markers import ABANDONED
from uploaderd.model import ProviderState, RecordingState, SourceState, UploadState
from uploaderd.patterns import OWN, Belonging, Patterns, excluded
from uploaderd.report import lookup
from uploaderd.report.disks import SILENT, SILENT_HINT, silent
from uploaderd.report.lines import span
from uploaderd.report.model import iso
from uploaderd.report.status import LEDGER_NEEDS, MISSING_HINT, reason
from uploaderd.report.writers import writers

if TYPE_CHECKING:
    from uploaderd.finished import Verdict

NEVER: Final = "nothing more: it will not be sent"


@dataclass(frozen=True, slots=True)
class Gate:
    """Something that a file must get past. `passed`: None where it is on its way through."""

    name: str
    passed: bool | None
    text: str
    remedy: str = ""


@dataclass(slots=True)
class Why:
    """The answer. `state` is a recording's, or "not in the ledger"; `next` says what happens, and when."""

    path: str
    state: str
    gates: list[Gate] = field(default_factory=list)
    next: str = ""


def why(conn: sqlite3.Connection | None, config: Config, holder: Holder | None, wanted: str, now: int) -> Why:
    """What holds the file that is meant; `now` in milliseconds since the epoch.

    Raises:
        lookup.Unknown: neither the ledger nor the file system has it.
        lookup.Ambiguous: several recordings may be meant.
    """
    row = lookup.exact(conn, config, wanted) if conn is not None else None
    if row is None:
        mute = silent(config)
        path = _on_disk(config, os.fsencode(wanted), mute)
        if path is not None:
            return _file(conn, config, holder, path)
        if (absent := _in_absent_source(config, os.fsencode(wanted), mute)) is not None:
            return absent
        unseen = "".join(f"; source {name} {SILENT}" for name in mute)
        if conn is None:
            raise lookup.Unknown(f"there is no file {wanted!r}, and no ledger that may know of one{unseen}")
        try:
            row = lookup.by_part(conn, wanted)
        except lookup.Unknown as unknown:
            raise lookup.Unknown(f"{unknown}{unseen}") from None
    assert conn is not None  # without one there is no row
    return _recording(conn, config, holder, row, now)


# --- what the ledger knows -----------------------------------------------------------------------


def _recording(
    conn: sqlite3.Connection, config: Config, holder: Holder | None, row: read.RecordingRow, now: int
) -> Why:
    answer = Why(f"{row.source}: {text_of(row.path)}", row.state)
    gates = answer.gates
    gates.append(Gate("found", True, f"by {row.found_by}, {iso(row.found_at)}"))
    gates.append(Gate("finished", True, f"by {row.finished_by}, {iso(row.finished_at)}"))
    if row.doubt is not None:
        gates.append(Gate("doubtful", True, row.doubt))
    why_not, hint = reason(row)
    match row.state:
        case RecordingState.SKIPPED:
            gates.append(Gate("skipped", False, why_not))
            answer.next = NEVER
        case RecordingState.HELD:
            gates.append(Gate("held", False, why_not))
            answer.next = hint
        case RecordingState.SUPERSEDED:
            gates.append(Gate("superseded", False, "a newer content took its path before it was sent"))
            answer.next = NEVER
        case RecordingState.LOST:
            gates.append(Gate("lost", False, why_not))
            answer.next = hint
        case _:
            providers = {provider.name: provider for provider in read.providers(conn)}
            unasked = frozenset(name for name, one in config.providers.items() if not one.auto_upload)
            gates += [_upload(upload, providers[name], unasked, now) for name, upload in row.uploads.items()]
            answer.next = _next(row, providers, unasked, hint, now)
    _add_daemon(answer, conn, config, holder, row)
    return answer


def _upload(upload: read.UploadRow, provider: read.ProviderRow, unasked: frozenset[str], now: int) -> Gate:
    """`unasked`: providers that are sent nothing unless `uploaderd ensure` asks for it."""
    optional = "" if upload.required else " (not required)"
    name = f"{upload.provider}{optional}"
    match upload.state:
        case UploadState.VERIFIED:
            since = "; a newer version took its place since" if upload.replaced else ""
            return Gate(name, True, f"verified {iso(upload.verified_at or 0)}, {upload.proof_kind}{since}")
        case UploadState.UPLOADING | UploadState.COMPLETING:
            return Gate(name, None, f"{upload.state}, attempt {upload.attempts}")
        case UploadState.FAILED:
            return Gate(name, False, f"failed: {upload.error_message}", upload.error_hint or "")
    if provider.state in (ProviderState.PAUSED, ProviderState.RETRYING):
        state = "paused" if provider.state == ProviderState.PAUSED else "down"
        return Gate(
            name, False, f"the provider is {state}: {provider.problem_message}", provider.problem_hint or ""
        )
    if provider.paused_by is not None:
        return Gate(name, False, f"the provider was paused by {provider.paused_by}")
    if provider.state in (ProviderState.DISABLED, ProviderState.RETIRED):
        return Gate(name, False, f"the provider is {provider.state}")
    if upload.state == UploadState.RETRYING:
        attempt = f"attempt {upload.attempts} failed: {upload.error_message}"
        again = f"{attempt}; again {_when(upload.next_attempt_at, now)}"
        return Gate(name, False, again, upload.error_hint or "")
    if upload.provider in unasked:
        return Gate(name, False, "queued until `uploaderd ensure` asks for it: auto_upload = false")
    others = f", beside {provider.waiting - 1} others" if provider.waiting > 1 else ""
    return Gate(name, None, f"queued{others}")


def _next(
    row: read.RecordingRow,
    providers: dict[str, read.ProviderRow],
    unasked: frozenset[str],
    hint: str,
    now: int,
) -> str:
    if row.state == RecordingState.SAFE and all(
        u.state == UploadState.VERIFIED for u in row.uploads.values()
    ):
        return "nothing more: it is safe"
    if row.state == RecordingState.FAILED:
        return f"it needs a person: {hint}" if hint else "it needs a person"
    waiting = [u for u in row.uploads.values() if u.state not in (UploadState.VERIFIED, UploadState.FAILED)]
    for upload in waiting:
        provider = providers[upload.provider]
        if provider.state in (ProviderState.PAUSED, ProviderState.RETRYING):
            return (
                f"{provider.name} is asked again {_when(provider.next_probe_at, now)}, and goes on by itself"
            )
    for upload in waiting:
        if upload.next_attempt_at is not None:
            return f"{upload.provider} is tried again {_when(upload.next_attempt_at, now)}"
    queued = [upload.provider for upload in waiting if upload.state == UploadState.QUEUED]
    if queued and unasked.issuperset(queued):
        return "nothing, until somebody asks: `uploaderd ensure` sends it"
    if queued:
        return "it is sent as soon as its turn comes"
    return "its upload goes on"


def _add_daemon(
    answer: Why, conn: sqlite3.Connection, config: Config, holder: Holder | None, row: read.RecordingRow
) -> None:
    """What stands in the way of all: no daemon, no source; and another content that is there by now."""
    if row.state == RecordingState.SAFE:
        return
    for source in read.sources(conn):
        if source.name == row.source and source.state == SourceState.MISSING:
            since = f" since {iso(source.missing_since)}" if source.missing_since is not None else ""
            missing = f"{text_of(source.path)} is missing{since}"
            answer.gates.append(Gate("source", False, missing, MISSING_HINT))
    if row.source not in config.sources:
        answer.gates.append(Gate("source", False, f"{row.source} is not in the configuration any more"))
    _add_ledger(answer, config)
    if holder is None:
        _no_daemon(answer)


def _add_ledger(answer: Why, config: Config) -> None:
    """A ledger without room stops everything."""
    folder = config.ledger.path.parent
    try:
        disk = os.statvfs(folder)
    except OSError:
        return
    if (free := disk.f_bavail * disk.f_frsize) < LEDGER_NEEDS:
        text = f"its disk is full ({free} bytes free): nothing can be queued or noted"
        answer.gates.append(Gate("ledger", False, text, f"free some space in {folder}; it goes on by itself"))


def _no_daemon(answer: Why) -> None:
    answer.gates.append(Gate("daemon", False, "none holds the ledger"))
    answer.next = f"nothing, until a daemon runs (`uploaderd run`); then: {answer.next}"


# --- what only the file system knows -------------------------------------------------------------


def _on_disk(config: Config, wanted: bytes, mute: Collection[str]) -> bytes | None:
    """The absolute path of the file that is meant, if there is one; `mute`: sources that do not answer."""
    roots = {name: os.fsencode(Path(source.path)) for name, source in config.sources.items()}
    places = list(lookup.places(config, wanted))
    candidates = [os.path.join(roots[name], path) for name, path in places if name not in mute]
    here = os.path.normpath(os.path.join(os.getcwdb(), wanted))
    if not any(here.startswith(roots[name] + b"/") for name in mute):
        candidates.append(here)
    return next((path for path in candidates if os.path.lexists(path)), None)


def _in_absent_source(config: Config, wanted: bytes, mute: Collection[str]) -> Why | None:
    """The answer for a path below a source that is not there, or does not answer: who knows of its file?"""
    for name, path in lookup.places(config, wanted) if os.path.isabs(wanted) else ():
        root = config.sources[name].path
        shown = text_of(os.fsencode(root))
        if name in mute:
            gate = Gate("source", False, f"{name}: {shown} {SILENT}", SILENT_HINT)
        elif not root.is_dir():
            gate = Gate("source", False, f"{name} is missing: {shown}", MISSING_HINT)
        else:
            continue
        return Why(f"{name}: {text_of(path)}", "not in the ledger", [gate], "it is looked for then")
    return None


def _file(conn: sqlite3.Connection | None, config: Config, holder: Holder | None, path: bytes) -> Why:
    # Only here, because it brings the checksums' C library: 30 ms that a known recording need not wait for.
    from uploaderd.clock import SystemClock
    from uploaderd.finished import Judge

    answer = Why(text_of(path), "not in the ledger")
    owner = Belonging(config.sources).owner(path)
    if os.path.isdir(path):
        answer.gates.append(Gate("file", False, "it is a directory; ask for a file"))
        answer.next = NEVER
        return answer
    if owner is None:
        answer.gates.append(_nobodys(config, path))
        answer.next = "nothing, unless a source's path or patterns are changed so that it takes it"
        return answer
    name, relative = owner
    source = config.sources[name]
    answer.gates.append(Gate("source", True, f"{name} takes it"))
    try:
        verdict = Judge(os.fsencode(Path(source.path)), source, SystemClock()).look(relative)
    except Fault as fault:
        answer.gates.append(Gate("file", False, fault.message))
        answer.next = fault.hint or "it is looked at again by the next sweep"
        return answer
    _add_verdict(answer, verdict, source, path)
    if verdict.finished_by is not None:
        answer.next = _found_when(conn, name, source)
    _add_ledger(answer, config)
    if holder is None:
        _no_daemon(answer)
    return answer


def _nobodys(config: Config, path: bytes) -> Gate:
    """Why no source takes it."""
    if os.path.basename(path).startswith(OWN):
        return Gate("name", False, "names that begin with .uploaderd are uploaderd's own")
    inside = [
        (name, source, path[len(root) :])
        for name, source in config.sources.items()
        if path.startswith(root := os.fsencode(Path(source.path)) + b"/")
    ]
    if not inside:
        watched = ", ".join(f"{name} ({source.path})" for name, source in config.sources.items())
        return Gate("source", False, f"it lies in no source; watched are {watched}")
    why_not = []
    for name, source, relative in inside:
        by = [pattern for pattern in excluded(source) if Patterns((pattern,), ()).take(relative)]
        if by:
            why_not.append(f'{name} excludes it: exclude has "{by[0]}"')
        else:
            patterns = ", ".join(f'"{pattern}"' for pattern in source.include)
            why_not.append(f"{name} does not include it: include has {patterns}")
    return Gate("pattern", False, "; ".join(why_not))


def _add_verdict(answer: Why, verdict: Verdict, source: Source, path: bytes) -> None:
    match verdict.obstacle:
        case "writer":
            found = writers(path)
            who = ", ".join(f"{one.name} (process {one.pid})" for one in found)
            who = who or "by a process that you may not see"
            answer.gates.append(Gate("finished", False, f"it is open for writing: {who}"))
            answer.next = "it is queued once the last writer has closed it, and it is quiet"
        case "marker":
            awaited = "a .done that is not older beside it, or the end of its .lock or .tmp"
            answer.gates.append(Gate("finished", False, f"its marker does not say so: {awaited}"))
            answer.next = f"it counts as finished without one after {ABANDONED / 60:.0f} min of quiet"
        case "quiet" | "changed":
            answer.gates.append(Gate("finished", False, "it changed a moment ago"))
            answer.next = f"it counts as finished in {verdict.wait:.1f} s, unless it changes again"
        case _:
            answer.gates.append(Gate("finished", True, f"by {verdict.finished_by}"))
    if verdict.refused is not None:
        answer.gates.append(Gate("readable", False, f"to you: {verdict.refused}"))
    if verdict.flaw is not None:
        holds = source.container_check == "require"
        answer.gates.append(Gate("container", not holds, f"it looks truncated: {verdict.flaw}"))
    if verdict.identity.size == 0 and source.empty == "skip":
        answer.gates.append(Gate("empty", False, 'it has no bytes, and empty = "skip"'))


def _found_when(conn: sqlite3.Connection | None, name: str, source: Source) -> str:
    swept = (
        next((row.last_sweep_at for row in read.sources(conn) if row.name == name), None) if conn else None
    )
    if swept is None:
        return "it is queued by the first sweep"
    # Later sweeps need not be in the ledger (`watcher.WRITTEN_SECONDS`), so the next may be due later.
    return f"it is queued by the next sweep at the latest, within {span(source.sweep_every)}"


def _when(at: int | None, now: int) -> str:
    """`in 12 s (2026-11-20T18:00:00Z)`."""
    if at is None:
        return "soon"
    return f"in {(at - now + 999) // 1000} s ({iso(at)})" if at > now else "now"
