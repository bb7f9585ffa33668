"""Ask the providers again for every copy that the ledger calls verified; or read all of it back.

What differs is on record at once: that copy is verified no more, and needs a person, unless it is to
be uploaded again and its file is there. A run over the whole ledger that is cut off can be gone on with.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from uploaderd import checksum
from uploaderd.acts.acting import Acting, Tell, recording
from uploaderd.acts.orders import Verify
from uploaderd.acts.providers import Openable, opened
from uploaderd.copies import Answer, Asked, CleanupProvider, ask
from uploaderd.errors import Fault, Refused
from uploaderd.keys import text_of
from uploaderd.ledger import Transaction, audit, awaiting
from uploaderd.ledger.audit import Kept, Position
from uploaderd.logs.setup import get_logger
from uploaderd.model import Checksum, FailureClass
from uploaderd.provider import Provider
from uploaderd.send import STALL_SECONDS, Watchdog

log = get_logger(__name__)

PAGE: Final = 64
"""Recordings that are looked up at a time."""

AT_ONCE: Final = 16
DEEP_AT_ONCE: Final = 4
"""Recordings whose copies are asked for, or read back, at the same time."""

TELL_SECONDS: Final = 1.0
NOTE_SECONDS: Final = 5.0
"""How often it is told how far it is, and noted from where to go on (of a deep run: at each recording)."""

NAMED: Final = 50
"""Differences that are named in an answer; the others are counted, and in the history."""

_WRONG: Final = (Answer.GONE, Answer.REPLACED)


@dataclass(slots=True)
class Found:
    """What a run found so far. `unasked`: copies that could not be asked for, by provider, and why."""

    checked: int = 0
    bytes: int = 0
    differences: list[dict[str, Any]] = field(default_factory=list)
    different: int = 0
    doubts: list[dict[str, Any]] = field(default_factory=list)
    doubtful: int = 0
    unasked: Counter[str] = field(default_factory=Counter)
    why: dict[str, str] = field(default_factory=dict)


async def verify(order: Verify, acting: Acting, tell: Tell) -> Mapping[str, Any]:
    """Ask for copies again.

    Returns:
        `checked` (copies), `bytes` (read back), `different` (how many are not what was verified),
        `differences` (some of them: `path`, `provider`, `message`, `again`), `doubtful` and `doubts`
        (changed since, so that only reading them back would tell), `unasked` (copies that could not be
        asked for, by provider) and `why`. `tell` hears first of `begins` (copies and bytes by
        provider), then how far it is.

    Raises:
        Refused: an unknown recording; or nothing to go on with.
        LedgerError: the ledger cannot be used.
    """
    return await _Verifying(order, acting, tell).run()


async def rows_of(order: Verify, acting: Acting) -> list[int] | None:
    """The recordings that are meant; None for all.

    Raises:
        Refused: one is not known.
    """
    if order.recordings is None:
        return None

    def found(tx: Transaction) -> list[int]:
        rows = {recording(tx, public_id).row for public_id in order.recordings or ()}
        for source, quoted in order.files:
            rows |= set(audit.below(tx.conn, source, unquote_to_bytes(quoted)))
        return sorted(rows)

    return await acting.ledger.run(found)


class _Verifying:
    """One run."""

    def __init__(self, order: Verify, acting: Acting, tell: Tell) -> None:
        self._order = order
        self._acting = acting
        self._tell = tell
        self._found = Found()
        self._providers: Mapping[str, Openable] = {}
        self._pace = Pace(order.rate, acting.clock.monotonic, acting.clock.sleep)
        self._extent: dict[str, audit.Extent] = {}
        self._place = Position(order.deep, 0, 0)
        self._whole = order.recordings is None
        self._told = self._noted = acting.clock.monotonic()

    async def run(self) -> Mapping[str, Any]:
        rows = await rows_of(self._order, self._acting)
        place = self._place = await self._begin()
        self._extent = await self._acting.read(audit.extent, place, rows)
        async with opened(self._acting, self._extent) as self._providers:
            begins = {
                name: {"copies": one.copies, "bytes": one.bytes, "in_use": name in self._providers}
                for name, one in self._extent.items()
            }
            await self._tell({"begins": begins})
            if self._whole:
                await self._acting.ledger.run(audit.cut_off, place)  # also of a run that is killed
            try:
                while page := await self._acting.read(audit.kept, self._place, rows, PAGE):
                    await self._check(page)
            finally:
                if self._whole:
                    await self._acting.ledger.run(audit.cut_off, self._place)
        found = self._found
        detail = {
            "deep": self._order.deep,
            "checked": found.checked,
            "different": found.different,
            "doubtful": found.doubtful,
            "unasked": sum(found.unasked.values()),
        }
        await self._acting.ledger.run(audit.ended, self._acting.who, detail, whole=self._whole)
        return self._values()

    async def _begin(self) -> Position:
        """From where, to where."""
        if self._order.resume:
            place = await self._acting.ledger.run(audit.position)
            if place is None or place.deep != self._order.deep:
                kind = "a deep run" if self._order.deep else "a run"
                raise Refused(f"no such run was cut off: there is {kind} to begin, without --resume")
            return place
        return Position(self._order.deep, 0, await self._acting.read(awaiting.newest))

    async def _check(self, page: list[Kept]) -> None:
        """Ask for all copies of these recordings.

        The place to go on from follows recording by recording: of a page of large ones, read back on a
        slow link, a day's work may be done when it is cut off.
        """
        ahead, done = deque(kept.row for kept in page), set(self._place.done)
        room = asyncio.Semaphore(DEEP_AT_ONCE if self._order.deep else AT_ONCE)

        async def one(kept: Kept) -> None:
            async with room:
                await self._check_one(kept)
                done.add(kept.row)
                after = self._place.after
                while ahead and ahead[0] in done:
                    after = ahead.popleft()
                done.difference_update([row for row in done if row <= after])
                self._place = replace(self._place, after=after, done=tuple(sorted(done)))
                await self._note()
                await self._tell_at_times()

        try:
            async with asyncio.TaskGroup() as group:
                for kept in page:
                    group.create_task(one(kept))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _check_one(self, kept: Kept) -> None:
        if kept.content is None:
            for copy in kept.copies:
                self._unasked(copy.provider, "what was sent is not on record")
            return
        askable = []
        for copy in kept.copies:
            known = self._providers.get(copy.provider)
            if known is None:
                continue  # not in use any more: said at the beginning
            if known.provider is None:
                self._unasked(copy.provider, known.why)
            else:
                askable.append(copy)
        providers = {
            name: CleanupProvider(partial(_given, known.provider)) for name, known in self._providers.items()
        }
        for asked in await ask(askable, kept.content, 0, providers, _on_thread):
            await self._settle(kept, asked, kept.content)

    async def _settle(self, kept: Kept, asked: Asked, content: Checksum) -> None:
        """Act on what was found at one provider; read it back, if that is wanted."""
        provider = self._providers[asked.copy.provider].provider
        assert provider is not None
        fault = asked.fault
        if asked.answer in (Answer.UNASKED, Answer.UNSEEN):
            self._unasked(asked.copy.provider, fault.message if fault is not None else "")
            return
        unproven = asked.answer is Answer.UNPROVEN
        wanted = self._order.deep or (self._order.settle and unproven)
        if wanted and asked.found is not None and asked.answer not in _WRONG:
            try:
                fault = await self._read_back(provider, asked, content)
            except Fault as trouble:
                self._unasked(asked.copy.provider, trouble.message)
                return
        elif unproven:
            self._found.doubtful += 1
            if len(self._found.doubts) < NAMED:
                doubt = {"path": text_of(kept.path), "provider": asked.copy.provider}
                self._found.doubts.append({**doubt, "message": fault.message if fault is not None else ""})
            fault = None
        self._found.checked += 1
        if fault is not None:
            await self._differs(kept, asked, fault)

    async def _read_back(self, provider: Provider, asked: Asked, content: Checksum) -> Fault | None:
        """Read the copy; None if it is what was sent.

        Raises:
            Fault: it cannot be read now.
        """
        assert asked.found is not None
        running = checksum.Running()
        windows = aiter(provider.read(asked.found.key, asked.found.version_id))
        while True:
            async with Watchdog(STALL_SECONDS, STALL_SECONDS):
                window = await anext(windows, None)
            if window is None:
                break
            running.update(window)
            self._found.bytes += len(window)
            await self._pace(len(window))
            await self._tell_at_times()
        if checksum.same(running.value(), content):
            return None
        return Fault(
            f"the copy at {provider.address(asked.found.key)} has another content than was sent",
            failure=FailureClass.CONFLICT,
            code="copy-damaged",
            hint="have it sent again: `uploaderd retry`",
        )

    async def _differs(self, kept: Kept, asked: Asked, fault: Fault) -> None:
        again = self._order.repair and kept.present
        news = await self._acting.ledger.run(audit.differs, asked.copy, fault, asked.seen, again=again)
        if not news:
            return
        path = text_of(kept.path)
        log.error("a copy is not what was verified", recording=path, source=kept.source, reason=fault.message)
        self._found.different += 1
        if len(self._found.differences) < NAMED:
            difference = {"path": path, "provider": asked.copy.provider, "message": fault.message}
            self._found.differences.append({**difference, "again": again})
        if again:
            self._acting.wake()

    def _unasked(self, provider: str, why: str) -> None:
        self._found.unasked[provider] += 1
        self._found.why.setdefault(provider, why)

    # --- telling and noting ------------------------------------------------------------------

    async def _tell_at_times(self) -> None:
        now = self._acting.clock.monotonic()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            await self._tell(self._values())

    async def _note(self) -> None:
        """Of a deep run each recording, since it may have cost gigabytes; else at times."""
        now = self._acting.clock.monotonic()
        if self._whole and (self._order.deep or now - self._noted >= NOTE_SECONDS):
            self._noted = now
            await self._acting.ledger.run(audit.cut_off, self._place)

    def _values(self) -> dict[str, Any]:
        found = self._found
        in_use = [one for name, one in self._extent.items() if name in self._providers]
        return {
            "checked": found.checked,
            "of": sum(one.copies for one in in_use),
            "bytes": found.bytes,
            "of_bytes": sum(one.bytes for one in in_use),
            "different": found.different,
            "differences": found.differences,
            "doubtful": found.doubtful,
            "doubts": found.doubts,
            "unasked": dict(found.unasked),
            "why": found.why,
        }


class Pace:
    """Holds several streams to one rate together, in bytes per second; None: no limit."""

    def __init__(
        self, rate: int | None, monotonic: Callable[[], float], sleep: Callable[[float], Any]
    ) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._sleep = sleep
        self._clear_at = 0.0

    async def __call__(self, size: int) -> None:
        if self._rate is None:
            return
        now = self._monotonic()
        self._clear_at = max(self._clear_at, now) + size / self._rate
        await self._sleep(self._clear_at - now)


def _given(provider: Provider | None) -> Provider | None:
    return provider


async def _on_thread(work: Callable[..., bool], *args: object) -> bool:
    return await asyncio.to_thread(work, *args)
