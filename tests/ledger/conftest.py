"""A ledger on disk, a clock that stands still until it is turned, and recordings to put in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from uploaderd.ledger import Ledger, intake
from uploaderd.model import FileIdentity, FinishedBy, FoundBy, Milliseconds


@dataclass
class Hand:
    """The hand of the clock."""

    at: int = 1_790_000_000_000

    def now(self) -> Milliseconds:
        return Milliseconds(self.at)


@dataclass
class Bench:
    """An open ledger with one source and two providers."""

    ledger: Ledger
    hand: Hand
    source: int
    providers: dict[str, int] = field(default_factory=dict)
    made: int = 0

    def recording(self, path: bytes = b"", *, size: int = 5, needed: int = 2) -> intake.NewRecording:
        self.made += 1
        return intake.NewRecording(
            source_id=self.source,
            path=path or b"f%d.mp4" % self.made,
            identity=FileIdentity(size, self.made, 1000 + self.made, 1, b"f" * 16),
            found_by=FoundBy.EVENT,
            finished_by=FinishedBy.LEASE,
            finished_at=self.hand.now(),
            uploads=tuple(
                intake.NewUpload(id_, f"k{self.made}", required=True) for id_ in self.providers.values()
            ),
            needed=needed,
        )

    async def queued(self, path: bytes = b"", *, needed: int = 2) -> int:
        (id_,) = await self.ledger.run(intake.enqueue, [self.recording(path, needed=needed)])
        assert id_ is not None
        return id_


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    hand = Hand()
    ledger = Ledger(tmp_path / "ledger.db", hand.now, "test")
    await ledger.open()
    source = await ledger.run(intake.register_source, "cameras", b"/srv/cameras")
    made = Bench(ledger, hand, source)
    for name in ("s3_main", "nas"):
        made.providers[name] = await ledger.run(
            intake.register_provider, name, "directory", f"file:///{name}"
        )
    yield made
    await ledger.close()
