"""`kill -9` before and after each write to the ledger and each call to the provider: the same final state."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.contract.place import Backend, Place
from tests.kill.figures import Record
from tests.kill.stepper import Order, Stepper
from tests.pool.conftest import Rig, content_of
from uploaderd.ledger import connect_readonly, read
from uploaderd.ledger.chain import broken_at

STRIDE: Final = 1 if os.environ.get("TESTS_EVERY") else 4
"""Every so many-th step is died at, another set for each backend."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory if possible: what the kernel holds survives the process, and no disk is waited for."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def stepper() -> Iterator[Stepper]:
    with Stepper() as running:
        yield running


@pytest.mark.parametrize("parts", [0.4, 2.4], ids=["at once", "in parts"])
async def test_killed_at_every_step_it_ends_the_same(
    rig: Rig, backend: Backend, stepper: Stepper, folder: Path, parts: float, record: Record
) -> None:
    place = rig.place

    def order(name: str, at: int = 0) -> Order:
        path = folder / name / "recordings" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(content_of(int(parts * place.part_size), name))
        return Order(str(folder / name), path.name, place.settings, place.part_size, at)

    reference = stepper.run(order("reference"))
    steps = reference.steps
    assert {name.split()[1] for name in steps} >= {"ledger", "stat"}
    killed = Counter[str]()
    unknown = resent = 0
    tried = range(1 + random.Random(f"{backend.type} {parts}").randrange(STRIDE), len(steps) + 1, STRIDE)
    for at in tried:
        one = order(f"step-{at}", at)
        ended = stepper.run(one)
        assert ended.killed, f"{steps[at - 1]}: it went another way: {ended.steps}"
        assert ended.steps[-1] == steps[at - 1], "the steps come in the same order each time"
        killed[ended.steps[-1].split()[1]] += 1
        stepper.run(order(f"step-{at}"))
        resent += await assert_as_if_nothing_had_been(one, place)
        unknown += backend.type == "gcs" and ended.steps[-1] in ("after open 1", "before ledger opened 1")
        assert await place.vendor.leftovers() == unknown, ended.steps[-1]
        shutil.rmtree(one.folder)
    assert len(await place.vendor.keys()) == len(tried) + 1, "one object a recording"
    record("steps", len(steps))
    record("died at", len(tried))
    record("sent again", resent)


@pytest.mark.at("directory")
async def test_killed_between_the_two_names_of_a_copy(rig: Rig, stepper: Stepper, folder: Path) -> None:
    """A copy gets its name by a link before its temporary one goes: that one must go all the same."""
    target = Path(rig.place.settings["path"])
    path = folder / "recordings" / "a.mp4"
    path.parent.mkdir()
    path.write_bytes(content_of(1000))
    order = Order(str(folder), path.name, rig.place.settings, rig.place.part_size)
    reference = replace(order, folder=str(folder / "reference"), name="b.mp4")
    reference.source.mkdir(parents=True)
    (reference.source / reference.name).write_bytes(content_of(1000))
    steps = stepper.run(reference).steps
    assert stepper.run(replace(order, at=1 + steps.index("after put 1"))).killed
    with closing(connect_readonly(order.ledger)) as conn:
        (row,) = read.recordings(conn)
    (target / ".uploaderd" / "incoming" / row.uploads["tested"].token).hardlink_to(target / order.key)
    assert await rig.place.vendor.leftovers() == 1
    stepper.run(order)
    await assert_as_if_nothing_had_been(order, rig.place)
    assert await rig.place.vendor.leftovers() == 0


async def assert_as_if_nothing_had_been(order: Order, place: Place) -> int:
    """The object, the ledger and its history; how many bytes were sent again: one part at most."""
    content = (order.source / order.name).read_bytes()
    found = await place.vendor.get(order.key)
    assert found is not None
    assert found.content == content
    with closing(connect_readonly(order.ledger)) as conn:
        (row,) = read.recordings(conn)
        (upload,) = row.uploads.values()
        attempts = read.attempts(conn, None, 100)
        assert (row.state, upload.state, upload.key) == ("safe", "verified", order.key)
        assert upload.token == found.token
        assert upload.proof_kind
        assert [a["outcome"] for a in attempts] in (["verified"], ["verified", "interrupted"])
        assert broken_at(conn, "attempts") is None
        assert broken_at(conn, "events") is None
        for table in ("parts", "leftovers"):
            assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    resent = upload.bytes_sent - len(content)
    assert 0 <= resent <= min(order.part_size, len(content))
    return resent
