"""pause, resume, retry, acknowledge and release: what changes, who is on record, and what is refused."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.acts.conftest import ME, events
from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.places import assert_whole, content_of
from tests.strict import Fault, Kind, StrictServer

MIB = 1024 * 1024


async def test_nothing_goes_to_a_paused_provider_until_it_is_resumed_across_a_restart(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source()
    box.send_to({name: places[name] for name in ("s3", "directory")})
    with box.run():
        (folder / "1.ts").write_bytes(b"one")
        await box.until_safe(1)
        said = await box.uploaderd("pause", "s3", "--reason", "new disks")
        assert (said.code, said.err) == (0, "")
        asked = len(endpoint.log.entries())
        (folder / "2.ts").write_bytes(b"two")
        await box.until(lambda: box.uploads("directory").get("2.ts", None) is not None)
        await box.until(lambda: box.uploads("directory")["2.ts"].state == "verified")
        status = await box.status()
        (shown,) = (one for one in status["providers"] if one["name"] == "s3")
        assert (status["state"], shown["state"], shown["waiting"]) == ("FAILING", "paused", 1)
        assert f"{ME} (new disks)" in shown["problem"]["message"]
        again = await box.uploaderd("pause", "s3")
        assert again.code == 0 and f"already, by {ME}" in again.err
    with box.run():
        (folder / "3.ts").write_bytes(b"three")
        await box.until(lambda: "3.ts" in box.uploads("directory"))
        await box.until(lambda: box.uploads("directory")["3.ts"].state == "verified")
        assert len(endpoint.log.entries()) == asked, "a paused provider is not even asked"
        assert (await box.uploaderd("resume", "s3")).code == 0
        rows = await box.until_safe(3)
        assert rows["2.ts"].uploads["s3"].attempts == 1
        await assert_whole(places["s3"], rows["3.ts"].uploads["s3"].key, b"three")
        assert (await box.status())["state"] == "SAFE"
        assert "nobody had paused" in (await box.uploaderd("resume", "s3")).err
    told = await events(box, "paused", "resumed")
    assert [(one["kind"], one["provider"], one["who"]) for one in told] == [
        ("paused", "s3", ME),
        ("resumed", "s3", ME),
    ]
    assert told[0]["detail"] == {"reason": "new disks"}


async def test_an_upload_under_way_stops_at_a_pause_and_goes_on_from_its_parts(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    content = content_of(20 * MIB)
    folder = box.source()
    box.send_to({"s3": places["s3"]})
    box.providers["s3"] |= {"part_size": "5MiB", "max_parts": 1}
    with box.run():
        held = endpoint.faults.add(Fault(Kind.HOLD, operation="UploadPart", key="*long.ts", skip=1))
        (folder / "long.ts").write_bytes(content)
        await box.until(lambda: held.fired)
        assert (await box.uploaderd("pause", "s3")).code == 0
        held.release()
        await box.until(lambda: box.uploads("s3")["long.ts"].state == "queued")
        assert sum("long.ts" in entry.key for entry in endpoint.log.entries("UploadPart")) == 2
        assert (await box.uploaderd("resume", "s3")).code == 0
        rows = await box.until_safe(1)
        upload = rows["long.ts"].uploads["s3"]
        assert (upload.bytes_sent, upload.resumed_from) == (len(content), 10 * MIB)
        await assert_whole(places["s3"], upload.key, content)


async def test_a_paused_source_takes_nothing_in_and_what_is_queued_goes_out(
    box: Box, places: Mapping[str, Place]
) -> None:
    folder, other = box.source(), box.source("other")
    box.send_to({"directory": places["directory"]})
    with box.run() as daemon:
        await daemon.says("provider opened")
        assert (await box.uploaderd("pause", "hall")).code == 0
        (folder / "1.ts").write_bytes(b"one")
        (other / "2.ts").write_bytes(b"two")
        await box.until_safe(1)
        by_name = {one["name"]: one["state"] for one in (await box.status())["sources"]}
        assert by_name == {"hall": "paused", "other": "ok"}
    with box.run("--until-safe") as daemon:
        assert await daemon.ended() == 0, "a paused source is not waited for"
    assert set(box.recordings()) == {"2.ts"}
    assert (await box.uploaderd("resume", "source:hall")).code == 0
    with box.run():
        await box.until_safe(2)
    assert [one["source"] for one in await events(box, "paused", "resumed")] == ["hall", "hall"]


async def test_what_failed_is_tried_again_when_somebody_says_so_and_not_before(
    box: Box, places: Mapping[str, Place]
) -> None:
    place = places["s3"]
    folder = box.source(key="{name}")
    box.send_to({"s3": place})
    box.providers["s3"]["on_conflict"] = "fail"
    await place.vendor.put("1.ts", b"a stranger's")
    (folder / "1.ts").write_bytes(b"one")
    with box.run("--until-safe", "--expect", "1") as daemon:
        assert await daemon.ended() == 1
    assert (await box.uploaderd("acknowledge", "1.ts", "--reason", "mine, later")).code == 0
    assert (await box.status())["recordings"]["alarming"] == 0
    with box.run() as daemon:
        await daemon.says("provider opened")
        said = await box.uploaderd("retry", "1.ts")
        assert (said.code, said.out) == (0, "1 failed upload queued again, 0 waiting due now\n")
        await box.until(lambda: box.uploads("s3")["1.ts"].attempts == 2)
        await box.until(lambda: box.uploads("s3")["1.ts"].state == "failed")
        assert (await box.status())["recordings"]["alarming"] == 1, (
            "it failed again: an acknowledgement is past"
        )
    # Without a daemon, too; it is carried out at the next start.
    (recorded,) = box.recordings().values()
    await _remove(place, "1.ts", recorded.size)
    said = await box.uploaderd("retry", "--provider", "s3")
    assert (said.code, said.out) == (0, "1 failed upload queued again, 0 waiting due now\n")
    with box.run():
        await box.until_safe(1)
    await assert_whole(place, "1.ts", b"one")
    told = await events(box, "retried", "acknowledged")
    assert [(one["kind"], one["who"]) for one in told] == [
        ("acknowledged", ME),
        ("retried", ME),
        ("retried", ME),
    ]
    assert told[0]["detail"] == {"reason": "mine, later"}


async def _remove(place: Place, key: str, size: int) -> None:
    """What was in the way is now the same content: it is adopted, nothing is in the way any more."""
    await place.vendor.put(key, b"one")
    assert size == 3


async def test_a_retry_asks_a_provider_in_trouble_now_and_not_at_its_next_probe(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source()
    box.send_to({"s3": places["s3"]})
    endpoint.s3.account.denied = {"s3:PutObject", "s3:GetObject", "s3:ListBucket"}
    (folder / "1.ts").write_bytes(b"one")
    with box.run():

        def probes() -> int:
            with box.reading() as conn:
                row = conn.execute("SELECT probes FROM providers").fetchone() if conn else None
            return int(row[0]) if row else 0

        await box.until(lambda: probes() >= 3)
        endpoint.s3.account.denied = set()
        assert (await box.uploaderd("retry")).code == 0
        await box.until_safe(1)


async def test_what_a_gate_holds_goes_out_when_somebody_releases_it_and_not_before(
    box: Box, places: Mapping[str, Place]
) -> None:
    packet = b"\x47" + bytes(187)
    cut = packet * 20 + packet[:100]
    folder = box.source(container_check="require", key="{name}")
    box.send_to({"directory": places["directory"]})
    for name in ("1.ts", "2.ts"):
        (folder / name).write_bytes(cut)
    with box.run():
        await box.until(lambda: [row.state for row in box.recordings().values()] == ["held", "held"])
        assert (await box.uploaderd("acknowledge", "1.ts", "--reason", "to be looked at")).code == 0
        said = await box.uploaderd("release", "1.ts")
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith("1 recording released")
        rows = await box.until_safe(1)
        assert rows["1.ts"].acknowledged_at is None, "that was about its being held"
        assert rows["1.ts"].doubt is not None and "released all the same" in rows["1.ts"].doubt
        assert rows["2.ts"].state == "held"
        again = await box.uploaderd("release", "1.ts")
        assert (again.code, again.out) == (1, "") and "it is safe, and not held" in again.err
    # Without a daemon, too; it is carried out at the next start.
    assert (await box.uploaderd("release", "2.ts")).code == 0
    assert box.recordings()["2.ts"].state == "held"
    with box.run():
        rows = await box.until_safe(2)
    await assert_whole(places["directory"], rows["2.ts"].uploads["directory"].key, cut)
    told = await events(box, "released")
    assert [(one["path"], one["who"]) for one in told] == [("1.ts", ME), ("2.ts", ME)]


async def test_no_release_helps_against_a_key_that_is_taken(box: Box, places: Mapping[str, Place]) -> None:
    folder = box.source(key="{name}")
    box.send_to({"directory": places["directory"]})
    for name in ("cam1", "cam2"):
        (folder / name).mkdir()
        (folder / name / "1.ts").write_bytes(name.encode())
    with box.run("--until-safe", "--expect", "2") as daemon:
        assert await daemon.ended() == 1
    (held,) = (name for name, row in box.recordings().items() if row.state == "held")
    said = await box.uploaderd("release", held)
    assert (said.code, said.out) == (1, "")
    assert "releasing it would not help" in said.err
    assert not await events(box, "released")


async def test_unknown_names_are_refused_with_the_nearest(box: Box, places: Mapping[str, Place]) -> None:
    folder = box.source("cameras")
    box.send_to({"directory": places["directory"]})
    (folder / "cam1-18-00.ts").write_bytes(b"one")
    with box.run():
        await box.until_safe(1)
        await _refuses_unknown(box)
    await _refuses_unknown(box)


async def _refuses_unknown(box: Box) -> None:
    for arguments, meant in (
        (("pause", "camera"), "'cameras'"),
        (("resume", "provider:directry"), "'directory'"),
        (("retry", "--provider", "directoy"), "'directory'"),
        (("retry", "cam1-18-01.ts"), '"cam1-18-00.ts"'),
        (("acknowledge", "cam1-18-0.ts", "--reason", "x"), '"cam1-18-00.ts"'),
        (("release", "cam1-18-0.ts"), '"cam1-18-00.ts"'),
    ):
        said = await box.uploaderd(*arguments)
        assert (said.code, said.out) == (2, ""), arguments
        assert f"did you mean {meant}?" in said.err, arguments
    said = await box.uploaderd("acknowledge", "cam1-18-00.ts", "--reason", "x")
    assert (said.code, said.out) == (1, "")
    assert "is safe" in said.err
    said = await box.uploaderd("acknowledge", "cam1-18-00.ts", "--reason", " ")
    assert said.code == 2 and "--reason" in said.err


async def test_a_daemon_that_does_not_answer_is_worth_another_try(
    box: Box, places: Mapping[str, Place]
) -> None:
    box.source()
    box.send_to({"directory": places["directory"]})
    with box.run() as daemon:
        await daemon.says("provider opened")
        (box.sockets / "control.sock").unlink()
        said = await box.uploaderd("pause", "directory")
        assert said.code == 75
        assert str(daemon.pid) in said.err and "control.sock" in said.err


@pytest.mark.usefixtures("as_root")
async def test_only_the_owner_writes_a_ledger_and_only_the_daemons_user_acts(
    box: Box, places: Mapping[str, Place]
) -> None:
    box.source()
    box.send_to({"directory": places["directory"]})
    with box.run() as daemon:
        await daemon.says("provider opened")
        socket = box.sockets / "control.sock"
        box.sockets.chmod(0o755)
        socket.chmod(0o666)  # as if a group might read through it
        asked = await asyncio.to_thread(
            subprocess.run,
            [*("setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-c", _ASK), str(socket)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.stdout.startswith("403 "), asked.stderr
        assert "only the daemon's own user" in asked.stdout
        assert not await events(box, "paused")
    os.chown(box.ledger, 65534, -1)
    said = await box.uploaderd("pause", "directory")
    os.chown(box.ledger, 0, -1)
    assert (said.code, said.out) == (1, "")
    assert "belongs to nobody" in said.err and "sudo -u nobody" in said.err
    assert not await events(box, "paused")


_ASK = """
import http.client, socket, sys
connection = http.client.HTTPConnection("uploaderd")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("POST", "/api/v1/acts/pause", '{"kind": "provider", "name": "directory"}')
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""
