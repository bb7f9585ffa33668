"""An evening at a recorder, put into a ledger by its own transitions, under a clock that is turned by hand.

18:00:00 is now. Six files: one safe, one that waits for a paused provider, one that is retried, one that
failed, one that is lost, one held, one skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uploaderd.config import Config, load
from uploaderd.errors import Fault, FileVanished, KeyRefused
from uploaderd.ledger import Event, Ledger, health, intake, queue, work
from uploaderd.model import (
    Checksum,
    Claim,
    FailureClass,
    FileIdentity,
    FinishedBy,
    FoundBy,
    Milliseconds,
    ObjectInfo,
    Proof,
    SourceState,
)

NOW = 1_795_197_600_000
"""2026-11-20T18:00:00Z."""

MINUTE = 60_000

CONFIG = """
[ledger]
path = "ledger.db"
[sources.cameras]
path = "recordings"
exclude = ["**/*.part"]
[sources.gate]
path = "gate"
[providers.s3_main]
type = "s3"
bucket = "recordings"
region = "eu-central-1"
[providers.nas]
type = "directory"
path = "nas"
"""

LIVE: dict[str, Any] = {
    "pid": 412,
    "providers": {
        "s3_main": {"rate_bytes_per_second": 18_874_368.0},
        "nas": {"rate_bytes_per_second": 0.0},
    },
    "uploading": [
        {
            "path": "cam1/17-58.mp4",
            "source": "cameras",
            "provider": "s3_main",
            "bytes_sent": 62_914_560,
            "size": 104_857_600,
            "resumed_from": 16_777_216,
            "rate_bytes_per_second": 18_874_368.0,
            "attempt": 1,
            "since": NOW - 4000,
        }
    ],
    "sources": {"cameras": {"polling": "polling = true", "lease": False}},
}


@dataclass
class Evening:
    """The ledger while it is being written, and its configuration."""

    folder: Path
    config: Config
    ledger: Ledger
    at: int = NOW
    sources: dict[str, int] = field(default_factory=dict)
    providers: dict[str, int] = field(default_factory=dict)
    files: int = 0

    def now(self) -> Milliseconds:
        return Milliseconds(self.at)

    async def found(
        self, path: bytes, size: int, *, skipped: str | None = None, held: str | None = None
    ) -> int:
        """A finished file; its row."""
        self.files += 1
        uploads = tuple(
            intake.NewUpload(id_, f"cameras/2026/11/20/{path.decode('utf-8', 'replace')}", required=True)
            for id_ in self.providers.values()
        )
        one = intake.NewRecording(
            source_id=self.sources["cameras"],
            path=path,
            identity=FileIdentity(size, self.files, 1000 + self.files, 1, bytes(16)),
            found_by=FoundBy.EVENT,
            finished_by=FinishedBy.LEASE,
            finished_at=self.now(),
            uploads=() if skipped or held else uploads,
            needed=len(uploads),
            skipped=skipped,
            held=held,
        )
        (row,) = await self.ledger.run(intake.enqueue, [one])
        assert row is not None
        return row

    async def begun(self, provider: str) -> Claim:
        (claim,) = await self.ledger.run(queue.claim, self.providers[provider], 1)
        await self.ledger.run(work.intend, claim.upload_id)
        return claim

    async def verified(self, provider: str, *, after: int = 1000) -> None:
        claim = await self.begun(provider)
        size = claim.identity.size
        self.at += after
        await self.ledger.run(work.completing, claim.upload_id, Checksum(size, 1, 2), size)
        proof = Proof("crc64nvme full object, stat", "AAAAAAAAAAI=")
        await self.ledger.run(work.verified, claim.upload_id, ObjectInfo(claim.key, size, etag="e1"), proof)


async def opened(folder: Path) -> Evening:
    """A new ledger with the sources and providers of `CONFIG`."""
    (folder / "recordings").mkdir()
    file = folder / "config.toml"
    file.write_text(CONFIG, encoding="utf-8")
    config = load(file, env={})

    def clock() -> Milliseconds:
        return evening.now()

    evening = Evening(folder, config, Ledger(config.ledger.path, clock, "test"))
    await evening.ledger.open()
    run = evening.ledger.run
    evening.at = NOW - 60 * MINUTE
    for name, source in config.sources.items():
        evening.sources[name] = await run(intake.register_source, name, bytes(source.path))
    for name, provider in config.providers.items():
        evening.providers[name] = await run(intake.register_provider, name, provider.type, provider.target)
    return evening


async def lived_through(evening: Evening) -> None:
    """What happened until 18:00."""
    run = evening.ledger.run
    await run(lambda tx: tx.event(Event("started", detail={"version": "0.1.0"})))
    evening.at = NOW - 40 * MINUTE
    await evening.found(b"cam1/17-20.mp4", 104_857_600)
    await evening.verified("s3_main")
    await evening.verified("nas")

    evening.at = NOW - 20 * MINUTE
    await evening.found(b"cam1/17-40.mp4", 104_857_600)
    claim = await evening.begun("s3_main")
    evening.at += 2500
    reset = Fault("the connection was reset", code="ECONNRESET", http_status=None)
    await run(work.charge, claim.upload_id, 33_554_432)
    await run(work.retry_later, claim.upload_id, reset, Milliseconds(NOW + 12_000), progress=True)
    claim = await evening.begun("nas")
    full = Fault(
        "the disk of nas is full",
        failure=FailureClass.PROVIDER,
        code="ENOSPC",
        hint="free some space, or enlarge it",
    )
    evening.at += 500
    await run(work.requeue, claim.upload_id, full)
    await run(health.provider_troubled, evening.providers["nas"], full, Milliseconds(NOW + 32_000))

    evening.at = NOW - 15 * MINUTE
    await evening.found(b"cam2/odd\n\xff.mp4", 1000)
    claim = await evening.begun("s3_main")
    refused = KeyRefused(
        "the key has 1100 bytes; 1024 are allowed",
        code="KeyTooLong",
        hint="shorten `key`, or rename the file",
    )
    refused.http_status, refused.request_id = 400, "R1"
    await run(work.failed, claim.upload_id, refused)

    evening.at = NOW - 10 * MINUTE
    await evening.found(b"cam2/17-50.mp4", 2000)
    claim = await evening.begun("s3_main")
    vanished = FileVanished("no file is at cam2/17-50.mp4 any more", code="ENOENT")
    await run(work.gone, claim.upload_id, vanished, claim.path)

    evening.at = NOW - 5 * MINUTE
    await evening.found(b"cam2/17-55.mp4", 3000, held="its key would be that of cam1/17-55.mp4")
    await evening.found(b"cam2/empty.mp4", 0, skipped="empty: the file has no bytes")
    await run(health.swept, evening.sources["cameras"], Milliseconds(evening.at))
    await run(health.source_seen, evening.sources["gate"], SourceState.MISSING, None)
    evening.at = NOW
