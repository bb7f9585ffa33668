"""ensure: what is there now becomes safe, or it is said what keeps it; beside a daemon and without one."""

from __future__ import annotations

import signal
from collections.abc import Mapping

import pytest

from tests.acts.asking import asked
from tests.acts.conftest import ME, events
from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.places import assert_whole, content_of
from tests.strict import Fault, Kind, StrictServer

MIB = 1024 * 1024


@pytest.mark.parametrize("daemon", [True, False], ids=["beside a daemon", "alone"])
async def test_what_was_missed_is_queued_and_waited_for(
    daemon: bool, box: Box, places: Mapping[str, Place]
) -> None:
    """Beside a daemon that is about to look: what it had not found yet is safe when the command ends."""
    folder = box.source(polling=True, sweep_every="100d")
    box.send_to({name: places[name] for name in ("s3", "directory")})
    contents = {"a.ts": content_of(6 * MIB), "sub/b.ts": b"b", "\udcff.ts": b"odd"}
    (folder / "sub").mkdir()

    async def run() -> None:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        said = await box.uploaderd("ensure")
        assert said.code == 0 and said.out.startswith("safe: "), said.err
        if not daemon:
            assert said.out == "safe: 3 recordings\n"
        rows = box.recordings()
        assert {name: row.state for name, row in rows.items()} == dict.fromkeys(contents, "safe")
        for name, content in contents.items():
            for provider in ("s3", "directory"):
                await assert_whole(places[provider], rows[name].uploads[provider].key, content)
        said = await box.uploaderd("ensure")
        assert (said.code, said.out) == (0, "safe: everything was already\n")

    if daemon:
        with box.run() as process:
            await process.says("provider opened", provider="s3")
            await run()
    else:
        box.write()
        await run()
        status = await box.status()
        assert (status["state"], status["recordings"]["safe"]) == ("STOPPED", 3)


async def test_whoever_vouches_need_not_wait_for_quiet_but_a_writer_is_waited_for(
    box: Box, places: Mapping[str, Place]
) -> None:
    folder = box.source(quiet_for="1h")
    box.send_to({"directory": places["directory"]})
    with box.run() as daemon:
        await daemon.says("provider opened")
        (folder / "1.ts").write_bytes(b"one")
        late = await box.uploaderd("ensure", "1.ts", "--timeout", "1s")
        assert (late.code, late.out) == (75, "")
        assert "the time is up, and 1 of 1 recording are not safe" in late.err
        assert f"{folder}/1.ts: it was not quiet for long enough" in late.err
        vouched = await box.uploaderd("ensure", "--finished", str(folder / "1.ts"))
        assert (vouched.code, vouched.out) == (0, "safe: 1 recording\n")
        with (folder / "2.ts").open("wb") as recorder:
            recorder.write(b"two")
            recorder.flush()
            async with asked(box, "ensure", "--finished", "2.ts") as asking:
                assert "2.ts" in await asking.says("it is open for writing")
                recorder.close()
                assert await asking.ends() == 0
    rows = box.recordings()
    assert {row.finished_by for row in rows.values()} == {"vouched"}
    await assert_whole(places["directory"], rows["2.ts"].uploads["directory"].key, b"two")
    told = await events(box, "ensure")
    assert [(one["who"], one["detail"]) for one in told] == [
        (ME, {"finished": True, "files": ["hall: 1.ts"]}),
        (ME, {"finished": True, "files": ["hall: 2.ts"]}),
    ]


async def test_only_what_was_asked_for_is_waited_for_and_what_is_wrong_is_said(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source(key="{path}")
    (folder / "sub").mkdir()
    box.send_to({"s3": places["s3"]})
    box.providers["s3"]["on_conflict"] = "fail"
    await places["s3"].vendor.put("sub/taken.ts", b"a stranger's")
    with box.run() as daemon:
        await daemon.says("provider opened")
        held = endpoint.faults.add(Fault(Kind.HOLD, operation="PutObject", key="slow.ts"))
        for name in ("slow.ts", "quick.ts", "sub/taken.ts", "sub/fine.ts"):
            (folder / name).write_bytes(name.encode())
        said = await box.uploaderd("ensure", "quick.ts")
        assert (said.code, said.out) == (0, "safe: 1 recording\n")
        assert box.recordings()["slow.ts"].state == "waiting"
        said = await box.uploaderd("ensure", str(folder / "sub"))
        assert (said.code, said.out) == (1, "")
        assert f"{folder}/sub/taken.ts: failed: s3: another object is at" in said.err
        assert box.recordings()["sub/fine.ts"].state == "safe"
        assert box.recordings()["slow.ts"].state == "waiting", "the test has shown nothing"
        assert (await box.uploaderd("pause", "s3")).code == 0
        async with asked(box, "ensure", "slow.ts") as asking:
            await asking.says(f"waiting for s3: paused by {ME}")
            held.release()
            assert (await box.uploaderd("resume", "s3")).code == 0
            assert await asking.ends() == 0
        unknown = await box.uploaderd("ensure", "quik.ts")
        assert unknown.code == 2 and 'did you mean "quick.ts"?' in unknown.err
        empty = await box.uploaderd("ensure", "")
        assert empty.code == 2 and "an empty path names nothing" in empty.err
        elsewhere = await box.uploaderd("ensure", "..")
        assert elsewhere.code == 2, "the folder that one is in is not each source's root"
        (folder / "x.tmp").write_bytes(b"never taken")
        untaken = await box.uploaderd("ensure", str(folder / "x.tmp"))
        assert untaken.code == 2 and "no source takes" in untaken.err and "uploaderd why" in untaken.err


async def test_a_missing_source_is_no_success(box: Box, places: Mapping[str, Place]) -> None:
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    box.write()
    folder.rmdir()
    said = await box.uploaderd("ensure")
    assert (said.code, said.out) == (1, "")
    assert "source hall" in said.err


async def test_a_reload_does_not_end_the_wait_and_the_end_of_the_daemon_does(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source()
    box.send_to({"s3": places["s3"]})
    box.daemon["shutdown_grace"] = "1s"
    with box.run() as daemon:
        await daemon.says("provider opened")
        held = endpoint.faults.add(Fault(Kind.HOLD, operation="PutObject", key="*1.ts", count=None))
        (folder / "1.ts").write_bytes(b"one")
        await box.until(lambda: held.fired)
        async with asked(box, "ensure") as asking:
            await daemon.says("asked to act", act="ensure")
            box.daemon["behind_after"] = "20m"
            box.write()
            daemon.signal(signal.SIGHUP)
            await box.until(lambda: len(daemon.said("provider opened")) == 2)
            endpoint.faults.remove(held)
            assert await asking.ends() == 0
        held = endpoint.faults.add(Fault(Kind.HOLD, operation="PutObject", key="*2.ts", count=None))
        (folder / "2.ts").write_bytes(b"two")
        async with asked(box, "ensure") as asking:
            await box.until(lambda: held.fired and len(daemon.said("asked to act")) == 2)
            daemon.terminate()
            assert await asking.ends() == 75
            assert await daemon.ended() == 0


async def test_alone_it_can_be_interrupted_and_goes_on_from_its_parts(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    content = content_of(20 * MIB)
    folder = box.source()
    box.send_to({"s3": places["s3"]})
    box.providers["s3"] |= {"part_size": "5MiB", "max_parts": 1}
    box.write()
    (folder / "long.ts").write_bytes(content)
    held = endpoint.faults.add(Fault(Kind.HOLD, operation="UploadPart", key="*long.ts", skip=1))
    async with asked(box, "ensure") as asking:
        await box.until(lambda: held.fired)
        asking.interrupt()
        held.release()
        assert await asking.ends() == 130
    said = await box.uploaderd("ensure", "long.ts")
    assert (said.code, said.out) == (0, "safe: 1 recording\n")
    upload = box.uploads("s3")["long.ts"]
    assert (upload.bytes_sent, upload.resumed_from) == (len(content), 10 * MIB)
