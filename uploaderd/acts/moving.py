"""backfill and retire: old recordings to a new provider, and the end of an old one."""

from __future__ import annotations

import asyncio
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

from uploaderd.acts.acting import Acting, Tell, known
from uploaderd.acts.orders import Backfill, Retire
from uploaderd.acts.providers import open_one
from uploaderd.errors import Fault, Refused
from uploaderd.generation import intake_of, register
from uploaderd.intake import Finished, Intake
from uploaderd.ledger import leftovers, moving, read
from uploaderd.ledger.intake import NewUpload
from uploaderd.ledger.moving import Needed, Old
from uploaderd.model import ProviderState
from uploaderd.report.lines import count
from uploaderd.sweeping_up import sweep_up

PAGE: Final = 250
"""Recordings queued in one transaction at most: others wait for it."""

_RELOAD: Final = "if a daemon runs, have it read its configuration again (SIGHUP)"


async def backfill(order: Backfill, acting: Acting, tell: Tell) -> Mapping[str, Any]:
    """Queue old recordings for a provider.

    Returns:
        `added` (uploads), `bytes`, `gone` (recordings whose local file is not there any more), `refused` (no
        key can be made) and `taken` (the key is another recording's).

    Raises:
        Refused: a provider or source that is not in use, or that do not belong together.
        LedgerError: the ledger takes nothing.
    """
    sources = _sources(order, acting)
    intake, provider = await _intake(acting, order.provider)
    counts: Counter[str] = Counter()
    after = 0
    while page := await acting.read(moving.old, provider, sources, after, PAGE):
        after = page[-1].row
        copies = await asyncio.to_thread(_planned, intake, acting, page, provider, counts)
        added = await acting.ledger.run(moving.add, copies, required=order.required)
        counts.update(added=added.uploads, bytes=added.bytes, taken=added.taken)
        if added.uploads:
            acting.wake()
        await tell(_values(counts))
    counts["gone"] += await acting.read(moving.gone, provider, sources)
    detail = {**_values(counts), "required": order.required}
    await acting.ledger.run(moving.backfilled, acting.who, order.provider, order.source, detail)
    return _values(counts)


def _values(counts: Counter[str]) -> dict[str, Any]:
    return {name: counts[name] for name in ("added", "bytes", "gone", "refused", "taken")}


def _sources(order: Backfill, acting: Acting) -> list[str]:
    """The sources whose recordings are meant.

    Raises:
        Refused: none.
    """
    config, name = acting.config, order.provider
    if name not in config.providers or not config.providers[name].enabled:
        raise Refused(f"provider {name} is not in use", f"enable it in the configuration; {_RELOAD}")
    if order.source is not None and order.source not in config.sources:
        raise Refused(f"source {order.source} is not in use", f"configure it; {_RELOAD}")
    takes = [source for source in config.sources if name in config.providers_of(source)]
    if order.source is not None:
        takes = [source for source in takes if source == order.source]
    if not takes:
        what = f"source {order.source}" if order.source is not None else "any source"
        raise Refused(f"nothing of {what} goes to {name}", f"name it among its `providers` first; {_RELOAD}")
    return takes


async def _intake(acting: Acting, provider: str) -> tuple[Intake, int]:
    """What makes the keys, and the provider's row."""
    registered = await register(acting.config, acting.ledger)
    generation = acting.generation
    if generation is not None:
        return generation.intake, registered.providers[provider]
    intake = intake_of(acting.config, registered, acting.ledger, wake=acting.wake)
    return intake, registered.providers[provider]


def _planned(
    intake: Intake, acting: Acting, page: Sequence[Old], provider: int, counts: Counter[str]
) -> list[tuple[Old, NewUpload]]:
    """The uploads that are to be added, of recordings whose file is there. Blocks."""
    copies = []
    for one in page:
        root = os.fsencode(acting.config.sources[one.source].path)
        if not _is_file(os.path.join(root, one.path)):
            counts["gone"] += 1
            continue
        found = Finished(one.path, one.identity, one.found_by, one.finished_by, one.finished_at)
        planned = intake.plan(one.source, found)
        upload = next((each for each in planned.uploads if each.provider_id == provider), None)
        if upload is None:
            counts["refused"] += 1
        else:
            copies.append((one, upload))
    return copies


def _is_file(path: bytes) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


async def retire(order: Retire, acting: Acting) -> Mapping[str, Any]:
    """End a provider.

    Returns:
        `ended` (uploads that will not be made), `waiting`, `only`, `without_file` (as `moving.Needed`),
        `left` (half-done uploads that could not be aborted there).

    Raises:
        Refused: an unknown or used provider; or it is still needed, and it is not forced.
        LedgerError: the ledger takes nothing.
    """
    rows = await acting.ledger.run(lambda tx: {row.name: row for row in read.providers(tx.conn)})
    known(order.provider, rows, "provider")
    row = rows[order.provider]
    table = acting.config.providers.get(order.provider)
    if table is not None and table.enabled:
        hint = f"set enabled = false or remove its table; {_RELOAD}; and ask again"
        raise Refused(f"[providers.{order.provider}] is still in use", hint)
    if row.state == ProviderState.RETIRED:
        raise Refused(f"provider {order.provider} is retired already")
    needed = await acting.read(moving.needed, row.id)
    if (needed.waiting or needed.only) and not order.force:
        raise Refused(
            f"{order.provider} is still needed: {_needs(needed)}",
            "`uploaderd backfill` another provider first. With --force, what waits for it has failed, and"
            " what is only there still counts as safe: keep it there",
        )
    ended = await acting.ledger.run(moving.retire, row.id, acting.who, needed)
    return {
        "ended": ended,
        "waiting": needed.waiting,
        "only": needed.only,
        "without_file": needed.without_file,
        "left": await _abort(acting, order.provider, row.id),
    }


def _needs(needed: Needed) -> str:
    what = []
    if needed.waiting:
        waits = "waits" if needed.waiting == 1 else "wait"
        what.append(f"{count(needed.waiting, 'recording')} still {waits} for a copy there")
    if needed.only:
        has = "has" if needed.only == 1 else "have"
        what.append(
            f"{count(needed.only, 'recording')} {has} a verified copy nowhere else,"
            f" {needed.without_file:,} of them no local file either"
        )
    return "; ".join(what)


async def _abort(acting: Acting, name: str, provider_id: int) -> int:
    """Abort what was half done there, as far as it can be reached; how many sessions are left."""
    left = await acting.read(leftovers.count, provider_id)
    if left and name in acting.config.providers:
        async with AsyncExitStack() as stack:
            openable = await open_one(stack, acting.config, name, marked=True)
            if openable.provider is not None:
                with suppress(Fault, TimeoutError):
                    await sweep_up(openable.provider, provider_id, acting.ledger)
        left = await acting.read(leftovers.count, provider_id)
    return left
