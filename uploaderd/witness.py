"""What a provider says of the object at a key, and whether that proves our content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from uploaderd import checksum
from uploaderd.errors import CannotLook, Fault
from uploaderd.model import Checksum, FailureClass, ObjectInfo, Part, Proof, Token
from uploaderd.proof import Verdict, Written, judge, judge_blind
from uploaderd.provider import Provider
from uploaderd.send import Watchdog

READ_SECONDS: Final = 86_400.0
"""Reading back is bounded by its progress; this only keeps it from being endless."""


class Witness:
    """Asks one provider, for one upload. Reads an object back where nothing less proves it."""

    def __init__(self, provider: Provider, token: Token, stall_seconds: float) -> None:
        self._provider = provider
        self._token = token
        self._stall_seconds = stall_seconds
        self.blind = False
        """The credentials may not look: whatever `stat` gave before says nothing."""

    async def stat(self, key: str) -> ObjectInfo | None:
        """What is at the key; None also where looking is refused (conditional writes must do then)."""
        try:
            return await self._provider.stat(key)
        except CannotLook:
            self.blind = True
            return None

    async def judge(
        self,
        found: ObjectInfo | None,
        content: Checksum,
        written: Written | None,
        receipts: Sequence[Part] = (),
    ) -> Proof | Verdict:
        """Whether what was found is our content; `written` is the evidence of this attempt's own writing.

        Without it `receipts` of the session at hand are evidence still, if they cover the whole.
        """
        judged = judge(content, self._token, found, written)
        if judged is Verdict.UNPROVEN and written is None:
            judged = judge(content, self._token, found, Written(None, receipts))
        if judged is Verdict.UNPROVEN and found is not None:
            told = await self.read_back(found, content)
            judged = told if told is not None else Verdict.DIFFERENT
        return judged

    async def after_writing(
        self, key: str, content: Checksum, written: Written
    ) -> tuple[ObjectInfo | None, Proof | Verdict]:
        """Look at what was written. Where that is refused, the write's own reply has to do.

        Raises:
            Fault: it is refused, and the reply proves nothing.
        """
        try:
            found = await self._provider.stat(key)
        except CannotLook as refused:
            proof = judge_blind(content, written)
            if proof is None or written.reply is None:
                raise unproven(refused) from refused
            return written.reply, proof
        return found, await self.judge(found, content, written)

    async def read_back(self, found: ObjectInfo, content: Checksum) -> Proof | None:
        """Read the object and compare; None if it is another content."""
        running = checksum.Running()
        async with Watchdog(self._stall_seconds, READ_SECONDS) as watch:
            async for window in self._provider.read(found.key, found.version_id):
                running.update(window)
                watch.touch()
        if not checksum.same(running.value(), content):
            return None
        return Proof("crc64nvme, read back", checksum.b64_crc64nvme(content.crc64nvme))


def must_be_met(found: ObjectInfo) -> None:
    """Raises Fault where the object is there, but has not all that the configuration wants for it."""
    if found.unmet:
        raise Fault(
            f"{found.key!r} is there whole, but {found.unmet}",
            failure=FailureClass.PROVIDER,
            code="unmet",
            hint="turn object lock on for the bucket; let this login do s3:PutObjectRetention and"
            " s3:PutObjectLegalHold, and s3:GetObjectRetention and s3:GetObjectLegalHold to read them back",
        )


def unproven(cause: Fault) -> Fault:
    """What is raised where the credentials allow no proof."""
    return Fault(
        "whether the copy is there cannot be known: looking at it is refused",
        failure=FailureClass.PROVIDER,
        code="unproven",
        hint="allow the credentials to read the object's properties (HEAD)",
        http_status=cause.http_status,
        request_id=cause.request_id,
    )
