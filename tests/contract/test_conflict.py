"""A key that is taken is never overwritten by accident."""

from __future__ import annotations

import pytest

from tests.contract import acts
from tests.contract.conftest import Record
from tests.contract.place import Place
from uploaderd.errors import KeyTaken
from uploaderd.provider import Provider

KEY = "cam1/a.mp4"


@pytest.mark.relies_on("preconditions")
@pytest.mark.parametrize("content", [b"mine", b"theirs"], ids=["same content", "other content"])
async def test_put_leaves_a_strangers_object(
    provider: Provider, place: Place, record: Record, content: bytes
) -> None:
    await place.vendor.put(KEY, content)

    with pytest.raises(KeyTaken):
        await acts.put(provider, acts.spec_of(KEY, 4), await record(b"mine"))

    found = await place.vendor.get(KEY)
    assert found is not None
    assert (found.content, found.token) == (content, None)
    info = await provider.stat(KEY)
    assert info is not None
    assert (info.size, info.token) == (len(content), None)


@pytest.mark.relies_on("preconditions")
@pytest.mark.parametrize("content", [b"mine", b"theirs"], ids=["same content", "other content"])
async def test_complete_leaves_an_object_that_came_meanwhile(
    provider: Provider, place: Place, record: Record, content: bytes
) -> None:
    session = await provider.open(acts.spec_of(KEY, 4), place.part_size)
    parts = await acts.put_rest(provider, session, await record(b"mine"))
    await place.vendor.put(KEY, content)

    with pytest.raises(KeyTaken):
        await acts.complete(provider, session, parts)

    found = await place.vendor.get(KEY)
    assert found is not None
    assert (found.content, found.token) == (content, None)
    assert await provider.abort(session)
    assert await place.vendor.leftovers() == 0


@pytest.mark.relies_on("preconditions")
async def test_ours_is_told_by_its_token(provider: Provider, record: Record) -> None:
    first, second = acts.spec_of(KEY, 4), acts.spec_of(KEY, 4)
    recording = await record(b"mine")
    await acts.put(provider, first, recording)

    with pytest.raises(KeyTaken):
        await acts.put(provider, second, recording)

    info = await provider.stat(KEY)
    assert info is not None
    assert info.token == first.token


@pytest.mark.parametrize("in_parts", [False, True], ids=["put", "in parts"])
async def test_the_named_version_is_replaced(
    provider: Provider, place: Place, record: Record, in_parts: bool
) -> None:
    old = await acts.put(provider, acts.spec_of(KEY, 3), await record(b"old"))
    spec = acts.spec_of(KEY, 5, replaces=old.revision)
    recording = await record(b"newer")

    new = await acts.send(provider, spec, recording, place.part_size if in_parts else None)

    found = await place.vendor.get(KEY)
    assert found is not None
    assert (found.content, found.token) == (b"newer", spec.token)
    assert new.etag != old.etag
    assert await place.vendor.keys() == {KEY}


@pytest.mark.relies_on("preconditions")
@pytest.mark.parametrize("in_parts", [False, True], ids=["put", "in parts"])
async def test_another_version_than_the_named_is_left(
    provider: Provider, place: Place, record: Record, in_parts: bool
) -> None:
    first = await acts.put(provider, acts.spec_of(KEY, 3), await record(b"one"))
    second = acts.spec_of(KEY, 3, replaces=first.revision)
    await acts.put(provider, second, await record(b"two"))
    third = acts.spec_of(KEY, 5, replaces=first.revision)
    recording = await record(b"three")

    with pytest.raises(KeyTaken):
        await acts.send(provider, third, recording, place.part_size if in_parts else None)

    found = await place.vendor.get(KEY)
    assert found is not None
    assert (found.content, found.token) == (b"two", second.token)


@pytest.mark.relies_on("preconditions")
async def test_a_version_that_is_gone_is_not_replaced_by_a_new_object(
    provider: Provider, place: Place, record: Record
) -> None:
    old = await acts.put(provider, acts.spec_of("other", 3), await record(b"old"))

    with pytest.raises(KeyTaken):
        await acts.put(provider, acts.spec_of(KEY, 3, replaces=old.revision), await record(b"new"))

    assert await place.vendor.keys() == {"other"}
