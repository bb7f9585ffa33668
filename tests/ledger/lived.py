"""A ledger that has seen something: recordings in every state, attempts, events."""

from __future__ import annotations

from tests.ledger.conftest import Bench
from uploaderd.errors import Fault
from uploaderd.ledger import intake, queue, work
from uploaderd.model import Checksum, Claim, FailureClass, ObjectInfo, ObjectSpec, Proof, Session

CONTENT = Checksum(5, 0x11223344, 0xFFEEDDCCBBAA9988)
PROOF = Proof("crc64nvme full object, stat", "value")


async def claimed(bench: Bench, provider: str) -> Claim:
    (claim,) = await bench.ledger.run(queue.claim, bench.providers[provider], 1)
    return claim


async def made_safe(bench: Bench, path: bytes = b"") -> int:
    """A recording, verified everywhere at the bench's present time; its row. Nothing else may be queued."""
    recording = await bench.queued(path)
    for provider in bench.providers:
        claim = await claimed(bench, provider)
        assert claim.recording_id == recording
        found = ObjectInfo(claim.key, 5, etag="e", token=claim.token)
        await bench.ledger.run(work.charge, claim.upload_id, 5)
        await bench.ledger.run(work.completing, claim.upload_id, CONTENT)
        await bench.ledger.run(work.verified, claim.upload_id, found, PROOF)
    return recording


async def live(bench: Bench) -> None:
    """Two are safe, one failed, one has a session, one is replaced by a newer one, one waits."""
    await made_safe(bench, b"safe-1.mp4")
    await made_safe(bench, b"safe \xff.mp4")
    await bench.queued(b"failed.mp4")
    failed = await claimed(bench, "nas")
    await bench.ledger.run(
        work.failed, failed.upload_id, Fault("refused", failure=FailureClass.CONFLICT, code="key-taken")
    )
    other = await claimed(bench, "s3_main")
    await bench.ledger.run(
        work.retry_later, other.upload_id, Fault("reset"), bench.hand.now(), progress=False
    )
    await bench.queued(b"session.mp4")
    claim = await claimed(bench, "nas")
    await bench.ledger.run(work.intend, claim.upload_id)
    await bench.ledger.run(work.opened, claim.upload_id, session_of(claim))
    await bench.queued(b"again.mp4")
    newer = bench.recording(b"again.mp4", size=6)
    await bench.ledger.run(intake.enqueue, [newer])


def session_of(claim: Claim) -> Session:
    return Session(
        ObjectSpec(claim.key, 5, claim.token, "video/mp4"), 5, "a-session-that-is-as-good-as-a-key"
    )
