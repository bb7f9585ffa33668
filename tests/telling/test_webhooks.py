"""What a receiver gets: signed, in order, at least once, and never what only passed by."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.ledger.lived import CONTENT, claimed, made_safe
from tests.telling.conftest import SECRET, Office, configuration
from tests.telling.receiver import Answer, Receiver
from uploaderd.errors import Fault
from uploaderd.ledger import Transaction, acts, health, intake, outbox, silence, work
from uploaderd.model import FailureClass
from uploaderd.telling import LOOK_SECONDS

REFUSED = Fault("no", failure=FailureClass.RECORDING, code="no", hint="mend it")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    with Receiver() as one:
        yield one


async def test_a_safe_recording_is_told_with_all_that_is_known_of_it(
    office: Office, receiver: Receiver
) -> None:
    config = await office.wants(receiver)
    await made_safe(office.bench, b"cam1/18-00 \xff.mp4")
    async with office.at_work(config):
        await receiver.until(lambda got: len(got) == 1)
        await office.until(lambda row: row.delivered == 1)
    (got,) = receiver.got
    assert (got.method, got.path) == ("POST", "/hook?token=not-a-real-token")
    assert got.signed_with(SECRET.encode())
    assert not got.signed_with(b"another")
    assert got.headers["webhook-timestamp"] == str(office.clock.now() // 1000)
    assert got.headers["content-type"] == "application/json"
    told = got.json
    assert (told["type"], told["site"]) == ("recording.safe", "hall-3")
    assert told["timestamp"] == "2026-09-21T14:13:20Z"
    data = told["data"]
    assert (data["source"], data["path"], data["size"]) == ("cameras", "cam1/18-00 %FF.mp4", 5)
    assert (data["state"], data["metadata"]) == ("safe", {"room": "3"})
    assert data["checksum"] == {
        "crc64nvme": base64.b64encode(CONTENT.crc64nvme.to_bytes(8, "big")).decode(),
        "crc32c": base64.b64encode(CONTENT.crc32c.to_bytes(4, "big")).decode(),
    }
    upload = data["uploads"]["s3_main"]
    assert (upload["state"], upload["bucket"], upload["key"]) == ("verified", "recordings", "k1")
    assert upload["etag"] == "e"
    assert "version_id" in upload and upload["proof"]["kind"] == "crc64nvme full object, stat"


async def test_all_that_there_is_to_be_told_comes_in_its_order(office: Office, receiver: Receiver) -> None:
    config = await office.wants(receiver)
    run, bench = office.bench.ledger.run, office.bench
    await made_safe(bench)
    await bench.queued(b"failed.mp4")
    await run(work.failed, (await claimed(bench, "nas")).upload_id, REFUSED)
    await run(work.unclaim, await claimed(bench, "s3_main"))
    paused = Fault("no such bucket", failure=FailureClass.PROVIDER, hint="make it")
    await run(health.provider_troubled, bench.providers["s3_main"], paused, office.clock.now())
    await run(health.provider_well, bench.providers["s3_main"])
    await run(acts.pause, "provider", "nas", "ops", "moving")
    # Only down, not paused: nobody is told, and nobody that it is well again.
    await run(health.provider_troubled, bench.providers["s3_main"], Fault("reset"), office.clock.now())
    await run(health.provider_well, bench.providers["s3_main"])
    office.clock.advance(7200)
    now = office.clock.now()
    await run(health.swept, bench.source, now)
    await run(silence.judge, {bench.source: silence.Expected(3_600_000, now, now)})
    await bench.queued(b"again.mp4")
    async with office.at_work(config):
        await receiver.until(lambda got: len(got) == 7)
        await office.until(lambda row: row.waiting == 0)
    assert [one.json["type"] for one in receiver.got] == [
        "recording.safe",
        "recording.failed",
        "provider.paused",
        "provider.resumed",
        "provider.paused",
        "source.silent",
        "source.heard",
    ]
    failed, broken = (receiver.got[n].json["data"] for n in (1, 2))
    assert failed["uploads"]["nas"]["error"]["hint"] == "mend it"
    assert (broken["bucket"], broken["problem"]["hint"]) == ("recordings", "make it")
    assert receiver.got[4].json["data"]["paused_by"] == "ops (moving)"
    assert receiver.got[5].json["data"]["silent_since"] is not None
    assert len({one.id for one in receiver.got}) == 7


async def test_a_state_that_only_passes_by_is_told_to_nobody(office: Office, receiver: Receiver) -> None:
    """A lost recording's upload fails first, and so does that of one that another content replaced."""
    config = await office.wants(receiver)
    run, bench = office.bench.ledger.run, office.bench
    await bench.queued(b"lost.mp4")
    claim = await claimed(bench, "nas")
    await run(work.gone, claim.upload_id, REFUSED, b"lost.mp4")
    await bench.queued(b"twice.mp4")
    await run(intake.enqueue, [bench.recording(b"twice.mp4", size=6)])
    await run(_there_and_back)
    async with office.at_work(config):
        await office.until(lambda row: row.waiting == 0 and row.delivered > 0)
    assert [one.json["type"] for one in receiver.got] == ["recording.lost"]


def _there_and_back(tx: Transaction) -> None:
    """A lost recording that is lost again before anybody could see it otherwise."""
    for held in ("'for a moment'", "NULL"):
        tx.conn.execute(f"UPDATE recordings SET held = {held} WHERE state IN ('lost', 'held')")


async def test_only_what_is_wanted_is_told(office: Office, receiver: Receiver) -> None:
    secret = b"0123456789abcdef"
    config = await office.wants(
        receiver, 'events = ["recording.failed"]', f"whsec_{base64.b64encode(secret).decode()}"
    )
    await made_safe(office.bench)
    await office.bench.queued()
    await office.bench.ledger.run(work.failed, (await claimed(office.bench, "nas")).upload_id, REFUSED)
    async with office.at_work(config):
        await office.until(lambda row: row.waiting == 0 and row.delivered == 1)
    (got,) = receiver.got
    assert got.json["type"] == "recording.failed"
    assert got.signed_with(secret)


async def test_it_is_tried_again_until_it_is_taken(office: Office) -> None:
    """After a 500, a wait that is asked for, and no answer at all: the same message, in its order."""
    answers = (
        Answer(500),
        Answer(429, (("Retry-After", "900"),)),
        Answer(None),
        Answer(302, (("Location", "/"),)),
    )
    with Receiver(*answers) as receiver:
        config = await office.wants(receiver)
        await made_safe(office.bench, b"first.mp4")
        await made_safe(office.bench, b"second.mp4")
        async with office.at_work(config):
            row = await office.until(lambda row: row.problem_message is not None)
            assert row.problem_message == "it answered HTTP 500"
            assert "receiver" in (row.problem_hint or "")
            await office.passes(1)  # base 1 s, half of it by chance
            row = await office.until(lambda row: "429" in (row.problem_message or ""))
            assert row.next_try_at is not None
            assert row.next_try_at - office.clock.now() >= 900_000
            await office.passes(899)
            assert len(receiver.got) == 2
            await office.passes(2)
            await receiver.until(lambda got: len(got) == 3)
            await office.passes(10)
            await office.until(lambda row: row.problem_message == "no answer within 10s")
            await office.passes(60)
            row = await office.until(lambda row: "302" in (row.problem_message or ""))
            assert "not followed" in (row.problem_message or "")
            assert row.waiting == 2
            await office.passes(60)
            row = await office.until(lambda row: row.delivered == 2)
        assert (row.waiting, row.problem_message, row.next_try_at) == (0, None, None)
        assert len({one.id for one in receiver.got[:5]}) == 1
        assert len({one.body for one in receiver.got[:5]}) == 1
        assert [one.json["data"]["path"] for one in receiver.taken] == ["first.mp4", "second.mp4"]
        assert all(one.signed_with(SECRET.encode()) for one in receiver.got)


async def test_one_message_that_is_never_taken_holds_up_no_other(office: Office) -> None:
    with Receiver(*[Answer(422)] * 5) as receiver:
        config = await office.wants(receiver)
        await made_safe(office.bench, b"first.mp4")
        await made_safe(office.bench, b"second.mp4")
        async with office.at_work(config):
            for tries in range(1, 5):
                await receiver.until(lambda got, tries=tries: len(got) == tries)  # type: ignore[misc]
                await office.until(
                    lambda row: row.next_try_at is not None and row.next_try_at > office.clock.now()
                )
                await office.passes(60)
            row = await office.until(lambda row: row.delivered == 1)
        assert (row.given_up, row.waiting) == (1, 0)
        assert [one.json["data"]["path"] for one in receiver.taken] == ["second.mp4"]


async def test_a_dead_receiver_does_not_fill_the_ledger(
    office: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a number of messages, and after three days, the oldest go; one event tells of them."""
    monkeypatch.setattr(outbox, "MOST_WAITING", 3)
    config = await office.wants(receiver)
    for number in range(5):
        await made_safe(office.bench, b"%d.mp4" % number)
    assert (office.webhook().waiting, office.webhook().given_up) == (3, 2)
    office.clock.advance(3 * 86_400 + 1)
    await made_safe(office.bench, b"last.mp4")
    async with office.at_work(config):
        row = await office.until(lambda row: row.delivered == 1)
    assert (row.waiting, row.given_up) == (0, 5)
    assert [json.loads(detail)["messages"] for detail in office.events("webhook-gave-up")] == [5]
    assert receiver.got[0].json["data"]["path"] == "last.mp4"


async def test_a_webhook_that_goes_takes_its_line_with_it(office: Office, receiver: Receiver) -> None:
    await office.wants(receiver)
    await made_safe(office.bench)
    await office.bench.ledger.run(outbox.configured, {})
    assert json.loads(office.events("webhook-removed")[0]) == {"messages": 1, "webhook": "shop"}
    await made_safe(office.bench)
    assert office.counted("messages") == office.counted("moved") == 0


async def test_nothing_is_lost_by_a_kill(office: Office) -> None:
    """Killed while the receiver still thinks about the second: it gets that one again, under its old name."""
    with Receiver(Answer(204), Answer(None)) as receiver:
        await office.wants(receiver)
        for name in (b"1.mp4", b"2.mp4", b"3.mp4"):
            await made_safe(office.bench, name)
        await office.bench.ledger.close()
        command = [sys.executable, "-m", "tests.telling.child", str(office.folder), receiver.url]
        with subprocess.Popen(command, cwd=Path(__file__).parents[2], env=os.environ) as child:
            await receiver.until(lambda got: len(got) == 2)
            child.send_signal(signal.SIGKILL)
        await office.bench.ledger.open()
        async with office.at_work(configuration(office.folder, receiver.url)):
            await office.until(lambda row: row.delivered == 3)
        assert [one.json["data"]["path"] for one in receiver.got] == ["1.mp4", "2.mp4", "2.mp4", "3.mp4"]
        assert receiver.got[1].id == receiver.got[2].id
        assert receiver.got[1].body == receiver.got[2].body


async def test_what_comes_later_is_seen(office: Office, receiver: Receiver) -> None:
    config = await office.wants(receiver)
    async with office.at_work(config):
        while not office.clock.sleeping:  # noqa: ASYNC110 - the clock has no event for it
            await asyncio.sleep(0)
        await made_safe(office.bench)
        office.clock.advance(LOOK_SECONDS)
        await office.until(lambda row: row.delivered == 1)
