"""What goes in comes out, whatever its size and name."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest

from tests.contract import acts
from tests.contract.conftest import Record
from tests.contract.place import Place
from uploaderd import checksum
from uploaderd.errors import Fault
from uploaderd.provider import Provider

Noise = Callable[[int], bytes]

ODD_NAMES = (
    "two  spaces.mp4",
    " leading and trailing .mp4",
    "plus+plus.mp4",
    "per%cent %41 %2F %.mp4",
    "hash#tag.mp4",
    "what?now=1&then=2.mp4",
    "semi;colon,comma:colon.mp4",
    "quotes'\"`(1)[2]{3}.mp4",
    "~!@$^*_-=|<>.mp4",
    unicodedata.normalize("NFC", "Übergänge é.mp4"),
    unicodedata.normalize("NFD", "Übergänge é.mp4"),
    "録画/カメラ.mp4",
    "🎥 📼/👩‍🚀.mkv",
    "dots/..two.dots../.hidden",
    "cam-1/2026/11/20/" + "x" * 251 + ".mp4",
    "é" * 125 + "y.mp4",
)


@pytest.mark.parametrize("size", [0, 1, 65_536])
async def test_put_stores_exactly_the_file(
    provider: Provider, place: Place, record: Record, noise: Noise, size: int
) -> None:
    content = noise(size)
    spec = acts.spec_of("cam1/a.mp4", size)

    written = await acts.put(provider, spec, await record(content))

    found = await place.vendor.get(spec.key)
    assert found is not None
    assert found.content == content
    assert written.size == size
    assert await place.vendor.keys() == {spec.key}
    assert b"".join([window async for window in provider.read(spec.key)]) == content


@pytest.mark.parametrize(
    "size",
    [(0, 1), (1, 0), (1, 1), (3, 0), (3, 17)],
    ids=["less than one part", "exactly one", "one and a byte", "exactly three", "three and some"],
)
async def test_parts_become_exactly_the_file(
    provider: Provider, place: Place, record: Record, noise: Noise, size: tuple[int, int]
) -> None:
    parts, more = size
    content = noise(parts * place.part_size + more)
    spec = acts.spec_of("cam1/a.mp4", len(content))
    recording = await record(content)
    session = await provider.open(spec, place.part_size)
    sent = await acts.put_rest(provider, session, recording)
    assert await place.vendor.keys() == set(), "visible before it was completed"

    written = await acts.complete(provider, session, sent)

    found = await place.vendor.get(spec.key)
    assert found is not None
    assert found.content == content
    assert written.size == len(content)
    assert b"".join([window async for window in provider.read(spec.key)]) == content
    assert await place.vendor.leftovers() == 0


async def test_parts_may_come_in_any_order_or_are_refused(
    provider: Provider, place: Place, record: Record, noise: Noise
) -> None:
    """Where `limits.ordered` says no, a part that leaves a gap is a fault and changes nothing."""
    content = noise(2 * place.part_size + 5)
    recording = await record(content)
    spec = acts.spec_of("cam1/a.mp4", len(content))
    session = await provider.open(spec, place.part_size)
    offsets = range(0, len(content), place.part_size)
    if provider.limits.ordered:
        with pytest.raises(Fault):
            await acts.put_part(provider, session, recording, offsets[-1])
        sent = await acts.put_rest(provider, session, recording, await provider.parts(session))
    else:
        sent = [await acts.put_part(provider, session, recording, offset) for offset in offsets[::-1]][::-1]

    await acts.complete(provider, session, sent)

    found = await place.vendor.get(spec.key)
    assert found is not None
    assert found.content == content


async def test_a_part_sent_again_takes_the_place_of_the_first(
    provider: Provider, place: Place, record: Record, noise: Noise
) -> None:
    content, other = noise(place.part_size), noise(place.part_size)
    assert content != other
    spec = acts.spec_of("cam1/a.mp4", len(content))
    session = await provider.open(spec, place.part_size)
    await acts.put_part(provider, session, await record(other), 0)

    part = await acts.put_part(provider, session, await record(content), 0)
    await acts.complete(provider, session, [part])

    found = await place.vendor.get(spec.key)
    assert found is not None
    assert found.content == content


async def test_odd_names_stay_as_they_are_and_apart(provider: Provider, place: Place, record: Record) -> None:
    for name in ODD_NAMES:
        content = name.encode()
        await acts.put(provider, acts.spec_of(name, len(content)), await record(content))

    assert await place.vendor.keys() == set(ODD_NAMES)
    for name in ODD_NAMES:
        found = await place.vendor.get(name)
        assert found is not None
        assert found.content == name.encode()
        info = await provider.stat(name)
        assert info is not None
        assert info.size == len(name.encode())


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_odd_names_in_parts(provider: Provider, place: Place, record: Record, name: str) -> None:
    spec = acts.spec_of(name, 3)
    await acts.put_in_parts(provider, spec, await record(b"abc"), place.part_size)

    assert await place.vendor.keys() == {name}
    info = await provider.stat(name)
    assert info is not None
    assert (info.key, info.token) == (name, spec.token)


async def test_stat_of_a_missing_key_is_none(provider: Provider) -> None:
    assert await provider.stat("cam1/never-there.mp4") is None


@pytest.mark.parametrize("in_parts", [False, True], ids=["put", "in parts"])
async def test_what_stat_says_is_true(
    provider: Provider, place: Place, record: Record, noise: Noise, in_parts: bool
) -> None:
    content = noise(place.part_size + 1 if in_parts else 70_000)
    spec = acts.spec_of("cam1/a.mp4", len(content))
    recording = await record(content)
    written = await acts.send(provider, spec, recording, place.part_size if in_parts else None)

    info = await provider.stat(spec.key)

    assert info is not None
    assert (info.key, info.size, info.token) == (spec.key, spec.size, spec.token)
    assert info.etag
    assert (written.etag, written.version_id) == (info.etag, info.version_id)
    truth = checksum.of(content)
    for told in (info, written):
        assert told.crc32c in (None, truth.crc32c)
        assert told.crc64nvme in (None, truth.crc64nvme)


@pytest.mark.parametrize("in_parts", [False, True], ids=["put", "in parts"])
async def test_token_metadata_and_content_type_are_stored(
    provider: Provider, place: Place, record: Record, in_parts: bool
) -> None:
    metadata = {"site": "hall-3", "camera": "Süd 🎥 / 100 %", "note": 'a=b; c, "d"'}
    spec = acts.spec_of("cam1/a.mkv", 3, metadata=metadata, content_type="video/x-matroska")
    recording = await record(b"abc")

    await acts.send(provider, spec, recording, place.part_size if in_parts else None)

    found = await place.vendor.get(spec.key)
    assert found is not None
    assert dict(found.metadata) == metadata
    assert found.content_type == spec.content_type
    assert found.token == spec.token
