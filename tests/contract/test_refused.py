"""What the provider must refuse, and how it says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.contract import acts
from tests.contract.conftest import Record
from tests.contract.place import Place
from uploaderd import checksum
from uploaderd.errors import Corrupted, Fault
from uploaderd.model import Checksum, FailureClass
from uploaderd.provider import Body, Provider, Signs
from uploaderd.reader import OpenRecording

Noise = Callable[[int], bytes]


class Damaged:
    """A body whose last byte is flipped on its way; its checksum is that of the file."""

    def __init__(self, body: Body) -> None:
        self._body = body

    @property
    def offset(self) -> int:
        return self._body.offset

    @property
    def size(self) -> int:
        return self._body.size

    @property
    def checksum(self) -> Checksum:
        return self._body.checksum

    def __len__(self) -> int:
        return len(self._body)

    async def __aiter__(self) -> AsyncIterator[bytes | bytearray]:
        sent = 0
        async for window in self._body:
            sent += len(window)
            yield bytes(window) if sent < self.size else bytes(window[:-1]) + bytes([window[-1] ^ 1])

    async def digest(self) -> Checksum:
        return await self._body.digest()


@pytest.mark.relies_on("checksums")
async def test_a_put_damaged_on_its_way_is_refused(
    provider: Provider, place: Place, record: Record, noise: Noise
) -> None:
    recording = await record(noise(70_000))
    body = recording.body(0, recording.size, md5=provider.limits.wants_md5)

    with pytest.raises(Corrupted):
        await provider.put(acts.spec_of("cam1/a.mp4", recording.size), Damaged(body))

    assert await place.vendor.keys() == set()


@pytest.mark.relies_on("checksums")
async def test_a_part_damaged_on_its_way_is_noticed(
    provider: Provider, place: Place, record: Record, noise: Noise
) -> None:
    """At once, or, where parts carry no checksum, at completion."""
    recording = await record(noise(2 * place.part_size))
    session = await provider.open(acts.spec_of("cam1/a.mp4", recording.size), place.part_size)
    body = recording.body(0, place.part_size, md5=provider.limits.wants_md5)

    async def sent() -> None:
        first = await provider.put_part(session, 1, Damaged(body))
        assert first.checked is None, "the reply cannot have agreed"
        second = await acts.put_part(provider, session, recording, place.part_size)
        await acts.complete(provider, session, [first, second])

    with pytest.raises(Corrupted):
        await sent()

    assert await place.vendor.keys() == set()
    await provider.abort(session)


@pytest.mark.relies_on("checksums")
async def test_completion_compares_the_whole_content(
    provider: Provider, place: Place, record: Record, noise: Noise
) -> None:
    """Where the provider proves the whole, content that is not what we claim stays invisible."""
    recording = await record(noise(place.part_size + 1))
    session = await provider.open(acts.spec_of("cam1/a.mp4", recording.size), place.part_size)
    parts = await acts.put_rest(provider, session, recording)
    claimed = checksum.of(noise(place.part_size + 1))

    if provider.limits.proves_whole:
        with pytest.raises(Corrupted):
            await provider.complete(session, parts, claimed)
        assert await place.vendor.keys() == set()
    else:
        assert all(part.checked for part in parts), "nothing at all proves the content"
        await acts.complete(provider, session, parts)


@pytest.mark.relies_on("login")
@pytest.mark.parametrize("step", ["probe", "put", "open"])
async def test_a_wrong_login_pauses_the_provider(place: Place, record: Record, step: str) -> None:
    fault = await _fault_at(place.wrong_login, step, await record(b"abc"), place.part_size)

    assert fault.failure is FailureClass.PROVIDER
    assert fault.recognised
    assert fault.hint
    assert await place.vendor.keys() == set()
    for word in place.wrong_login.values():
        if isinstance(word, str) and "not" in word:  # a deliberately wrong secret
            assert word not in f"{fault} {fault.message} {fault.hint}"


@pytest.mark.parametrize("step", ["probe", "put", "open"])
async def test_a_missing_bucket_pauses_the_provider(place: Place, record: Record, step: str) -> None:
    fault = await _fault_at(place.missing_bucket, step, await record(b"abc"), place.part_size)

    assert fault.failure is FailureClass.PROVIDER
    assert fault.recognised
    assert fault.hint


async def test_a_probe_of_a_good_place_passes_and_leaves_nothing(provider: Provider, place: Place) -> None:
    await provider.probe()

    assert await place.vendor.keys() == set()
    assert await place.vendor.leftovers() == 0


@pytest.mark.relies_on("signing")
async def test_a_signed_url_reads_the_object_and_no_other(
    provider: Provider, place: Place, record: Record
) -> None:
    await acts.put(provider, acts.spec_of("cam 1/ü+1.mp4", 3), await record(b"abc"))
    await acts.put(provider, acts.spec_of("cam 1/ü+2.mp4", 3), await record(b"def"))
    assert isinstance(provider, Signs)

    url, good_for = await provider.sign("cam 1/ü+1.mp4", 600)

    assert 0 < good_for <= 600
    async with aiohttp.ClientSession() as browser:
        async with browser.get(URL(url, encoded=True)) as reply:
            assert (reply.status, await reply.read()) == (200, b"abc")
        async with browser.get(URL(url.replace("1.mp4", "2.mp4", 1), encoded=True)) as reply:
            assert reply.status in (401, 403)


async def test_what_it_says_about_itself_holds_no_secret(provider: Provider, place: Place) -> None:
    said = f"{provider.login} {provider.target} {provider.address('cam1/a b.mp4')} {provider!r}"

    assert provider.login
    assert provider.target
    for key, value in place.settings.items():
        if any(part in key for part in ("secret", "key", "token", "connection")) and isinstance(value, str):
            assert value not in said


async def _fault_at(settings: dict[str, Any], step: str, recording: OpenRecording, part_size: int) -> Fault:
    provider = await acts.opened(settings)
    spec = acts.spec_of("cam1/a.mp4", 3)
    deeds: dict[str, Callable[[], Awaitable[object]]] = {
        "probe": provider.probe,
        "put": lambda: acts.put(provider, spec, recording),
        # Not `open` alone: Azure has none, and meets the fault with its first part.
        "open": lambda: acts.put_in_parts(provider, spec, recording, part_size),
    }
    try:
        with pytest.raises(Fault) as caught:
            await deeds[step]()
        return caught.value
    finally:
        await provider.aclose()
