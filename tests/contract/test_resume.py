"""What the provider holds survives us: a new provider object and a killed process go on from it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.contract import acts
from tests.contract.conftest import Record
from tests.contract.place import Place
from uploaderd.errors import KeyTaken, SessionGone
from uploaderd.model import ObjectSpec, Session
from uploaderd.provider import Provider

Noise = Callable[[int], bytes]


async def test_a_new_session_holds_nothing(provider: Provider, place: Place) -> None:
    session = await provider.open(acts.spec_of("cam1/a.mp4", 2 * place.part_size), place.part_size)

    assert list(await provider.parts(session)) == []


async def test_parts_tells_what_is_held(
    provider: Provider, place: Place, record: Record, noise: Noise
) -> None:
    recording = await record(noise(3 * place.part_size))
    session = await provider.open(acts.spec_of("cam1/a.mp4", recording.size), place.part_size)
    sent = [await acts.put_part(provider, session, recording, n * place.part_size) for n in range(2)]

    held = await provider.parts(session)

    if provider.limits.ordered:
        assert [(part.offset, part.size) for part in held] == [(0, 2 * place.part_size)]
    else:
        assert [(part.number, part.offset, part.size, part.etag) for part in held] == [
            (part.number, part.offset, part.size, part.etag) for part in sent
        ]


@pytest.mark.parametrize("sent", [0, 1, 2, 3], ids=lambda sent: f"{sent} of 3 parts")
async def test_another_provider_object_goes_on(
    provider: Provider, place: Place, record: Record, noise: Noise, sent: int
) -> None:
    content = noise(2 * place.part_size + 9)
    recording = await record(content)
    spec = acts.spec_of("cam1/a.mp4", len(content))
    session = await provider.open(spec, place.part_size)
    for n in range(sent):
        await acts.put_part(provider, session, recording, n * place.part_size)

    other = await acts.opened(place.settings)
    try:
        held = await other.parts(session)
        assert sum(part.size for part in held) >= min(sent, 2) * place.part_size
        parts = await acts.put_rest(other, session, recording, held)
        await acts.complete(other, session, parts)
    finally:
        await other.aclose()

    found = await place.vendor.get(spec.key)
    assert found is not None
    assert (found.content, found.token) == (content, spec.token)
    assert await place.vendor.leftovers() == 0


async def test_another_process_goes_on_after_a_kill(
    provider: Provider, place: Place, record: Record, noise: Noise, source: Path
) -> None:
    content = noise(3 * place.part_size + 1)
    recording = await record(content)
    order = {
        "settings": place.settings,
        "root": str(source),
        "path": "0.mp4",
        "part_size": place.part_size,
        "parts": 2,
        "spec": asdict(acts.spec_of("cam1/a b+ü.mp4", len(content))),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contract.other_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(order).encode())
    process.stdin.write_eof()
    line = await process.stdout.readline()
    process.kill()
    await process.wait()
    said = json.loads(line)
    spec = ObjectSpec(**said["session"].pop("spec"))
    session = Session(spec=spec, **said["session"])

    held = await provider.parts(session)
    assert sum(part.size for part in held) == 2 * place.part_size == sum(size for _, size in said["parts"])
    await acts.complete(provider, session, await acts.put_rest(provider, session, recording, held))

    found = await place.vendor.get(spec.key)
    assert found is not None
    assert (found.content, found.token) == (content, spec.token)
    assert await place.vendor.leftovers() == 0


async def test_abort_twice_leaves_nothing(
    provider: Provider, place: Place, record: Record, noise: Noise
) -> None:
    recording = await record(noise(place.part_size + 1))
    session = await provider.open(acts.spec_of("cam1/a.mp4", recording.size), place.part_size)
    await acts.put_part(provider, session, recording, 0)

    assert await provider.abort(session)
    assert await provider.abort(session)

    assert await place.vendor.leftovers() == 0
    assert await place.vendor.keys() == set()


async def test_abort_after_completion_leaves_the_object(
    provider: Provider, place: Place, record: Record
) -> None:
    spec = acts.spec_of("cam1/a.mp4", 3)
    session = await provider.open(spec, place.part_size)
    await acts.complete(provider, session, await acts.put_rest(provider, session, await record(b"abc")))

    assert await provider.abort(session)

    assert await place.vendor.keys() == {spec.key}


async def test_completing_again_makes_nothing_else(provider: Provider, place: Place, record: Record) -> None:
    """A lost reply looks like this: the second try must not make anything else."""
    spec = acts.spec_of("cam1/a.mp4", 3)
    session = await provider.open(spec, place.part_size)
    parts = await acts.put_rest(provider, session, await record(b"abc"))
    await acts.complete(provider, session, parts)

    try:
        await acts.complete(provider, session, parts)  # S3 may say again what it said
    except (SessionGone, KeyTaken):
        pass  # the caller looks, and finds its own token

    info = await provider.stat(spec.key)
    assert info is not None
    assert info.token == spec.token
    assert await place.vendor.keys() == {spec.key}


@pytest.mark.relies_on("aborting")
async def test_a_session_that_was_aborted_is_gone(provider: Provider, place: Place, record: Record) -> None:
    session = await provider.open(acts.spec_of("cam1/a.mp4", 3), place.part_size)
    parts = await acts.put_rest(provider, session, await record(b"abc"))
    await provider.abort(session)

    with pytest.raises(SessionGone):
        await acts.complete(provider, session, parts)

    assert await place.vendor.keys() == set()


async def test_two_sessions_of_one_key_do_not_mix(
    provider: Provider, place: Place, record: Record, noise: Noise
) -> None:
    """The blocks of an earlier content of the same name and size must stay out."""
    earlier, content = noise(2 * place.part_size), noise(2 * place.part_size)
    old = await provider.open(acts.spec_of("cam1/a.mp4", len(earlier)), place.part_size)
    await acts.put_rest(provider, old, await record(earlier))

    new = await provider.open(acts.spec_of("cam1/a.mp4", len(content)), place.part_size)
    assert list(await provider.parts(new)) == []
    await acts.complete(provider, new, await acts.put_rest(provider, new, await record(content)))

    found = await place.vendor.get("cam1/a.mp4")
    assert found is not None
    assert found.content == content
    assert await provider.abort(old)
    assert await place.vendor.keys() == {"cam1/a.mp4"}
