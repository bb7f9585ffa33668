"""A URL to read a recording with, from the first provider that answers and has it.

They are asked in the operator's order. Each has half a second's start on the next: whoever is slower
than that is still heard, if nobody who comes after it was quicker.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from uploaderd import addresses
from uploaderd.acts.acting import Acting, known
from uploaderd.acts.orders import Url
from uploaderd.acts.providers import Openable, open_one
from uploaderd.clock import Clock
from uploaderd.config import Config, DirectoryProvider
from uploaderd.config import Provider as Table
from uploaderd.errors import CannotLook, Fault, LedgerFull, Refused
from uploaderd.keys import text_of
from uploaderd.ledger import Event, Transaction, read
from uploaderd.logs.setup import get_logger
from uploaderd.model import FailureClass, ObjectInfo, UploadState
from uploaderd.provider import Provider, Signs
from uploaderd.report.model import iso

log = get_logger(__name__)

HEAD_START: Final = 0.5
"""Seconds that a provider may take before the next one is asked, too."""

ANSWER_SECONDS: Final = 10.0
"""After which a provider is taken not to answer at all."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object that may be read. With a `size`, it must be the copy that was verified."""

    provider: str
    key: str
    size: int | None = None
    token: str | None = None
    etag: str | None = None
    version_id: str | None = None

    def is_it(self, found: ObjectInfo) -> bool:
        """Whether what is there is what is wanted, as far as a look can tell."""
        if self.size is None:
            return True
        return found.size == self.size and (
            (found.generation is not None and found.generation == self.version_id)
            or (found.etag is not None and found.etag == self.etag)
            or (found.token is not None and found.token == self.token)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A URL. `until`: when it ends, in milliseconds since the epoch; None: it does not, nothing is signed."""

    url: str
    provider: str
    until: int | None
    archived: bool

    def told(self) -> dict[str, Any]:
        """As plain values: see `url`."""
        return {
            "url": self.url,
            "provider": self.provider,
            "expires_at": iso(self.until) if self.until is not None else None,
            "archived": self.archived,
        }


class Useless(Exception):
    """Why a provider gives no URL; `answered`: it did answer."""

    def __init__(self, why: str, *, answered: bool) -> None:
        super().__init__(why)
        self.answered = answered


Open = Callable[[str], Awaitable[Openable]]
"""Opens a provider, or gives the one that is open."""


async def url(order: Url, acting: Acting) -> Mapping[str, Any]:
    """A URL of a recording, or of a key. Who was given one is on record; the URL itself is not.

    Returns:
        `url`, `provider`, `expires_at` (null: it does not end, nothing is signed) and `archived` (it must be
        brought back from an archive tier before it can be read).

    Raises:
        Refused: an unknown name (`usage`), nobody has it (`problem`), or nobody answers (`unavailable`).
        LedgerError: the ledger cannot be read.
    """
    row = None
    if order.recording is not None:
        row = await acting.read(_recording, order.recording)
        wanted = of_recording(row, acting.config, order.provider)
    else:
        wanted = of_key(order.key or "", acting.config, order.provider)
    async with _opening(acting) as opened:
        found = await find(wanted, acting.config, opened, order.expires, acting.clock)
    try:
        await acting.ledger.run(_noted, acting.who, found, row.row if row is not None else None, order.key)
    except LedgerFull as full:
        log.warning("a URL was given, and is not on record", by=acting.who, reason=full.message)
    return found.told()


async def url_of_key(order: Url, config: Config, clock: Clock) -> Mapping[str, Any]:
    """The same for a key, where there is no ledger.

    Raises:
        Refused: as `url`.
    """
    async with AsyncExitStack() as stack:

        async def opened(name: str) -> Openable:
            return await open_one(stack, config, name, marked=False)

        wanted = of_key(order.key or "", config, order.provider)
        return (await find(wanted, config, opened, order.expires, clock)).told()


def _recording(conn: sqlite3.Connection, public_id: str) -> read.RecordingRow:
    row = read.recording(conn, public_id)
    if row is None:
        raise Refused(f"the ledger knows no recording with the id {public_id}", kind="usage")
    return row


def _noted(tx: Transaction, who: str, found: Found, row: int | None, key: str | None) -> None:
    detail = {"expires_at": found.told()["expires_at"], **({"key": key} if key is not None else {})}
    tx.event(Event("url", who, provider=found.provider, recording_id=row, detail=detail))


@asynccontextmanager
async def _opening(acting: Acting) -> AsyncIterator[Open]:
    """The daemon's own providers, or such as are opened for this alone once they are asked."""
    if (generation := acting.generation) is not None:
        pools = generation.pools

        async def at_work(name: str) -> Openable:
            # Also one that a person paused: that is about what is sent there.
            return Openable(pools[name].provider, "it could not be opened yet")

        yield at_work
        return
    used = await acting.read(read.used_providers)
    async with AsyncExitStack() as stack:

        async def opened(name: str) -> Openable:
            return await open_one(stack, acting.config, name, marked=name in used)

        yield opened


# --- whom to ask -------------------------------------------------------------------------------


def of_recording(row: read.RecordingRow, config: Config, provider: str | None) -> list[Wanted]:
    """The verified copies of a recording, in the order in which their providers are asked.

    Raises:
        Refused: there is none; or the provider that was named has none.
    """
    verified = {name: one for name, one in row.uploads.items() if one.state == UploadState.VERIFIED}
    usable = [name for name in _order(config, provider) if name in verified]
    if not usable:
        where = f"at {provider}" if provider is not None else "at any provider that is in use"
        raise Refused(
            f"{text_of(row.path)} is not {where} (it is {row.state})",
            f"`uploaderd why {text_of(row.path)}` tells where it is, and what holds it",
        )
    return [
        Wanted(name, one.key, row.size, one.token, one.etag, one.version_id)
        for name, one in ((name, verified[name]) for name in usable)
    ]


def of_key(key: str, config: Config, provider: str | None) -> list[Wanted]:
    """That key at all providers, in the order in which they are asked.

    Raises:
        Refused: the provider that was named is not known or not in use, or none is.
    """
    usable = _order(config, provider)
    if not usable:
        raise Refused(f"{provider or 'no provider'} is in use", "enable one in the configuration")
    return [Wanted(name, key) for name in usable]


def _order(config: Config, provider: str | None) -> list[str]:
    known(provider, config.providers, "provider")
    if provider is None:
        return [name for name in config.retrieval_order() if config.providers[name].enabled]
    if not config.providers[provider].enabled:
        raise Refused(f"provider {provider} is not in use", "enable it in the configuration")
    return [provider]


# --- asking ------------------------------------------------------------------------------------


async def find(wanted: Sequence[Wanted], config: Config, opened: Open, expires: float, clock: Clock) -> Found:
    """The first URL that is to be had.

    Args:
        wanted: in the order in which providers are asked.
        config: their tables.
        opened: opens a provider, or gives the one that is open.
        expires: seconds that it is to be good for, at most.
        clock: tells when it ends.

    Raises:
        Refused: nobody gives one; tells why of each.
    """
    asking: dict[asyncio.Task[Found], str] = {}
    useless: dict[str, Useless] = {}
    waiting = list(wanted)
    try:
        while waiting or asking:
            if waiting:
                one = waiting.pop(0)
                ask = _ask(one, config.providers[one.provider], opened, expires, clock)
                asking[asyncio.create_task(ask)] = one.provider
            done, _ = await asyncio.wait(
                asking, timeout=HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in sorted(done, key=list(asking).index):
                name = asking.pop(task)
                try:
                    return task.result()
                except Useless as why:
                    useless[name] = why
    finally:
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)
    reasons = [f"{one.provider}: {useless[one.provider]}" for one in wanted]
    answered = all(why.answered for why in useless.values())
    told = f" {reasons[0]}" if len(reasons) == 1 else "".join(f"\n  {reason}" for reason in reasons)
    raise Refused(f"no provider gives a URL:{told}", kind="problem" if answered else "unavailable")


async def _ask(one: Wanted, table: Table, opened: Open, expires: float, clock: Clock) -> Found:
    """Ask one provider.

    Raises:
        Useless: it gives none.
    """
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            openable = await opened(one.provider)
            if openable.provider is None:
                raise Useless(openable.why, answered=False)
            found = await openable.provider.stat(one.key)
            if found is None:
                raise Useless(f"it has no object {one.key!r}", answered=True)
            if not one.is_it(found):
                raise Useless(f"what is at {one.key!r} is not the copy that was verified", answered=True)
            # Before it is signed: what is told never ends later than the signature.
            now = clock.now()
            address, seconds = await _address(openable.provider, table, one.key, expires)
    except CannotLook as refused:
        raise Useless(_said(refused), answered=True) from refused
    except Fault as fault:
        raise Useless(_said(fault), answered=False) from fault
    except TimeoutError:
        raise Useless(f"no answer within {ANSWER_SECONDS:g} s", answered=False) from None
    until = None if seconds is None else int(now + seconds * 1000)
    return Found(address, one.provider, until, found.archived)


def _said(fault: Fault) -> str:
    return f"{fault.message} ({fault.hint})" if fault.hint else fault.message


async def _address(provider: Provider, table: Table, key: str, expires: float) -> tuple[str, float | None]:
    """A URL, and the seconds that it is good for; None for one that needs no signature.

    Raises:
        Fault: the login cannot be had now.
        Useless: this kind of login cannot sign at all.
    """
    if table.public_url is not None or isinstance(table, DirectoryProvider):
        return addresses.address(table, key) or "", None
    if not isinstance(provider, Signs):
        raise Useless(f"its login ({provider.login}) cannot sign: set public_url", answered=True)
    try:
        return await provider.sign(key, expires)
    except Fault as fault:
        if fault.failure is FailureClass.PROVIDER:
            raise Useless(_said(fault), answered=True) from fault
        raise
