"""Fifty files of all sizes and names at once, at endpoints that check everything, and into a directory."""

from __future__ import annotations

from collections.abc import Mapping

from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.places import assert_whole, content_of
from tests.strict import StrictServer
from uploaderd.media import content_type

KIB, MIB = 1024, 1024 * 1024
PART = 8 * MIB  # what `part_size = "auto"` begins with

SIZES = [
    *(0, 0),
    *(1, 1, 2, 3, 255, 4095, 4096, 4097),
    *(64 * KIB, 64 * KIB - 1, 64 * KIB + 1, 256 * KIB, 256 * KIB - 1, 256 * KIB + 1),
    *(MIB, MIB + 1, 5 * MIB, 5 * MIB - 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1),
    20 * MIB,
    *(1009 * n for n in range(1, 25)),
]

NAMES = [
    "plain.mp4",
    "with space.mp4",
    "a+b&c=d.ts",
    "100%.mkv",
    "50%25.mkv",
    "#1.mp4",
    "what?.mp4",
    "Übertragung é.mp4",
    "🎬 take.mp4",
    "'quoted' \"twice\".ts",
    "semi;colon,comma.ts",
    "(brackets) [square] {curly}.mp4",
    "deep/er/and/deep.er/x.mp4",
    "back\\slash.mp4",
    "~tilde!.mp4",
]


async def test_fifty_files_are_proven_and_equal_at_every_provider(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source()
    box.send_to(places)
    assert len(SIZES) == 50
    contents = {}
    for number, size in enumerate(SIZES):
        name = NAMES[number - 2] if 2 <= number < 2 + len(NAMES) else f"cam{number % 3}/{number:02}.ts"
        contents[name] = content_of(size, number)
    # The large ones under odd names too: a name that only fails in parts would not show with a byte.
    contents["parts/ä %41 + #.mp4"] = content_of(PART + 1, "odd")
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    sent = {name: content for name, content in contents.items() if content}

    with box.run("--until-safe", "--expect", str(len(sent))) as daemon:
        assert await daemon.ended(within=120) == 0

    listed = {one["path"]: one for one in (await box.uploaderd("list", "--json")).lines}
    assert listed.keys() == contents.keys()
    for name, one in listed.items():
        if not contents[name]:
            assert (one["state"], one["uploads"]) == ("skipped", {})
            continue
        assert one["state"] == "safe"
        for provider, upload in one["uploads"].items():
            assert (upload["state"], upload["error"]) == ("verified", None)
            assert (upload["attempts"], upload["bytes_sent"]) == (1, one["size"])
            assert upload["proof"]["kind"] and upload["proof"]["value"]
            await assert_whole(places[provider], upload["key"], contents[name])
            stored = await places[provider].vendor.get(upload["key"])
            assert stored is not None and stored.content_type == content_type(name)
    for provider, place in places.items():
        keys = {one["uploads"][provider]["key"] for one in listed.values() if one["uploads"]}
        assert await place.vendor.keys() == keys
        assert len(keys) == len(sent)
        assert await place.vendor.leftovers() == 0
    # Every request for a recording was accepted as it was made: nothing was there before, nothing was wrong.
    ours = [entry for entry in endpoint.log.entries() if ".uploaderd" not in entry.key]  # without the probes
    refused = [entry for entry in ours if entry.status >= 400]
    assert {(entry.method, entry.status) for entry in refused} == {("HEAD", 404), ("GET", 404)}
    # A file of one byte takes as long as its round trips do: that says nothing of how to cut the next one.
    for operation in ("UploadPart", "PutBlock", "ResumableChunk"):
        parts = [entry.received for entry in ours if entry.operation == operation]
        assert sum(parts) > 20 * MIB, "nothing was sent in parts: the test has shown nothing"
        assert len(parts) <= 20, f"{operation}: {len(parts)} parts of {min(parts)} to {max(parts)} bytes"
    assert all((folder / name).read_bytes() == content for name, content in contents.items())
