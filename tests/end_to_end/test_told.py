"""The whole program tells: a webhook, a heartbeat, and a dead receiver that holds nothing up."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.box import Box
from tests.telling.receiver import Answer, Receiver

SECRET = "not-a-real-secret"
LIBRARIES = ("aiohttp", "asyncio")


def _tells(box: Box, hook: Receiver, heart: Receiver) -> Path:
    folder = box.source(metadata={"room": "3"})
    box.providers["nas"] = {"type": "directory", "path": str(box.folder / "nas")}
    (box.folder / "nas").mkdir()
    box.daemon = {"log_level": "debug", "log_levels": dict.fromkeys(LIBRARIES, "debug")}
    box.more = {
        "heartbeat": {"url": heart.url, "every": "50ms"},
        "webhooks.shop": {"url": hook.url, "secret": SECRET},
    }
    return folder


async def test_a_recording_is_told_and_the_heart_beats(box: Box) -> None:
    with Receiver() as hook, Receiver() as heart:
        folder = _tells(box, hook, heart)
        (folder / "a.mp4").write_bytes(b"recorded")
        with box.run() as daemon:
            await hook.until(lambda got: len(got) == 1)
            await heart.until(lambda got: len(got) >= 2)
            said = daemon.text() + (await box.uploaderd("status")).out
            said += (await box.uploaderd("config", "show")).out
            # A provider that needs a person: the word is not SAFE, so the heart stands still.
            assert (await box.uploaderd("pause", "nas")).code == 0
            await hook.until(lambda got: len(got) == 2)
            beats = len(heart.got)
            await box.uploaderd("status")  # takes longer than some beats would
            assert len(heart.got) <= beats + 1
        said += daemon.text()
    told = hook.got[0]
    assert told.signed_with(SECRET.encode())
    data = told.json["data"]
    assert (data["path"], data["size"], data["metadata"]) == ("a.mp4", 8, {"room": "3"})
    assert data["uploads"]["nas"]["bucket"] == str(box.folder / "nas")
    assert data["checksum"]["crc64nvme"] is not None
    assert hook.got[1].json["type"] == "provider.paused"
    assert {one.method for one in heart.got} == {"GET"}
    assert "shop" in said
    for secret in (SECRET, "not-a-real-token", hook.url, heart.url):
        assert secret not in said


async def test_a_dead_receiver_holds_nothing_up_and_is_shown(box: Box) -> None:
    """Nor does it change the word, or the exit of a run that ends; the next start tells the rest."""
    with Receiver(always=Answer(500)) as hook, Receiver(always=Answer(500)) as heart:
        folder = _tells(box, hook, heart)
        (folder / "a.mp4").write_bytes(b"recorded")
        with box.run("--until-safe", "--expect", "1") as daemon:
            assert await daemon.ended() == 0
        (line,) = (await box.status())["webhooks"]
        assert (line["waiting"], line["problem"]["message"]) == (1, "it answered HTTP 500")
        text = (await box.uploaderd("status")).out
        assert "it answered HTTP 500" in text
        assert "the heartbeat is not heard" in daemon.text()
    with Receiver() as hook:
        box.more["webhooks.shop"]["url"] = hook.url
        del box.more["heartbeat"]
        with box.run("--until-safe"):
            await hook.until(lambda got: len(got) == 1)
        assert hook.got[0].json["type"] == "recording.safe"
    assert (await box.status())["webhooks"][0]["waiting"] == 0
