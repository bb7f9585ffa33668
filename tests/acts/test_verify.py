"""verify: what is gone, cut or replaced is found, is on record, and comes back only on request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acts.asking import asked
from tests.acts.conftest import ME, events
from tests.contract.place import Place
from tests.end_to_end.box import Box, until
from tests.end_to_end.places import assert_whole, content_of
from tests.strict import Fault, Kind, StrictServer

KIB = 1024
MIB = 1024 * KIB

CONTENTS = {name: content_of(100 * KIB, name) for name in ("gone.ts", "cut.ts", "other.ts", "fine.ts")}
CODES = {"gone.ts": "copy-gone", "cut.ts": "copy-replaced", "other.ts": "copy-replaced"}


async def _all_safe(box: Box) -> None:
    folder = box.source()
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)


async def _harm(box: Box, places: Mapping[str, Place], endpoint: StrictServer) -> None:
    """At each provider: one object is deleted, one cut, and one replaced by another of the same size."""
    for provider, place in places.items():
        uploads = box.uploads(provider)
        _delete(place, endpoint, provider, uploads["gone.ts"].key)
        await place.vendor.put(uploads["cut.ts"].key, CONTENTS["cut.ts"][:-1])
        if provider == "directory":  # the vendor here writes into the file that is there
            _delete(place, endpoint, provider, uploads["other.ts"].key)
        await place.vendor.put(uploads["other.ts"].key, content_of(100 * KIB, "another"))


def _delete(place: Place, endpoint: StrictServer, provider: str, key: str) -> None:
    bucket = place.settings.get("container") or place.settings.get("bucket", "")
    stores: dict[str, Any] = {
        "s3": lambda: endpoint.s3.buckets[bucket].versions,
        "azure": lambda: endpoint.azure.container(bucket).blobs,
        "gcs": lambda: endpoint.gcs.buckets[bucket].objects,
    }
    if provider == "directory":
        (Path(place.settings["path"]) / key).unlink()
    else:
        endpoint.call(lambda: stores[provider]().pop(key))


@pytest.mark.parametrize("daemon", [True, False], ids=["beside a daemon", "alone"])
async def test_it_finds_what_was_deleted_cut_and_replaced(
    daemon: bool, box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    await _all_safe(box)
    box.send_to(places)

    async def differences() -> None:
        said = await box.uploaderd("verify")
        assert (said.code, said.out, said.err) == (0, "16 of 16 copies are there\n", "")
        await _harm(box, places, endpoint)
        said = await box.uploaderd("verify", "fine.ts")
        assert (said.code, said.out) == (0, "4 of 4 copies are there\n")
        said = await box.uploaderd("verify")
        assert (said.code, said.out) == (1, "4 of 16 copies are there\n"), said.err
        assert said.err.count("what to do: `uploaderd retry` uploads it again") == 12
        assert (await box.status())["recordings"]["failed"] == 3
        again = await box.uploaderd("verify")
        assert (again.code, again.out) == (0, "4 of 4 copies are there\n"), (
            "it is on record: no copy any more"
        )

    if daemon:
        with box.run():
            await box.until_safe(len(CONTENTS))
            await differences()
            found = await events(box, *set(CODES.values()))
            assert sorted((one["path"], one["provider"], one["kind"]) for one in found) == sorted(
                (path, provider, code) for path, code in CODES.items() for provider in places
            )
            runs = await events(box, "verify")
            assert [(one["who"], one["detail"]["different"]) for one in runs] == [  # type: ignore[index]
                (ME, 0),
                (ME, 0),
                (ME, 12),
                (ME, 0),
            ]
            for provider, place in places.items():
                assert await place.vendor.get(box.uploads(provider)["gone.ts"].key) is None, "nobody asked"
            assert (await box.uploaderd("retry")).out.startswith("12 failed uploads queued again")
            await _restored(box, places)
    else:
        with box.run("--until-safe", "--expect", "4") as process:
            assert await process.ended() == 0
        await differences()


async def _restored(box: Box, places: Mapping[str, Place]) -> None:
    await box.until_safe(len(CONTENTS))
    for provider, place in places.items():
        for name, upload in box.uploads(provider).items():
            await assert_whole(place, upload.key, CONTENTS[name])


async def test_what_differs_is_uploaded_again_on_request(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    await _all_safe(box)
    box.send_to(places)
    with box.run():
        await box.until_safe(len(CONTENTS))
        await _harm(box, places, endpoint)
        said = await box.uploaderd("verify", "--repair")
        assert (said.code, said.out) == (1, "4 of 16 copies are there\n"), said.err
        assert said.err.count("what to do: it is uploaded again") == 12
        await _restored(box, places)
        for provider, place in places.items():
            _delete(place, endpoint, provider, box.uploads(provider)["fine.ts"].key)
        endpoint.s3.account.denied = {"s3:GetObject"}
        ensured = await box.uploaderd("ensure", "--force", "gone.ts")
        assert ensured.code == 75 and "s3 could not be asked for all of its copies" in ensured.err
        endpoint.s3.account.denied = set()
        ensured = await box.uploaderd("ensure", "--force")
        assert (ensured.code, ensured.err) == (0, "")
        await _restored(box, places)


async def test_a_copy_whose_file_is_gone_too_is_told_so(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source(cleanup={"policy": "delete-when-safe", "keep_for": "1ms"})
    box.send_to({"s3": places["s3"]})
    (folder / "1.ts").write_bytes(b"one")
    with box.run():
        await box.until(lambda: "1.ts" in box.recordings() and box.recordings()["1.ts"].local == "removed")
        _delete(places["s3"], endpoint, "s3", box.uploads("s3")["1.ts"].key)
        said = await box.uploaderd("verify", "--repair")
        assert said.code == 1 and "if its file is there" in said.err
        retried = await box.uploaderd("retry", "1.ts")
        assert retried.code == 1 and "the local file is gone" in retried.err


async def test_deep_reads_everything_back_and_finds_what_no_checksum_tells(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source()
    box.send_to(places)
    with endpoint.faults.expected(
        Fault(Kind.FLIP_AT_REST, operation="PutObject", key="*bad.ts", at_byte=50_000)
    ):
        for name in ("bad.ts", "good.ts"):
            (folder / name).write_bytes(CONTENTS["fine.ts"])
        with box.run():
            await box.until_safe(2)
            said = await box.uploaderd("verify")
            assert (said.code, said.out) == (0, "8 of 8 copies are there\n"), (
                "the server itself knows nothing"
            )
            said = await box.uploaderd("verify", "--deep")
            assert (said.code, said.out) == (1, "7 of 8 copies are there, 800.0 KiB read back\n")
            lines = said.err.splitlines()
            each = ", ".join(f"{name} 200.0 KiB" for name in places)
            assert lines[0] == f"reading back 800.0 KiB ({each})"
            assert "bad.ts: the copy at" in lines[1] and "has another content than was sent" in lines[1]
            assert (await events(box, "copy-damaged"))[0]["provider"] == "s3"


async def test_a_copy_that_was_changed_is_doubtful_until_it_is_read_back(
    box: Box, places: Mapping[str, Place]
) -> None:
    """Written into in place, so that our token and its size are still there."""
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    for name in ("same.ts", "other.ts"):
        (folder / name).write_bytes(CONTENTS["fine.ts"])
    with box.run():
        await box.until_safe(2)
        for name, content in (("same.ts", CONTENTS["fine.ts"]), ("other.ts", CONTENTS["gone.ts"])):
            await places["directory"].vendor.put(box.uploads("directory")[name].key, content)
        said = await box.uploaderd("verify")
        assert (said.code, said.out) == (1, "0 of 2 copies are there\n")
        assert said.err.count("reads it back and tells") == 2
        assert (await box.status())["recordings"]["safe"] == 2, "a doubt changes nothing"
        said = await box.uploaderd("ensure", "--force")
        assert (said.code, said.err) == (0, "")
        assert {name: row.uploads["directory"].attempts for name, row in box.recordings().items()} == {
            "same.ts": 1,
            "other.ts": 2,
        }


async def test_a_deep_run_goes_on_with_what_was_not_read_when_it_was_killed(
    box: Box, places: Mapping[str, Place]
) -> None:
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    (folder / "large.ts").write_bytes(content_of(4 * MIB))
    with box.run() as daemon:
        await box.until_safe(1)
        for number in range(3):
            (folder / f"{number}.ts").write_bytes(b"small")
        await box.until_safe(4)
        none = await box.uploaderd("verify", "--deep", "--resume")
        assert none.code == 1 and "no such run was cut off" in none.err

        def noted() -> Any:
            with box.reading() as conn:
                assert conn is not None
                row = conn.execute("SELECT value FROM meta WHERE name = 'verify'").fetchone()
                return json.loads(row[0]) if row is not None else {}

        async with asked(box, "verify", "--deep", "--rate", "1MiB/s") as asking:
            assert "directory 4.0 MiB" in await asking.says("reading back")
            await box.until(lambda: len(noted().get("done", ())) == 3)
            daemon.kill()
            assert await asking.ends() == 75
    assert noted()["after"] == 0
    with box.run() as daemon:
        await daemon.says("provider opened")
        async with asked(box, "verify", "--deep", "--resume", "--rate", "1MiB/s") as asking:
            assert "directory 4.0 MiB" in await asking.says("reading back")
            asking.interrupt()
            assert "--deep --resume" in await asking.says("goes on from there")
            assert await asking.ends() == 130
        await daemon.says("whoever asked has hung up", within=10)
        said = await box.uploaderd("verify", "--deep", "--resume")
        assert (said.code, said.out) == (0, "1 of 1 copy is there, 4.0 MiB read back\n")
        assert noted() == {}
    assert not daemon.said("Error handling request from ")


async def test_who_hangs_up_ends_it_even_while_a_provider_says_nothing(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source()
    box.send_to({"s3": places["s3"]})
    (folder / "1.ts").write_bytes(b"one")
    with box.run() as daemon:
        await box.until_safe(1)
        with endpoint.faults.expected(Fault(Kind.HOLD, operation="HeadObject", count=None)) as (held,):
            async with asked(box, "verify") as asking:
                await box.until(lambda: held.fired)
                asking.interrupt()
                assert await asking.ends() == 130
            await daemon.says("whoever asked has hung up", within=10)


async def test_a_provider_that_cannot_be_asked_is_no_difference(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source()
    box.send_to({name: places[name] for name in ("s3", "directory")})
    (folder / "1.ts").write_bytes(b"one")
    with box.run():
        await box.until_safe(1)
        endpoint.switch_off()
        said = await box.uploaderd("verify")
        assert (said.code, said.out) == (69, "1 of 1 copy is there\n")
        assert "s3 could not be asked for 1 copy: " in said.err
        assert (await box.status())["recordings"]["safe"] == 1


async def test_what_a_newer_version_replaced_is_missed_by_nobody(
    box: Box, places: Mapping[str, Place]
) -> None:
    folder = box.source(key="{name}")
    box.send_to(places)
    for provider in box.providers.values():
        provider["on_new_version"] = "replace"
    with box.run() as daemon:
        (folder / "a.ts").write_bytes(b"as it was recorded")
        await until(lambda: len(daemon.said("recording safe")) == 1)
        (folder / "a.ts").write_bytes(b"remuxed")
        await until(lambda: len(daemon.said("recording safe")) == 2)
        said = await box.uploaderd("verify")
        (newer, older) = (await box.uploaderd("list", "--json")).lines
        assert (older["state"], older["local"], newer["local"]) == ("safe", "replaced", "present")
        assert {upload["replaced"] for upload in older["uploads"].values()} == {True}
        assert {upload["replaced"] for upload in newer["uploads"].values()} == {False}
        shown = (await box.uploaderd("list")).out.splitlines()
        assert " safe " in shown[1] and " replaced " in shown[2] and "(an older version)" in shown[2]
        assert "a newer version took its place since" in (await box.uploaderd("why", older["id"])).out
    assert (said.code, said.out, said.err) == (0, "4 of 4 copies are there\n", "")
