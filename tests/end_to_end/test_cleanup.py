"""`delete-when-safe`, as an operator has it: a daemon, all providers, a recorder that goes on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.places import content_of

SIZE = 300_000
CLEANUP = {"policy": "delete-when-safe", "keep_for": "0s", "remove_empty_dirs": True}


def _box(box: Box, places: dict[str, Place], *, same_device_counts: bool = True, **cleanup: Any) -> Path:
    folder = box.source(cleanup=CLEANUP | cleanup)
    box.send_to(places)
    box.providers["directory"]["same_device_counts"] = same_device_counts
    return folder


def _write(folder: Path, *names: str) -> dict[str, bytes]:
    contents = {name: content_of(SIZE, name) for name in names}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return contents


async def test_files_go_once_they_are_everywhere_and_the_history_says_so(
    box: Box, places: dict[str, Place]
) -> None:
    folder = _box(box, places)
    contents = _write(folder, *(f"2026/11/{number}.mp4" for number in range(12)))
    with box.run():
        await box.until(lambda: sum(row.local == "removed" for row in box.recordings().values()) == 12)
        assert list(folder.iterdir()) == []
        for row in box.recordings().values():
            for name, upload in row.uploads.items():
                found = await places[name].vendor.get(upload.key)
                assert found is not None
                assert found.content == contents[os.fsdecode(row.path)]
        history = await box.uploaderd("history", "2026/11/3.mp4", "--json")
        (removed,) = [line for line in history.lines if line.get("kind") == "removed"]
        assert {copy["provider"] for copy in removed["detail"]["copies"]} == set(places)
        status = await box.status()
        assert (status["state"], status["recordings"]["safe"]) == ("SAFE", 12)


async def test_a_copy_on_the_same_disk_does_not_count(box: Box, places: dict[str, Place]) -> None:
    folder = _box(box, places, same_device_counts=False)
    (name,) = _write(folder, "a.mp4")
    with box.run() as daemon:
        line = await daemon.says("local file kept", path=name)
        assert line["why"] == "same-device"
        assert (folder / name).exists()
        box.providers["directory"]["same_device_counts"] = True
        box.write()
        daemon.signal(signal.SIGHUP)
        await box.until(lambda: not (folder / name).exists())


async def test_killed_again_and_again_it_removes_each_once_and_loses_none(
    box: Box, places: dict[str, Place]
) -> None:
    folder = _box(box, places)
    names = [f"cam{number % 3}/{number}.mp4" for number in range(60)]
    contents = _write(folder, *names)
    kills = 0
    while True:
        gone = sum(row.local == "removed" for row in box.recordings().values())
        if gone == len(names):
            break
        with box.run() as daemon:
            try:
                await box.until(
                    lambda: (
                        (now := sum(r.local == "removed" for r in box.recordings().values())) > gone + 8  # noqa: B023
                        or now == len(names)
                    )
                )
            finally:
                daemon.kill()
        kills += 1
    assert kills >= 3
    with box.reading() as conn:
        assert conn is not None
        removed = [
            json.loads(detail)["path"]
            for (detail,) in conn.execute("SELECT detail FROM events WHERE kind = 'removed'")
        ]
    assert sorted(removed) == sorted(names)
    assert not [path for path in folder.rglob("*") if path.is_file()]
    for row in box.recordings().values():
        for name, upload in row.uploads.items():
            found = await places[name].vendor.get(upload.key)
            assert found is not None
            assert found.content == contents[os.fsdecode(row.path)]


async def test_a_recorder_that_reopens_its_file_keeps_it(box: Box, places: dict[str, Place]) -> None:
    folder = _box(box, places, keep_for="1s")
    (name,) = _write(folder, "a.mp4")
    path = folder / name
    with box.run() as daemon:
        await box.until_safe(1)
        with path.open("ab") as recorder:
            line = await daemon.says("local file kept", path=name)
            assert line["why"] == "writer"
            recorder.write(b"and more")
        await box.until(lambda: len(box.recordings()) == 1 and not path.exists())
        rows = box.recordings()
    found = await places["s3"].vendor.get(rows[name].uploads["s3"].key)
    assert found is not None
    assert found.content == content_of(SIZE, name) + b"and more"
