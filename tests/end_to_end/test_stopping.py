"""Told to stop, or to take another configuration: what is begun is kept, nothing is sent twice."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing

import pytest

from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.places import assert_whole, content_of
from tests.strict import Fault, Kind, StrictServer

MIB = 1024 * 1024

SENDING_A_PART = {"s3": "UploadPart", "azure": "PutBlock", "gcs": "ResumableChunk"}


@pytest.mark.parametrize("cloud", SENDING_A_PART)
async def test_sigterm_in_mid_file_ends_with_0_and_the_next_start_sends_only_the_rest(
    cloud: str, box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    content = content_of(48 * MIB)
    folder = box.source()
    box.send_to({cloud: places[cloud]})
    box.providers[cloud] |= {"part_size": "8MiB", "max_parts": 2}
    slow = Fault(Kind.THROTTLE, protocol=cloud, operation=SENDING_A_PART[cloud], rate=12 * MIB, count=None)
    with endpoint.faults.expected(slow), box.run() as daemon:
        (folder / "long.mp4").write_bytes(content)
        await box.until(lambda: box.parts() >= 2)
        told = time.monotonic()
        daemon.terminate()
        assert await daemon.ended() == 0
        assert time.monotonic() - told < 20, "parts in flight were to finish within shutdown_grace"
    upload = box.uploads(cloud)["long.mp4"]
    assert upload.state == "queued"
    assert 16 * MIB <= upload.bytes_sent < len(content)
    assert await places[cloud].vendor.keys() == set()
    held = upload.bytes_sent

    with box.run("--until-safe") as daemon:
        assert await daemon.ended() == 0
        (verified,) = daemon.said("upload verified")
        assert verified["resumed_from"] == held
    upload = box.uploads(cloud)["long.mp4"]
    assert (upload.state, upload.bytes_sent, upload.resumed_from) == ("verified", len(content), held)
    await assert_whole(places[cloud], upload.key, content)
    assert await places[cloud].vendor.leftovers() == 0
    attempts = (await box.uploaderd("history", "long.mp4", "--json")).lines
    assert [line.get("outcome") for line in attempts if line.get("outcome")] == ["stopped", "verified"]


async def test_parts_that_outlast_the_grace_are_cut_off(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source()
    box.send_to({"s3": places["s3"]})
    box.daemon = {"shutdown_grace": "1s"}
    stuck = Fault(Kind.HOLD, operation="UploadPart", count=None)
    with endpoint.faults.expected(stuck), box.run() as daemon:
        (folder / "long.mp4").write_bytes(content_of(40 * MIB))
        await box.until(lambda: stuck.fired > 0)
        told = time.monotonic()
        daemon.terminate()
        assert await daemon.ended(within=10) == 0
        assert 1 <= time.monotonic() - told < 5
        assert daemon.said("parts in flight did not finish in time; they are sent again")
    assert box.uploads("s3")["long.mp4"].state == "queued"


async def test_a_second_signal_ends_at_once(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source()
    box.send_to({"s3": places["s3"]})
    content = content_of(40 * MIB)
    stuck = Fault(Kind.HOLD, operation="UploadPart", count=None)
    with endpoint.faults.expected(stuck), box.run() as daemon:
        (folder / "long.mp4").write_bytes(content)
        await box.until(lambda: stuck.fired > 0)
        daemon.signal(signal.SIGINT)
        await daemon.says("told to stop; parts in flight finish", signal="SIGINT")
        told = time.monotonic()
        daemon.signal(signal.SIGINT)
        assert await daemon.ended(within=10) == 0
        assert time.monotonic() - told < 3, "it waited for the parts in spite of the second signal"
        assert daemon.said("told to stop again: stopping now")
    # Cut off, and yet nothing is lost: the next start goes on.
    with box.run("--until-safe") as daemon:
        assert await daemon.ended() == 0
    await assert_whole(places["s3"], box.uploads("s3")["long.mp4"].key, content)


async def test_sighup_takes_a_good_configuration_and_keeps_the_old_one_against_a_bad(
    box: Box, places: Mapping[str, Place]
) -> None:
    hall = box.source("hall")
    box.send_to({"directory": places["directory"]})
    with box.run() as daemon:
        (hall / "1.ts").write_bytes(b"one")
        await box.until_safe(1)

        box.config.write_text(box.config.read_text() + '[sources.yard]\npaht = "/tmp"\nquiet_for = 5\n')
        daemon.signal(signal.SIGHUP)
        refused = await daemon.says("the new configuration is refused; the old one stays")
        assert any("paht" in fault and "path" in fault for fault in refused["faults"])
        assert any("quiet_for" in fault and "unit" in fault for fault in refused["faults"])
        (hall / "2.ts").write_bytes(b"two")
        await box.until_safe(2)

        yard = box.source("yard")
        (yard / "3.ts").write_bytes(b"three")
        box.daemon = {"log_level": "debug"}
        box.write()
        daemon.signal(signal.SIGHUP)
        await daemon.says("taking the new configuration")
        rows = await box.until_safe(3)
        assert rows["3.ts"].source == "yard"
        (hall / "4.ts").write_bytes(b"four")
        await box.until_safe(4)
        assert daemon.said("upload begins"), "the new log level was not taken"
        assert [one["name"] for one in (await box.status())["sources"]] == ["hall", "yard"]
    assert all(upload.attempts == 1 for upload in box.uploads("directory").values())


async def test_a_reload_in_mid_file_sends_nothing_twice(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    content = content_of(48 * MIB)
    folder = box.source()
    box.send_to({"s3": places["s3"]})
    box.providers["s3"] |= {"part_size": "8MiB", "max_parts": 2}
    slow = Fault(Kind.THROTTLE, operation="UploadPart", rate=12 * MIB, count=None)
    with endpoint.faults.expected(slow), box.run() as daemon:
        (folder / "long.mp4").write_bytes(content)
        await box.until(lambda: box.parts() >= 1)
        daemon.signal(signal.SIGHUP)
        await daemon.says("taking the new configuration")
        rows = await box.until_safe(1)
    assert rows["long.mp4"].uploads["s3"].bytes_sent == len(content)
    await assert_whole(places["s3"], rows["long.mp4"].uploads["s3"].key, content)


async def test_until_safe_waits_for_as_many_as_are_expected(box: Box, places: Mapping[str, Place]) -> None:
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    (folder / "1.ts").write_bytes(b"one")
    with box.run("--until-safe", "--expect", "2") as daemon:
        await box.until_safe(1)
        (folder / "2.ts").write_bytes(b"two")
        assert await daemon.ended() == 0
    assert [row.state for row in box.recordings().values()] == ["safe", "safe"]


async def test_until_safe_ends_with_1_if_a_recording_needs_a_person(
    box: Box, places: Mapping[str, Place]
) -> None:
    folder = box.source(key="{name}")
    box.send_to({"directory": places["directory"]})
    box.providers["directory"]["on_conflict"] = "fail"
    await places["directory"].vendor.put("1.ts", b"somebody else's")
    (folder / "1.ts").write_bytes(b"ours")
    with box.run("--until-safe") as daemon:
        assert await daemon.ended() == 1
    status = await box.status()
    assert status["recordings"]["failed"] == 1
    assert status["troubled"][0]["path"] == "1.ts"
    assert "on_conflict" in status["troubled"][0]["hint"]


async def test_a_second_daemon_on_the_ledger_is_told_who_holds_it(
    box: Box, places: Mapping[str, Place]
) -> None:
    box.source()
    box.send_to({"directory": places["directory"]})
    with box.run() as daemon:
        await daemon.says("provider opened")
        second = await box.uploaderd("run")
        assert second.code == 75
        assert str(box.ledger) in second.err and f"process {daemon.pid}" in second.err
        assert "what to do: " in second.err
        assert (await box.uploaderd("status", "--alive")).code == 0, "the first one was disturbed"


async def test_a_ledger_of_a_newer_version_is_refused_untouched(
    box: Box, places: Mapping[str, Place]
) -> None:
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    (folder / "1.ts").write_bytes(b"one")
    with box.run("--until-safe") as daemon:
        assert await daemon.ended() == 0
    with closing(sqlite3.connect(box.ledger)) as conn:
        conn.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('uploaderd', 'm999_from_the_future', '2030-01-01')"
        )
        conn.commit()

    def hashes() -> dict[str, str]:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in box.folder.iterdir()
            if path.name.startswith("ledger.db") and not path.name.endswith(".lock")
        }

    before = hashes()
    for command in ("run", "status", "list"):
        said = await box.uploaderd(command)
        assert (said.code, said.out) == (1, "")
        assert "newer uploaderd" in said.err and "m999_from_the_future" in said.err
        assert "what to do: " in said.err
        assert hashes() == before, command
