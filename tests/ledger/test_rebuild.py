"""A ledger that was lost or damaged: nothing is sent again, wherever it was sent to."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing

import pytest

from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.conftest import box, endpoint, places
from tests.end_to_end.places import assert_whole, content_of
from tests.ledger.test_check import damage

__all__ = ["box", "endpoint", "places"]

MIB = 2**20


@pytest.fixture
def files(box: Box) -> dict[str, bytes]:
    """What the recorder left: small and large files, and two versions at one path."""
    box.source()
    return {
        "small.mp4": content_of(1000),
        "deep/ä b.mp4": content_of(3 * MIB),
        "large.mp4": content_of(11 * MIB),
        "again.mp4": content_of(2000, "first"),
    }


def record(box: Box, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = box.folder / "recordings" / "hall" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


async def lived(box: Box, places: Mapping[str, Place], files: dict[str, bytes]) -> dict[str, set[str]]:
    """All of it is safe at every place; the keys there. `again.mp4` lies there in two versions."""
    for name, place in places.items():
        box.providers[name] = dict(place.settings) | {"part_size": "8MiB"}
    record(box, files)
    with box.run():
        await box.until_safe(4)
        files["again.mp4"] = content_of(2000, "second")
        record(box, {"again.mp4": files["again.mp4"]})
        await box.until(lambda: (again := box.recordings()["again.mp4"]).row == 5 and again.state == "safe")
    keys = {name: await place.vendor.keys() for name, place in places.items()}
    assert all(len(found) == 5 for found in keys.values()), "a version has a key of its own"
    return keys


async def assert_nothing_changed(
    box: Box, places: Mapping[str, Place], files: Mapping[str, bytes], keys: Mapping[str, set[str]]
) -> None:
    """Every upload is proven without a byte, and every place is as it was."""
    for path, row in box.recordings().items():
        assert row.state == "safe", path
        for name, upload in row.uploads.items():
            assert upload.bytes_sent == 0, (path, name)
            assert upload.proof_kind is not None
            assert upload.proof_kind.startswith("adopted"), (path, name, upload.proof_kind)
            await assert_whole(places[name], upload.key, files[path])
    for name, place in places.items():
        assert await place.vendor.keys() == keys[name]
        assert await place.vendor.leftovers() == 0


async def test_a_damaged_ledger_is_rebuilt_and_nothing_is_sent(
    box: Box, places: Mapping[str, Place], files: dict[str, bytes]
) -> None:
    keys = await lived(box, places, files)
    damage(box.ledger, "uploads")
    old = box.ledger.read_bytes()
    assert (await box.uploaderd("ledger", "check")).code == 1
    done = await box.uploaderd("ledger", "rebuild")
    assert done.code == 0, done.err
    assert sorted(done.out.splitlines()) == sorted(f"{name}: 4 adopted, 0 not there" for name in places)
    (aside,) = box.folder.glob("ledger.db.damaged-*Z")
    assert aside.read_bytes() == old
    assert aside.name in done.err
    assert stat.S_IMODE(box.ledger.stat().st_mode) == 0o600
    assert (await box.uploaderd("ledger", "check")).code == 0
    await assert_nothing_changed(box, places, files, keys)
    with box.run():
        record(box, {"new.mp4": b"new"})
        await box.until_safe(5)
    rows = box.recordings()
    assert [upload.bytes_sent for upload in rows.pop("new.mp4").uploads.values()] == [3] * 4
    assert {upload.bytes_sent for row in rows.values() for upload in row.uploads.values()} == {0}


async def test_a_daemon_without_its_ledger_finds_everything_by_itself(
    box: Box, places: Mapping[str, Place], files: dict[str, bytes]
) -> None:
    keys = await lived(box, places, files)
    for path in box.folder.glob("ledger.db*"):
        path.unlink()
    with box.run():
        await box.until_safe(4)
    await assert_nothing_changed(box, places, files, keys)


async def test_what_is_not_there_is_counted_and_left_to_the_daemon(
    box: Box, places: Mapping[str, Place], files: dict[str, bytes]
) -> None:
    keys = await lived(box, places, files)
    record(box, {"never.mp4": b"never sent", "other.mp4": b"ours"})
    (small,) = (key for key in keys["s3"] if key.endswith("/small.mp4"))
    for place in places.values():
        await place.vendor.put(small.replace("small", "other"), b"unrelated")
    done = await box.uploaderd("ledger", "rebuild", "--force")
    assert done.code == 0, done.err
    assert sorted(done.out.splitlines()) == sorted(f"{name}: 4 adopted, 2 not there" for name in places)
    waiting = [row for row in box.recordings().values() if row.state == "waiting"]
    assert {row.path for row in waiting} == {b"never.mp4", b"other.mp4"}
    for row in waiting:
        for upload in row.uploads.values():
            assert (upload.state, upload.attempts, upload.bytes_sent) == ("queued", 0, 0)
    with box.run():
        await box.until_safe(6)


async def test_overwrite_does_not_cost_the_older_version(
    box: Box, places: Mapping[str, Place], files: dict[str, bytes]
) -> None:
    """What the configuration says of strangers' objects must not make a look change anything."""
    keys = await lived(box, places, files)
    for provider in box.providers.values():
        provider["on_conflict"] = "overwrite"
    box.write()
    done = await box.uploaderd("ledger", "rebuild", "--force")
    assert done.code == 0, done.err
    await assert_nothing_changed(box, places, files, keys)
    first = content_of(2000, "first")
    for name, place in places.items():
        contents = [found.content for key in keys[name] if (found := await place.vendor.get(key)) is not None]
        assert first in contents


async def test_a_provider_that_does_not_answer_is_named(
    box: Box, places: Mapping[str, Place], files: dict[str, bytes]
) -> None:
    keys = await lived(box, places, files)
    settings = box.providers["s3"]
    box.providers["s3"] = dict(places["s3"].wrong_login) | {"part_size": "8MiB"}
    marker = next((box.folder).glob("**/.uploaderd/marker"))
    marker.unlink()
    box.write()
    damage(box.ledger, "recordings")
    done = await box.uploaderd("ledger", "rebuild")
    assert done.code == 1
    assert "s3 could not be asked for everything" in done.err
    assert "marker" in done.err, "an empty mount point is not an empty provider"
    assert "azure: 4 adopted, 0 not there" in done.out.splitlines()
    assert str(places["s3"].wrong_login["secret_access_key"]) not in done.out + done.err
    marker.touch()
    box.providers["s3"] = settings
    with box.run():
        await box.until_safe(4)
    await assert_nothing_changed(box, places, files, keys)


async def test_a_source_that_is_missing_is_named(
    box: Box, places: Mapping[str, Place], files: dict[str, bytes]
) -> None:
    del files
    for name, place in places.items():
        box.providers[name] = dict(place.settings)
    (box.folder / "recordings" / "hall").rmdir()
    box.write()
    done = await box.uploaderd("ledger", "rebuild")
    assert done.code == 1
    assert "source hall" in done.err


async def test_a_sound_ledger_a_held_one_and_a_newer_one_are_kept(box: Box) -> None:
    box.source()
    (box.folder / "nas").mkdir()
    box.providers["nas"] = {"type": "directory", "path": str(box.folder / "nas")}
    with box.run() as daemon:
        await daemon.says("provider opened")
        held = await box.uploaderd("ledger", "rebuild", "--force")
        assert held.code == 75, held.err
    sound = await box.uploaderd("ledger", "rebuild")
    assert sound.code == 2
    assert "--force" in sound.err
    with closing(sqlite3.connect(box.ledger)) as conn, conn:
        conn.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('uploaderd', 'm999', '')"
        )
    newer = await box.uploaderd("ledger", "rebuild")
    assert newer.code == 1
    assert "newer" in newer.err
    assert not list(box.folder.glob("ledger.db.damaged-*"))


async def test_the_write_ahead_log_goes_with_its_ledger(box: Box) -> None:
    """A new ledger beside the old log would take it for its own."""
    box.source()
    (box.folder / "nas").mkdir()
    box.providers["nas"] = {"type": "directory", "path": str(box.folder / "nas")}
    with box.run() as daemon:
        record(box, {"one.mp4": b"one"})
        await box.until_safe(1)
        daemon.kill()
    assert box.ledger.with_name("ledger.db-wal").stat().st_size > 0
    assert (await box.uploaderd("ledger", "rebuild", "--force")).code == 0
    (aside,) = box.folder.glob("ledger.db.damaged-*Z")
    with closing(sqlite3.connect(aside)) as conn:
        assert conn.execute("SELECT count(*) FROM recordings").fetchone() == (1,)
    assert (await box.uploaderd("ledger", "check")).code == 0
    history = await box.uploaderd("history", "--json")
    kinds = [line["kind"] for line in map(json.loads, history.out.splitlines()) if line["type"] == "event"]
    assert kinds[0] == "rebuild-begun"
    assert os.fsdecode(aside.name) in history.out
