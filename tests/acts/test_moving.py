"""backfill and retire: what old recordings get, and what becomes of those that needed what is gone."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from tests.acts.conftest import ME, events
from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.places import assert_whole, content_of
from tests.strict import Fault, Kind, StrictServer

MIB = 1024 * 1024


async def test_old_recordings_go_to_a_new_provider_when_somebody_says_so(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder, other = box.source(), box.source("other")
    box.sources["other"]["providers"] = ["directory"]
    box.send_to({"directory": places["directory"]})
    contents = {name: name.encode() for name in ("1.ts", "2.ts", "gone.ts")}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (other / "x.ts").write_bytes(b"x")
    with box.run("--until-safe", "--expect", "4") as daemon:
        assert await daemon.ended() == 0
    (folder / "gone.ts").unlink()
    box.send_to({"s3": places["s3"]})
    endpoint.switch_off()
    with box.run() as daemon:
        await daemon.says("provider opened")
        assert box.uploads("s3") == {}, "a new provider gets old recordings only when somebody says so"
        for arguments, why in (
            (("s33",), "did you mean 's3'?"),
            (("s3", "--source", "hal"), "did you mean 'hall'?"),
        ):
            unknown = await box.uploaderd("backfill", *arguments)
            assert (unknown.code, unknown.out) == (2, "") and why in unknown.err
        stranger = await box.uploaderd("backfill", "s3", "--source", "other")
        assert stranger.code == 1 and "nothing of source other goes to s3" in stranger.err
        said = await box.uploaderd("backfill", "s3")
        assert (said.code, said.out) == (1, "2 recordings queued for s3, 8 B\n")
        assert "1 recording cannot be sent: the local file is gone" in said.err
        again = await box.uploaderd("backfill", "s3")
        assert again.out == "0 recordings queued for s3, 0 B\n"
        assert {row.state for row in box.recordings().values()} == {"safe"}, "a copy to spare"
        endpoint.switch_on()
        await box.until(lambda: [row.state for row in box.uploads("s3").values()] == ["verified"] * 2)
    for name, upload in box.uploads("s3").items():
        assert (upload.required, upload.key) == (False, box.uploads("directory")[name].key)
        await assert_whole(places["s3"], upload.key, contents[name])
    told = await events(box, "backfilled")
    assert [(one["who"], one["provider"], one["detail"]["added"]) for one in told] == [  # type: ignore[index]
        (ME, "s3", 2),
        (ME, "s3", 0),
    ]


async def test_a_copy_that_is_required_keeps_recording_and_file_waiting_for_it(
    box: Box, places: Mapping[str, Place]
) -> None:
    """Queued without a daemon, carried out by the next one; cleanup waits for it."""
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    box.providers["directory"]["same_device_counts"] = True
    (folder / "1.ts").write_bytes(b"one")
    with box.run("--until-safe", "--expect", "1") as daemon:
        assert await daemon.ended() == 0
    box.send_to({"s3": places["s3"]})
    box.sources["hall"]["cleanup"] = {
        "policy": "delete-when-safe",
        "keep_for": "1ms",
    }
    box.write()
    unknown = await box.uploaderd("backfill", "s33")
    assert unknown.code == 2 and "did you mean 's3'?" in unknown.err
    said = await box.uploaderd("backfill", "s3", "--required")
    assert (said.code, said.out, said.err) == (0, "1 recording queued for s3, 3 B\n", "")
    assert box.recordings()["1.ts"].state == "waiting"
    with box.run():
        await box.until(lambda: box.recordings()["1.ts"].local == "removed")
    row = box.recordings()["1.ts"]
    assert row.state == "safe" and row.uploads["s3"].required
    await assert_whole(places["s3"], row.uploads["s3"].key, b"one")


async def test_a_provider_that_goes_makes_nothing_safe(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source()
    box.send_to({name: places[name] for name in ("s3", "directory")})
    box.providers["s3"] |= {"part_size": "5MiB", "max_parts": 1}
    box.daemon["shutdown_grace"] = "1s"
    with box.run() as daemon:
        (folder / "done.ts").write_bytes(b"one")
        await box.until_safe(1)
        used = await box.uploaderd("retire", "s3")
        assert used.code == 1 and "[providers.s3] is still in use" in used.err
        held = endpoint.faults.add(Fault(Kind.HOLD, operation="UploadPart", key="*long.ts", skip=1))
        (folder / "long.ts").write_bytes(content_of(12 * MIB))
        await box.until(lambda: held.fired and box.uploads("directory")["long.ts"].state == "verified")
        box.providers["s3"]["enabled"] = False
        box.write()
        daemon.signal(signal.SIGHUP)  # which cuts off the part that is held
        await box.until(lambda: box.uploads("s3")["long.ts"].state == "queued")
        held.release()
        (folder / "later.ts").write_bytes(b"two")
        await box.until_safe(2)
        assert await places["s3"].vendor.leftovers() == 1
        unknown = await box.uploaderd("retire", "s33")
        assert unknown.code == 2 and "did you mean 's3'?" in unknown.err
        needed = await box.uploaderd("retire", "s3")
        assert (needed.code, needed.out) == (1, "")
        assert "1 recording still waits for a copy there" in needed.err
        said = await box.uploaderd("retire", "s3", "--force")
        assert (said.code, said.out) == (0, "s3 is retired; 1 upload to it will not be made\n"), said.err
        assert "could not be aborted" not in said.err
        assert await places["s3"].vendor.leftovers() == 0
        states = {name: row.state for name, row in box.recordings().items()}
        assert states == {"done.ts": "safe", "later.ts": "safe", "long.ts": "failed"}
        status = await box.status()
        assert status["state"] == "FAILING"
        assert {one["name"]: one["state"] for one in status["providers"]}["s3"] == "retired"
        assert (await box.uploaderd("retry")).out.startswith("0 failed uploads")
        why = await box.uploaderd("why", "long.ts")
        assert "the provider was retired" in why.out
        assert (await box.uploaderd("acknowledge", "long.ts", "--reason", "one is enough")).code == 0
        assert (await box.status())["state"] == "SAFE"
        box.providers["s3"]["enabled"] = True
        box.write()
        daemon.signal(signal.SIGHUP)
        await daemon.says("the new configuration is refused; the old one comes back")
    (told,) = await events(box, "provider-retired")
    assert (told["who"], told["provider"]) == (ME, "s3")
    assert told["detail"] == {"ended": 1, "waiting": 1, "only": 0, "without_file": 0}


async def test_the_only_copies_are_not_given_up_without_a_word(box: Box, places: Mapping[str, Place]) -> None:
    """Without a daemon, whose table is gone."""
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    (folder / "1.ts").write_bytes(b"one")
    with box.run("--until-safe", "--expect", "1") as daemon:
        assert await daemon.ended() == 0
    del box.providers["directory"]
    box.send_to({"s3": places["s3"]})
    box.write()
    said = await box.uploaderd("retire", "directory")
    assert (said.code, said.out) == (1, "")
    assert "1 recording has a verified copy nowhere else, 0 of them no local file either" in said.err
    assert "`uploaderd backfill` another provider first" in said.err
    assert (await box.uploaderd("backfill", "s3")).code == 0
    with box.run():
        await box.until(lambda: box.uploads("s3")["1.ts"].state == "verified")
    said = await box.uploaderd("retire", "directory")
    assert (said.code, said.out, said.err) == (
        0,
        "directory is retired\n",
        "",
    )
    again = await box.uploaderd("retire", "directory")
    assert again.code == 1 and "is retired already" in again.err
    assert box.recordings()["1.ts"].state == "safe"
