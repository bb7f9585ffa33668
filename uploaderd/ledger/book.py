"""The ledger as one attempt sees it: its own upload, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from uploaderd.ledger import Ledger, work
from uploaderd.model import Checksum, Claim, Part, Session, Token


class UploadBook:
    """Satisfies `upload.Book`. Each call returns once what it wrote is durable, however full the disk is."""

    def __init__(self, ledger: Ledger, claim: Claim, provider_id: int) -> None:
        self._run = ledger.insist
        self._id = claim.upload_id
        self._recording_id = claim.recording_id
        self._provider_id = provider_id

    async def intend(self) -> float | None:
        return await self._run(work.intend, self._id)

    async def rekey(self, key: str, replaces: str | None) -> None:
        await self._run(work.rekey, self._id, key, replaces)

    async def opened(self, session: Session, strays: Sequence[Session] = ()) -> None:
        await self._run(work.opened, self._id, session, strays)

    async def session_lost(self) -> None:
        await self._run(work.session_lost, self._id)

    async def abandon(self) -> None:
        await self._run(work.abandon, self._id)

    async def resumed(self, kept: Sequence[Part]) -> None:
        await self._run(work.resumed, self._id, kept)

    async def charge(self, size: int) -> None:
        await self._run(work.charge, self._id, size)

    async def part_done(self, part: Part) -> None:
        await self._run(work.part_done, self._id, part)

    async def completing(self, content: Checksum, charged: int = 0) -> None:
        await self._run(work.completing, self._id, content, charged)

    async def earlier_version(self, token: Token | None) -> bool:
        if token is None:
            return False
        return await self._run(work.earlier_version, self._recording_id, self._provider_id, token)
