"""`on_stop = "drain"`: everything that is there goes out before the daemon ends, and what does not is named.

One more sweep of all sources; files that are still written are waited for, for half of the time, and
those that were closed but are not quiet yet until its end; then whatever is queued. A source that is
missing is not waited for: nothing is known of its files.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uploaderd.clock import Clock
from uploaderd.errors import LedgerBroken, LedgerError, LedgerFull, LocalFault
from uploaderd.generation import Generation
from uploaderd.keys import text_of
from uploaderd.ledger import Ledger, Transaction, health, read
from uploaderd.logs.setup import get_logger
from uploaderd.model import UploadState
from uploaderd.report.lines import count

log = get_logger(__name__)

LOOK_SECONDS: Final = 0.25
"""How often it is looked whether all is safe."""

NAMED: Final = 20
"""Files left behind that are named; the others are counted."""

TERMINATION_LOG: Final = Path("/dev/termination-log")
"""Where Kubernetes reads a container's last words, unless terminationMessagePath says otherwise."""

LONGEST: Final = 4096
"""Bytes of them that Kubernetes keeps."""


@dataclass(frozen=True, slots=True)
class Left:
    """What is not safe, one line for each file or source, and how many more files there are."""

    late: tuple[str, ...] = ()
    """Waiting, still written, or not looked at yet: more time could have made it safe."""
    unnamed: int = 0
    alarming: tuple[str, ...] = ()
    """Needs a person: missing sources, troubled providers, recordings that are failed, lost or held."""

    def __bool__(self) -> bool:
        return bool(self.late or self.alarming)

    @property
    def lines(self) -> list[str]:
        more = [f"and {count(self.unnamed, 'recording')} more"] if self.unnamed else []
        return [*self.late, *more, *self.alarming]


async def drain(generation: Generation, ledger: Ledger, clock: Clock, seconds: float) -> Left:
    """Bring everything to safety within so many seconds; what is left.

    Raises:
        LedgerBroken: the ledger's storage failed.
    """
    generation.intake.lenient = True  # what looks truncated goes out, too: the disk may not come back
    began = clock.monotonic()
    hurried = False
    sweeping = asyncio.create_task(_sweep(generation))
    try:
        while (waited := clock.monotonic() - began) < seconds:
            try:
                if not hurried:
                    await ledger.run(_hurry)
                    generation.wake()
                    hurried = True
                if sweeping.done():
                    sweeping.result()
                    if await _at_rest(generation, ledger, for_writers=waited < seconds / 2):
                        break
            except LedgerFull as full:
                log.warning("the ledger refuses to write; draining goes on", reason=str(full))
            await clock.sleep(LOOK_SECONDS)
    finally:
        sweeping.cancel()
    return await left(generation, ledger)


async def left(generation: Generation, ledger: Ledger) -> Left:
    """What is not safe now."""
    late: list[str] = []
    alarming: list[str] = []
    roots = {name: str(source.path) for name, source in generation.config.sources.items()}
    for name, watcher in generation.watchers.items():
        if name not in generation.watched:
            alarming.append(f"source {name} is paused; nothing is known of its new files")
            continue
        if (missing := watcher.state["missing"]) is not None:
            alarming.append(f"source {name}: {missing}; nothing is known of its files")
            continue
        if (unseen := watcher.state["unseen"]) is not None:
            alarming.append(f"source {name} has folders that cannot be looked into: {unseen}")
        if (writing := watcher.only_open) is None:
            late.append(f"{roots[name]}: files that were not quiet for long enough, or not looked at yet")
        else:
            late += [f"{roots[name]}/{text_of(path)}: somebody still writes it" for path in writing]
    totals, waiting, providers = await ledger.run(_waiting)
    for row in waiting:
        owing = [
            f"{name} (only what `uploaderd ensure` asks for is sent there)"
            if name in generation.on_request
            else name
            for name, upload in row.uploads.items()
            if upload.state != UploadState.VERIFIED
        ]
        late.append(f"{roots.get(row.source, row.source)}/{text_of(row.path)}: not yet at {', '.join(owing)}")
    if late:
        alarming += [
            f"provider {row.name}: {row.problem_message}"
            for row in providers
            if row.problem_message is not None and row.name in generation.pools
        ]
    if totals.alarming:
        alarming.append(f"{count(totals.alarming, 'recording')} failed, lost or held")
    unnamed = max(0, len(late) - NAMED) + totals.waiting - len(waiting)
    return Left(tuple(late[:NAMED]), unnamed, tuple(alarming))


def last_words(what: Left, path: Path = TERMINATION_LOG) -> None:
    """Leave it where an orchestrator looks for the reason of an end, if there is such a place."""
    text = f"not safe when the daemon had to end: {'; '.join(what.lines)}"
    try:
        # Never made: outside of a container, /dev has no such file and shall not get one.
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    except OSError:
        return
    with os.fdopen(fd, "wb") as words:
        words.write(text.encode(errors="backslashreplace")[:LONGEST])


async def _sweep(generation: Generation) -> None:
    """One more sweep of each source that is there."""
    sweeps = [generation.sweep(name) for name in generation.watched]
    for result in await asyncio.gather(*sweeps, return_exceptions=True):
        match result:
            case LocalFault():
                pass  # missing, or paused by now: `left` says so
            case LedgerBroken():
                raise result
            case LedgerError() as error:
                log.warning("the last sweep was cut short", reason=str(error))
            case BaseException():
                raise result


async def _at_rest(generation: Generation, ledger: Ledger, *, for_writers: bool) -> bool:
    """Whether nothing is left that waiting could bring to safety. `for_writers`: wait for open files too."""
    for watcher in generation.watched.values():
        writing = watcher.only_open
        if watcher.state["missing"] is None and (writing is None or (writing and for_writers)):
            return False
    totals, _, providers = await ledger.run(_waiting)
    # What nobody asked for is not sent for want of time: it is left, and said to be.
    idle = not any(generation.pools[name].running for name in generation.on_request)
    held_back = idle and all(row.waiting == 0 for row in providers if row.name not in generation.on_request)
    return totals.waiting == 0 or (bool(generation.on_request) and held_back)


def _hurry(tx: Transaction) -> None:
    """Whatever waits for its backoff is due: there may be no later."""
    for provider in read.providers(tx.conn):
        health.provider_due(tx, provider.id)


def _waiting(tx: Transaction) -> tuple[read.Totals, list[read.RecordingRow], list[read.ProviderRow]]:
    waiting = list(read.recordings(tx.conn, state="waiting", limit=NAMED))
    return read.totals(tx.conn), waiting, read.providers(tx.conn)
