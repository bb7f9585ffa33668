"""One attempt at an upload: look, resume, send, complete, prove.

The way of the data: the file is opened once and compared with what was queued; the provider is asked
what is at the key; what is missing is sent; that nobody changed the file meanwhile is made sure of;
the intention to complete is committed; the object becomes visible; the provider is asked again, and
only its evidence makes the upload `verified`.

Whatever a crash, a lost reply or another writer left behind is found by looking, never assumed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

from uploaderd import guarding, plan
from uploaderd.errors import (
    CannotLook,
    Corrupted,
    Fault,
    FileChanged,
    FileVanished,
    KeyTaken,
    SessionGone,
)
from uploaderd.keys import with_suffix
from uploaderd.model import (
    Checksum,
    Claim,
    FailureClass,
    ObjectInfo,
    ObjectSpec,
    OnConflict,
    OnNewVersion,
    Part,
    Proof,
    Session,
    Token,
)
from uploaderd.proof import Verdict, Written, whole_object
from uploaderd.provider import Provider, Strays
from uploaderd.reader import OpenRecording
from uploaderd.send import DEADLINE, Conditions, Flow, Progress, Sender, Watchdog, content_of
from uploaderd.wishes import Wishes
from uploaderd.witness import Witness, must_be_met, unproven

COMPLETE_SECONDS: Final = 600.0
"""Completing thousands of parts takes S3 minutes; the client is kept waiting that long."""

SETTLE_SECONDS: Final = (2.0, 5.0, 10.0, 20.0, 25.0)
"""A session that is gone without an object may still be assembled: look again for about a minute."""

SESSIONS: Final = 3
"""Sessions begun in one attempt at most; more than that is a fault of the provider to wait out."""


class Book(Protocol):
    """What an attempt needs of the ledger, for its own upload. Each call returns once it is durable."""

    async def intend(self) -> float | None:
        """Seconds since an earlier opening began that nobody knows the outcome of; None if none did."""
        ...

    async def rekey(self, key: str, replaces: str | None) -> None: ...
    async def opened(self, session: Session, strays: Sequence[Session] = ()) -> None: ...
    async def session_lost(self) -> None: ...
    async def abandon(self) -> None: ...
    async def resumed(self, kept: Sequence[Part]) -> None: ...
    async def charge(self, size: int) -> None: ...
    async def part_done(self, part: Part) -> None: ...
    async def completing(self, content: Checksum, charged: int = 0) -> None: ...
    async def earlier_version(self, token: Token | None) -> bool:
        """Whether the token is of an earlier recording at the same path."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verified copy. `unlinked`: the file lost its name while we read it."""

    found: ObjectInfo
    proof: Proof
    key: str
    unlinked: bool = False


class Upload:
    """One attempt. `run` either returns the proof or raises a classified fault."""

    def __init__(
        self,
        claim: Claim,
        provider: Provider,
        book: Book,
        wishes: Wishes,
        conditions: Conditions,
        progress: Progress,
    ) -> None:
        self._claim = claim
        self._provider = provider
        self._book = book
        self._wishes = wishes
        self._conditions = conditions
        self._progress = progress
        self._content = claim.content
        self._unlinked = False
        self._witness = Witness(provider, claim.token, conditions.stall_seconds)
        self._spec = ObjectSpec(
            key=claim.key,
            size=claim.identity.size,
            token=claim.token,
            content_type=wishes.content_type,
            metadata=wishes.metadata,
            replaces=claim.replaces,
        )

    async def run(self) -> Outcome:
        """Carry the attempt out.

        Raises:
            Fault: classified; nothing was verified.
            Stopped: the daemon is ending; the session is kept.
        """
        try:
            file = await OpenRecording.open(self._claim.root, self._claim.path)
        except FileVanished:
            if (outcome := await self._without_file()) is not None:
                return outcome
            raise
        async with file:
            self._compare(file)
            part_size = plan.part_size(
                file.size, self._provider.limits, configured=self._wishes.part_size, rate=self._wishes.rate
            )
            # A write in one request asks by itself whether the key is taken.
            asks = self._provider.limits.guards_keys and not self._is_in_parts(file, part_size)
            unlooked = asks and self._conditions.vacancy.likely(self._claim)
            if not unlooked and (outcome := await self._look_first(file)) is not None:
                return await self._found(outcome)
            return await self._write(file, part_size)

    async def look(self) -> Outcome | None:
        """Only see whether the copy is there already; None if it is not. Nothing is sent.

        Raises:
            CannotLook: the credentials may not.
            Fault: classified.
        """
        async with await OpenRecording.open(self._claim.root, self._claim.path) as file:
            self._compare(file)
            outcome = await self._look_first(file)
        if outcome is None and self._witness.blind:
            raise CannotLook(
                "the credentials may not look at what is there",
                failure=FailureClass.PROVIDER,
                code="blind",
                hint="allow them to read an object's properties (HEAD)",
            )
        return outcome

    # --- before anything is sent ---------------------------------------------------------------

    async def _without_file(self) -> Outcome | None:
        """The file is gone; but the copy may have been completed just before we died."""
        if not self._claim.completing or self._content is None:
            return None
        outcome = await self._there(await self._witness.stat(self._spec.key), self._content)
        return await self._found(replace(outcome, unlinked=True)) if outcome is not None else None

    def _compare(self, file: OpenRecording) -> None:
        queued, there = self._claim.identity, file.identity
        same = (queued.size, queued.mtime_ns) == (there.size, there.mtime_ns)
        if not same or (queued.fingerprint and queued.fingerprint != there.fingerprint):
            raise FileChanged(
                "the file is not the one that was queued; it is looked at again", code="changed"
            )

    async def _look_first(self, file: OpenRecording) -> Outcome | None:
        """Ask what is at the key. Settles conflicts; returns an outcome if the copy is there already."""
        for _ in range(SESSIONS):
            found = await self._witness.stat(self._spec.key)
            if found is None:
                self._conditions.vacancy.found(self._claim, free=True)
                return None
            if found.token == self._claim.token:
                if (outcome := await self._there(found, await self._digest(file))) is not None:
                    return outcome
                # Ours, but not this content: an interrupted write without a session. It is written over.
                self._spec = replace(self._spec, replaces=found.revision)
                return None
            self._conditions.vacancy.found(self._claim, free=False)
            if self._spec.replaces is not None and self._spec.replaces == found.revision:
                return None
            if (outcome := await self._resolve(file, found)) is not None:
                return outcome
            if self._spec.replaces is not None:
                return None
        raise Fault(f"the key {self._spec.key!r} keeps being taken by others", code="contended")

    async def _resolve(self, file: OpenRecording, found: ObjectInfo) -> Outcome | None:
        """Another object is at our key: adopt it if it is this content, or do as configured."""
        content = await self._digest(file)
        if found.size == content.size and not found.unmet:
            told = whole_object(content, found)
            if told is None:
                told = await self._witness.read_back(found, content)
            if isinstance(told, Proof):
                await self._book.completing(content)
                return Outcome(found, Proof(f"adopted, {told.kind}", told.value), self._spec.key)
        policy = self._wishes.on_conflict
        if await self._book.earlier_version(found.token):
            # No stranger's: what a new version does with the old one is the operator's other choice.
            replaces = self._wishes.on_new_version is OnNewVersion.REPLACE
            policy = OnConflict.OVERWRITE if replaces else OnConflict.SUFFIX
        match policy:
            case OnConflict.FAIL:
                raise Fault(
                    f"another object is at {self._provider.address(self._spec.key)}",
                    failure=FailureClass.CONFLICT,
                    code="key-taken",
                    hint="remove it, or set on_conflict to suffix or overwrite, then `uploaderd retry`",
                )
            case OnConflict.OVERWRITE:
                await self._rekey(self._spec.key, found.revision)
            case OnConflict.SUFFIX:
                key = with_suffix(self._claim.key, content.crc64nvme, self._provider.limits)
                if key == self._spec.key:
                    raise Fault(
                        f"the suffixed key {key!r} is taken by another content as well",
                        failure=FailureClass.CONFLICT,
                        code="key-taken",
                        hint="remove that object, or change `key`, then `uploaderd retry`",
                    )
                await self._rekey(key, None)
        return None

    async def _found(self, outcome: Outcome) -> Outcome:
        """The copy was there already: what an interrupted attempt, or this one, has open is left over."""
        if self._claim.handle is not None or self._claim.completing:
            await self._book.abandon()
        return outcome

    async def _rekey(self, key: str, replaces: str | None) -> None:
        await self._book.abandon()
        await self._book.rekey(key, replaces)
        self._spec = replace(self._spec, key=key, replaces=replaces)
        self._claim = replace(self._claim, handle=None, part_size=None, parts=())

    # --- sending and completing ----------------------------------------------------------------

    def _is_in_parts(self, file: OpenRecording, part_size: int) -> bool:
        largest = min(self._provider.limits.max_single, part_size)
        return self._claim.handle is not None or file.size > largest

    async def _write(self, file: OpenRecording, part_size: int) -> Outcome:
        in_parts = self._is_in_parts(file, part_size)
        for _ in range(SESSIONS):
            try:
                written = await (self._in_parts(file, part_size) if in_parts else self._at_once(file))
            except KeyTaken as taken:
                # Somebody else's object is there, or ours: a lost reply to an earlier try.
                refused = self._spec
                if (outcome := await self._look_first(file)) is not None:
                    return await self._found(outcome)
                if self._witness.blind and self._spec is refused:
                    raise unproven(taken) from taken
                continue
            except Corrupted:
                # What the provider has is damaged: nothing of it is used again.
                await self._book.abandon()
                raise
            except SessionGone:
                if (outcome := await self._after_session(file)) is not None:
                    return outcome
                continue
            except Fault as fault:
                moved = self._progress.done > self._progress.held or self._provider.limits.ordered
                if in_parts and fault.code == DEADLINE and not moved:
                    # None of the parts got through in time, nor will they: a new session has smaller ones.
                    await self._book.abandon()
                if not in_parts and fault.http_status is None:
                    # Perhaps for what is at the key: what refuses a body on its way may not be heard.
                    self._conditions.vacancy.found(self._claim, free=False)
                raise
            content = await self._digest(file)
            seen = not (in_parts or self._witness.blind)
            if seen and guarding.begins(self._provider, file.size, self._conditions):
                await guarding.see(self._provider, self._spec, content, file, self._book, self._conditions)
            return await self._prove(content, written)
        raise Fault("the provider loses every session that is begun", code="sessions-lost")

    async def _at_once(self, file: OpenRecording) -> Written:
        """A small file, in one request."""
        async with self._conditions.lane():
            flow = Flow(self._conditions, self._progress)
            body = flow.body(file, 0, file.size, md5=self._provider.limits.wants_md5)
            # Before it is sent: the provider refuses whatever differs from what was looked at here.
            self._content = await body.digest()
            await self._unchanged(file)
            await self._book.completing(self._content, file.size)
            try:
                async with flow.watch:
                    return Written(await self._provider.put(self._spec, body))
            finally:
                if flow.taken != file.size:
                    await self._book.charge(flow.taken - file.size)

    async def _in_parts(self, file: OpenRecording, part_size: int) -> Written:
        session, receipts = await self._session(part_size)
        sender = Sender(self._provider, session, file, self._book, self._conditions, self._progress)
        kept: Sequence[Part] = ()
        if receipts is not None:
            if file.identity.inode != self._claim.identity.inode:
                receipts = await sender.still(receipts)
            kept = await sender.kept(await self._provider.parts(session), receipts)
            await self._book.resumed(kept)
        parts = await sender.send(kept)
        self._content = content_of(parts)
        await self._unchanged(file)
        await self._book.completing(self._content)
        async with Watchdog(COMPLETE_SECONDS, COMPLETE_SECONDS):
            return Written(await self._provider.complete(session, parts, self._content), parts)

    async def _session(self, part_size: int) -> tuple[Session, tuple[Part, ...] | None]:
        """The session to go on with and its receipts, or a new one and None."""
        claim = self._claim
        if claim.handle is not None and claim.part_size is not None:
            return Session(self._spec, claim.part_size, claim.handle), claim.parts
        unknown = await self._book.intend()
        began = asyncio.get_running_loop().time()
        session = await self._provider.open(self._spec, part_size)
        strays: Sequence[Session] = ()
        if unknown is not None and isinstance(self._provider, Strays):
            # The reply to an earlier opening was lost: what it left behind is aborted.
            with suppress(CannotLook):
                ago = unknown + asyncio.get_running_loop().time() - began
                strays = await self._provider.strays(self._spec, ago, session)
        await self._book.opened(session, strays)
        self._claim = replace(claim, handle=session.handle, part_size=part_size, parts=())
        return session, None

    async def _after_session(self, file: OpenRecording) -> Outcome | None:
        """The session is gone: perhaps it completed and we never heard, perhaps it expired."""
        if self._claim.completing or self._content is not None:
            for seconds in SETTLE_SECONDS:
                found = await self._witness.stat(self._spec.key)
                if found is not None and found.token == self._claim.token:
                    if (outcome := await self._there(found, await self._digest(file))) is not None:
                        return outcome
                    self._spec = replace(self._spec, replaces=found.revision)
                    break
                await self._conditions.sleep(seconds)
        await self._book.session_lost()
        self._claim = replace(self._claim, handle=None, part_size=None, parts=(), completing=False)
        return None

    async def _unchanged(self, file: OpenRecording) -> None:
        """Nothing of a mixture is completed: the file is what it was, and nobody writes to it."""
        self._unlinked = not await file.look_again(self._wishes.writer_has)

    # --- proving -------------------------------------------------------------------------------

    async def _prove(self, content: Checksum, written: Written) -> Outcome:
        found, judged = await self._witness.after_writing(self._spec.key, content, written)
        if isinstance(judged, Proof):
            assert found is not None
            must_be_met(found)
            return Outcome(found, judged, self._spec.key, self._unlinked)
        if judged is Verdict.FOREIGN:
            raise Fault("another object took the key right after ours was written", code="overwritten")
        await self._book.abandon()
        missing = judged is Verdict.MISSING
        raise Corrupted(
            "the provider reported success but has no object"
            if missing
            else "the provider reported success but has another content",
            code="nothing-stored" if missing else "stored-different",
        )

    async def _there(self, found: ObjectInfo | None, content: Checksum) -> Outcome | None:
        """The outcome, if what was found is our copy, written by an earlier attempt or a lost reply's."""
        judged = await self._witness.judge(found, content, None, self._claim.parts)
        if not isinstance(judged, Proof):
            return None
        assert found is not None
        await self._book.completing(content)
        must_be_met(found)
        return Outcome(found, judged, self._spec.key)

    async def _digest(self, file: OpenRecording) -> Checksum:
        """Checksum of the whole content: from the pass that sent it, or by reading it now."""
        if self._content is None or (self._provider.limits.wants_md5 and self._content.md5 is None):
            body = file.body(0, file.size, md5=self._provider.limits.wants_md5)
            self._content = await body.digest()
        return self._content
