"""The bytes of one upload, sent in parts: what is held already, what is missing, several at once.

A part that fails is tried again here a few times; what the provider holds by then is never sent
again. A failure lets the parts beside it come to their end before it is passed on, so that their
bytes were not sent for nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

from uploaderd import checksum, plan
from uploaderd.allowance import UNLIMITED, Allowance
from uploaderd.errors import Fault, LedgerError, SessionGone, Stopped
from uploaderd.lanes import Lanes
from uploaderd.model import Checksum, FailureClass, HeldPart, Part, Session
from uploaderd.provider import Provider
from uploaderd.reader import Body, OpenRecording
from uploaderd.retry import PART_TRIES, PARTS
from uploaderd.vacancy import Vacancy

STALL_SECONDS: Final = 60.0
"""Without a window taken or a reply given for so long, a part is given up. HTTP libraries bound
neither (aiohttp#5546; read timeouts start after the body)."""

PART_SECONDS: Final = 840.0
"""No part may take longer: S3 refuses its signature after 15 minutes."""

DEADLINE: Final = "deadline"
"""Code of the fault that says so: the link is too slow for parts of that size."""


class PartBook(Protocol):
    """What sending needs of the ledger."""

    async def charge(self, size: int) -> None: ...
    async def part_done(self, part: Part) -> None: ...


@dataclass(slots=True)
class Progress:
    """Live figures of one upload, for `status`; never written down.

    `sent`: bytes on the wire in this attempt; `held`: bytes that the provider had before it;
    `lanes`: requests among which `sent` was shared.
    """

    size: int
    held: int = 0
    sent: int = 0
    done: int = 0
    lanes: int = 1


@dataclass(slots=True)
class Conditions:
    """What surrounds an upload, so that time, chance and the operator's limits can be injected.

    `pace` is awaited before each window with its size; `stopping` is set when the daemon wants to end:
    parts in flight finish, no further one begins. `allowance` is what the provider may use of the link;
    `lanes` are shared by all its uploads, one for each request with a body, as `vacancy` is.
    """

    max_parts: int
    sleep: Callable[[float], Awaitable[None]]
    random: Callable[[], float]
    pace: Callable[[int], Awaitable[None]]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    stall_seconds: float = STALL_SECONDS
    part_seconds: float = PART_SECONDS
    allowance: Allowance = UNLIMITED
    lanes: Lanes = field(default_factory=lambda: Lanes(sys.maxsize, lambda: sys.maxsize))
    vacancy: Vacancy = field(default_factory=Vacancy)

    @asynccontextmanager
    async def lane(self) -> AsyncIterator[None]:
        """The right to send one body.

        Raises:
            Stopped: the daemon wanted to end meanwhile.
        """
        async with self.lanes.one():
            if self.stopping.is_set():
                raise Stopped
            yield


class Sender:
    """Sends the parts of one session that its provider does not hold yet."""

    def __init__(
        self,
        provider: Provider,
        session: Session,
        file: OpenRecording,
        book: PartBook,
        conditions: Conditions,
        progress: Progress,
    ) -> None:
        self._provider = provider
        self._session = session
        self._file = file
        self._book = book
        self._conditions = conditions
        self._progress = progress

    async def send(self, kept: Sequence[Part]) -> tuple[Part, ...]:
        """Send all but what the provider has and `kept` told; every part, in order, with its checksum.

        Raises:
            SessionGone: the provider does not know the session any more.
            Stopped: the daemon is ending; what was sent so far is kept.
            Fault: a part failed for good, or more often than it is tried here.
        """
        self._progress.held = self._progress.done = sum(part.size for part in kept)
        if self._provider.limits.ordered:
            return await self._send_in_order(kept)
        numbers = {part.number for part in kept}
        missing = (
            piece
            for piece in plan.ranges(self._file.size, self._session.part_size)
            if piece.number not in numbers
        )
        left = -(-self._file.size // self._session.part_size) - len(numbers)
        self._progress.lanes = max(1, min(self._conditions.max_parts, left))
        sent: list[Part] = []
        await self._send_at_once(missing, sent)
        return tuple(sorted((*kept, *sent), key=lambda part: part.number))

    async def still(self, receipts: Sequence[Part]) -> tuple[Part, ...]:
        """The receipts up to the first that is not of what the file has now; it is read for that.

        For a file that took the place of the one that they are of, and looks like it.
        """
        same: list[Part] = []
        for receipt in receipts:
            if not checksum.same(
                await self._file.body(receipt.offset, receipt.size).digest(), receipt.checksum
            ):
                break
            same.append(receipt)
        return tuple(same)

    async def kept(self, held: Sequence[HeldPart], receipts: Sequence[Part]) -> list[Part]:
        """The held parts that need not be sent again.

        `held` is the provider's word on what it has, `receipts` the ledger's memory of it. Kept is what
        the ledger has a receipt for, what the provider lists with the checksum that the file has there,
        and, where completion proves the whole content anyway, all the rest.
        """
        known = {(part.number, part.offset, part.size): part for part in receipts}
        if self._provider.limits.ordered:
            return await self._kept_in_order(held, receipts)
        expected = (
            {p.number: p for p in plan.ranges(self._file.size, self._session.part_size)} if held else {}
        )
        kept: list[Part] = []
        for one in held:
            piece = expected.get(one.number)
            if piece is None or piece.size != one.size:
                continue
            receipt = known.get((piece.number, piece.offset, piece.size))
            if receipt is not None and _agree(one, receipt.checksum) and receipt.etag == one.etag:
                kept.append(receipt)
                continue
            listed = one.crc32c is not None or one.crc64nvme is not None
            if not listed and not self._provider.limits.proves_whole:
                continue
            found = await self._file.body(piece.offset, piece.size).digest()
            if _agree(one, found):
                checked = "listed checksum" if listed else None
                kept.append(Part(piece.number, piece.offset, found, one.etag, checked))
        return kept

    async def _kept_in_order(self, held: Sequence[HeldPart], receipts: Sequence[Part]) -> list[Part]:
        """An ordered provider's one stretch from the start, cut as the receipts have it."""
        end = held[0].size if held else 0
        kept: list[Part] = []
        position = 0
        for receipt in sorted(receipts, key=lambda part: part.offset):
            if receipt.offset == position and position + receipt.size <= end:
                kept.append(receipt)
                position += receipt.size
        if position < end:
            found = await self._file.body(position, end - position).digest()
            number = kept[-1].number + 1 if kept else 1
            kept.append(Part(number, position, found, "", None))
        return kept

    async def _send_at_once(self, missing: Iterator[plan.Range], sent: list[Part]) -> None:
        faults: list[BaseException] = []

        async def lane() -> None:
            while not faults and not self._conditions.stopping.is_set():
                piece = next(missing, None)
                if piece is None:
                    return
                try:
                    sent.append(await self._put(piece))
                except (Fault, Stopped, LedgerError) as fault:
                    faults.append(fault)

        async with asyncio.TaskGroup() as lanes:
            for _ in range(self._progress.lanes):
                lanes.create_task(lane())
        if faults:
            # The one that says most: a part that needs a person before one that needs patience.
            raise min(faults, key=_urgency)
        if next(missing, None) is not None:
            raise Stopped

    async def _send_in_order(self, kept: Sequence[Part]) -> tuple[Part, ...]:
        parts = list(kept)
        failures = 0
        while (position := sum(part.size for part in parts)) < self._file.size:
            if self._conditions.stopping.is_set():
                raise Stopped
            size = min(self._session.part_size, self._file.size - position)
            piece = plan.Range(parts[-1].number + 1 if parts else 1, position, size)
            try:
                parts.append(await self._try(piece))
                failures = 0
            except SessionGone:
                raise
            except Fault as fault:
                failures += 1
                if not _again(fault) or failures >= PART_TRIES:
                    raise
                await self._wait(failures, fault)
                # Only the provider knows how much of the part arrived.
                known, parts = (
                    parts,
                    await self._kept_in_order(await self._provider.parts(self._session), parts),
                )
                if parts and parts[-1] not in known:
                    await self._book.part_done(parts[-1])
                self._progress.done = sum(part.size for part in parts)
        return tuple(parts)

    async def _put(self, piece: plan.Range) -> Part:
        failures = 0
        while True:
            try:
                return await self._try(piece)
            except SessionGone:
                raise
            except Fault as fault:
                failures += 1
                # A part that outlasted its deadline would again: another attempt cuts smaller ones.
                if not _again(fault) or fault.code == DEADLINE or failures >= PART_TRIES:
                    raise
                await self._wait(failures, fault)
                if self._conditions.stopping.is_set():
                    raise Stopped from fault

    async def _try(self, piece: plan.Range) -> Part:
        """One try at one part: charged before it is sent, given back what was not."""
        async with self._conditions.lane():
            await self._book.charge(piece.size)
            flow = Flow(self._conditions, self._progress)
            body = flow.body(self._file, piece.offset, piece.size, md5=self._provider.limits.wants_md5)
            try:
                async with flow.watch:
                    part = await self._provider.put_part(self._session, piece.number, body)
            finally:
                # Less, if it failed; more, if the provider had to send it twice.
                if flow.taken != piece.size:
                    await self._book.charge(flow.taken - piece.size)
        await self._book.part_done(part)
        self._progress.done += part.size
        return part

    async def _wait(self, failures: int, fault: Fault) -> None:
        await self._conditions.sleep(PARTS.delay(failures, self._conditions.random, fault.retry_after))


class Watchdog:
    """Bounds a transfer: by its progress, and as a whole. A context manager around the call.

    Raises:
        Fault: transient, saying which bound was met.
    """

    def __init__(self, stall: float, whole: float) -> None:
        self._stall = stall
        self._whole = whole
        self._timeout = asyncio.timeout(None)
        self._end = 0.0

    def rest(self) -> None:
        """Nothing can move for now, and that is no stall."""
        self._timeout.reschedule(self._end)

    def touch(self) -> None:
        """Something moved."""
        self._timeout.reschedule(min(asyncio.get_running_loop().time() + self._stall, self._end))

    async def __aenter__(self) -> Self:
        self._end = asyncio.get_running_loop().time() + self._whole
        await self._timeout.__aenter__()
        self.touch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)  # type: ignore[arg-type]
        except TimeoutError as timeout:
            whole = asyncio.get_running_loop().time() >= self._end
            raise Fault(
                f"took longer than {self._whole:g} s" if whole else f"nothing moved for {self._stall:g} s",
                code=DEADLINE if whole else "stall",
            ) from timeout


class Flow:
    """One body on its way: paced, counted, and watched for a stall."""

    def __init__(self, conditions: Conditions, progress: Progress) -> None:
        self._conditions = conditions
        self._progress = progress
        self.taken = 0
        self.watch = Watchdog(conditions.stall_seconds, conditions.part_seconds)

    def body(self, file: OpenRecording, offset: int, size: int, *, md5: bool) -> Body:
        """The range of the file that goes this way."""
        window = self._conditions.allowance.window
        return file.body(offset, size, md5=md5, pace=self.pace, window=window)

    async def pace(self, size: int) -> None:
        if self._conditions.allowance.rate is not None:
            self.watch.rest()
            await self._conditions.allowance.take(size)
        await self._conditions.pace(size)
        self.taken += size
        self._progress.sent += size
        self.watch.touch()


def content_of(parts: Sequence[Part]) -> Checksum:
    """Checksum of the whole content, from its parts; the file is not read for it."""
    return checksum.combine(part.checksum for part in parts)


def _agree(held: HeldPart, ours: Checksum) -> bool:
    return (
        held.size == ours.size
        and held.crc32c in (None, ours.crc32c)
        and held.crc64nvme in (None, ours.crc64nvme)
    )


def _again(fault: Fault) -> bool:
    return fault.failure is FailureClass.TRANSIENT


def _urgency(fault: BaseException) -> int:
    if isinstance(fault, SessionGone | LedgerError):
        return 0
    order = {FailureClass.RECORDING: 1, FailureClass.CONFLICT: 2, FailureClass.PROVIDER: 3}
    return order.get(fault.failure, 4) if isinstance(fault, Fault) else 5
