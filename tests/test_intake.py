"""What a finished file is: new, known, touched, renamed, linked, held, skipped. Real ledger, real files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from uploaderd import checksum
from uploaderd.beneath import fingerprint, identity_of
from uploaderd.config import Config
from uploaderd.errors import FileVanished, NotHeld
from uploaderd.intake import Finished, Intake, IntakeProvider
from uploaderd.ledger import Ledger, connect_readonly, held, intake, queue, read, work
from uploaderd.ledger.identity import Settled
from uploaderd.model import (
    FinishedBy,
    FoundBy,
    Milliseconds,
    ObjectInfo,
    ObjectSpec,
    Part,
    Proof,
    Session,
)
from uploaderd.provider import Limits
from uploaderd.report.recordings import recording

NOW = Milliseconds(1_800_000_000_000)  # 2027-01-15T08:00:00Z
BIG = b"0123456789abcdef" * 8192  # 128 KiB: more than the fingerprint's head and tail
LIMITS = Limits(max_single=1 << 30, min_part=1, max_part=1 << 30, max_parts=10_000, max_object=1 << 20)


class Place:
    """A source with two providers, its ledger, and an intake before it."""

    def __init__(self, tmp: Path, **settings: Any) -> None:
        self.root = tmp / "recordings"
        self.root.mkdir()
        others: Mapping[str, Any] = settings.pop("others", {})
        self.config = Config.model_validate(
            {
                "sources": {"cameras": {"path": self.root, **settings}, **others},
                "providers": {name: {"type": "directory", "path": tmp / name} for name in ("nas", "attic")},
            }
        )
        self.ledger = Ledger(tmp / "ledger" / "ledger.db", lambda: NOW, "test")
        self.wakes = 0
        self.limits = LIMITS

    async def open(self) -> Place:
        await self.ledger.open()
        sources = {
            name: await self.ledger.run(intake.register_source, name, os.fsencode(source.path))
            for name, source in self.config.sources.items()
        }
        self.providers = {
            name: IntakeProvider(
                await self.ledger.run(intake.register_provider, name, "directory", name), self.limits, name
            )
            for name in self.config.providers
        }
        self.intake = Intake(
            self.ledger, self.config, sources, self.providers, wake=self._woken, host="box", environ={}
        )
        return self

    def _woken(self) -> None:
        self.wakes += 1

    def write(self, name: str | bytes, content: bytes = BIG, mtime: float = NOW / 1000 - 60) -> bytes:
        path = os.path.join(os.fsencode(self.root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        os.utime(path, ns=(int(mtime * 1e9),) * 2)
        return os.fsencode(name)

    def finished(self, path: bytes, flaw: str | None = None) -> Finished:
        fd = os.open(os.path.join(os.fsencode(self.root), path), os.O_RDONLY)
        try:
            status = os.fstat(fd)
            identity = identity_of(status, fingerprint(fd, status.st_size))
        finally:
            os.close(fd)
        return Finished(path, identity, FoundBy.SWEEP, FinishedBy.LEASE, NOW, flaw)

    async def offer(
        self, *paths: bytes, source: str = "cameras", inodes: bool = True
    ) -> list[Settled | None]:
        found = [self.finished(path) for path in paths]
        return list((await self.intake.offer(source, found, inodes=inodes)).outcomes)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        conn: sqlite3.Connection = connect_readonly(self.ledger.path)
        try:
            return conn.execute(sql, values).fetchall()
        finally:
            conn.close()

    def states(self) -> dict[bytes, str]:
        return dict(self.rows("SELECT path, state FROM recordings WHERE past = 0"))

    def keys(self, path: bytes) -> dict[str, str]:
        return dict(
            self.rows(
                "SELECT p.name, u.key FROM uploads u JOIN providers p ON p.id = u.provider_id"
                " JOIN recordings r ON r.id = u.recording_id WHERE r.path = ? AND r.past = 0",
                path,
            )
        )

    async def verify(self, content: bytes = BIG) -> None:
        """Everything that waits is sent."""
        whole = checksum.of(content)
        for provider in self.providers.values():
            for claim in await self.ledger.run(queue.claim, provider.id, 1000):
                await self.ledger.run(work.completing, claim.upload_id, whole)
                found = ObjectInfo(claim.key, len(content), etag="e")
                await self.ledger.run(work.verified, claim.upload_id, found, Proof("test", "x"))

    async def send_part(self, offset: int, content: bytes) -> None:
        """One upload has sent one part, and waits to go on."""
        run = self.ledger.run
        (claim,) = await run(queue.claim, self.providers["nas"].id, 1)
        spec = ObjectSpec(claim.key, claim.identity.size, claim.token, "video/mp4")
        await run(work.opened, claim.upload_id, Session(spec, len(content), "handle"))
        part = Part(1, offset, checksum.of(content), "etag", None)
        await run(work.part_done, claim.upload_id, part)
        await run(work.stopped, claim.upload_id)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = await Place(tmp_path).open()
    yield place
    await place.ledger.close()


async def test_a_new_file_is_queued_once(place: Place) -> None:
    path = place.write("cam1/a b.mp4")
    assert await place.offer(path) == [Settled.QUEUED]
    assert await place.offer(path, path) == [Settled.SAME, Settled.SAME]
    assert place.states() == {path: "waiting"}
    assert place.keys(path) == {
        "nas": "nas/cameras/2027/01/15/cam1/a b.mp4",
        "attic": "attic/cameras/2027/01/15/cam1/a b.mp4",
    }
    assert place.rows("SELECT needed, required, found_by, finished_by FROM recordings") == [
        (2, 2, "sweep", "lease")
    ]
    assert place.wakes == 1


async def test_the_same_file_twice_in_one_offer_is_queued_once(place: Place) -> None:
    path = place.write("a.mp4")
    assert await place.offer(path, path) == [Settled.QUEUED, Settled.SAME]


@pytest.mark.parametrize("change", ["touch", "restore"])
async def test_touched_or_restored_files_are_not_sent_again(place: Place, change: str) -> None:
    path = place.write("a.mp4")
    await place.offer(path)
    await place.verify()
    if change == "restore":
        place.write("restored.tmp", mtime=NOW / 1000 - 5)
        os.replace(place.root / "restored.tmp", place.root / "a.mp4")
    else:
        place.write("a.mp4", mtime=NOW / 1000 - 5)
    assert await place.offer(path) == [Settled.TOUCHED]
    assert await place.offer(path) == [Settled.SAME]
    assert place.states() == {path: "safe"}
    assert place.rows("SELECT count(*) FROM uploads") == [(2,)]


async def test_another_content_with_the_same_head_and_tail_is_a_new_version(place: Place) -> None:
    """The fingerprint is a hint only: the content decides."""
    path = place.write("a.mp4")
    await place.offer(path)
    await place.verify()
    changed = bytearray(BIG)
    changed[len(BIG) // 2] ^= 1
    place.write("a.mp4", bytes(changed), mtime=NOW / 1000 - 5)
    assert await place.offer(path) == [Settled.QUEUED]
    assert place.rows("SELECT state, local FROM recordings ORDER BY id") == [
        ("safe", "replaced"),
        ("waiting", "present"),
    ]


async def test_a_rewritten_file_takes_the_place_of_one_that_was_not_sent(place: Place) -> None:
    path = place.write("a.mp4")
    await place.offer(path)
    place.write("a.mp4", b"quite different")
    assert await place.offer(path) == [Settled.QUEUED]
    assert place.rows("SELECT state FROM recordings ORDER BY id") == [("superseded",), ("waiting",)]
    assert place.rows("SELECT count(*) FROM uploads WHERE state = 'queued'") == [(2,)]


async def test_a_touch_while_half_of_it_is_sent_keeps_that_half(place: Place) -> None:
    path = place.write("a.mp4")
    await place.offer(path)
    await place.send_part(0, BIG[:65536])
    place.write("a.mp4", mtime=NOW / 1000 - 5)
    assert await place.offer(path) == [Settled.TOUCHED]
    assert place.rows("SELECT count(*) FROM parts") == [(1,)]


async def test_other_bytes_where_half_of_it_was_sent_are_never_mixed_with_it(place: Place) -> None:
    path = place.write("a.mp4")
    await place.offer(path)
    await place.send_part(0, BIG[:65536])
    changed = bytearray(BIG)
    changed[40_000] ^= 1  # neither head nor tail
    place.write("a.mp4", bytes(changed), mtime=NOW / 1000 - 5)
    assert await place.offer(path) == [Settled.QUEUED]
    assert place.rows("SELECT state FROM recordings ORDER BY id") == [("superseded",), ("waiting",)]
    assert place.rows("SELECT session FROM leftovers") == [("handle",)]


async def test_on_a_network_file_system_the_inode_says_nothing(place: Place) -> None:
    path = place.write("a.mp4")
    await place.offer(path)
    place.write("copy.tmp")
    os.replace(place.root / "copy.tmp", place.root / "a.mp4")
    assert await place.offer(path, inodes=False) == [Settled.SAME]
    os.rename(place.root / "a.mp4", place.root / "b.mp4")
    assert await place.offer(b"b.mp4", inodes=False) == [Settled.QUEUED]


@pytest.mark.parametrize("sent", [False, True], ids=["waiting", "safe"])
async def test_a_renamed_file_is_followed(place: Place, sent: bool) -> None:
    path = place.write("a.mp4")
    await place.offer(path)
    if sent:
        await place.verify()
    keys = place.keys(path)
    os.rename(place.root / "a.mp4", place.root / "b.mp4")
    assert await place.offer(b"b.mp4") == [Settled.RENAMED]
    assert place.states() == {b"b.mp4": "safe" if sent else "waiting"}
    assert place.keys(b"b.mp4") == keys
    assert await place.offer(b"b.mp4") == [Settled.SAME]


async def test_a_renamed_file_over_another_one(place: Place) -> None:
    place.write("a.mp4")
    place.write("b.mp4", b"the other")
    await place.offer(b"a.mp4", b"b.mp4")
    os.rename(place.root / "a.mp4", place.root / "b.mp4")
    assert await place.offer(b"b.mp4") == [Settled.RENAMED]
    assert place.states() == {b"b.mp4": "waiting"}
    assert place.rows("SELECT state FROM recordings ORDER BY id") == [("waiting",), ("superseded",)]


@pytest.mark.parametrize(
    "order", [(b"a.mp4", b"b.mp4"), (b"b.mp4", b"a.mp4")], ids=["new first", "old first"]
)
@pytest.mark.parametrize("sent", [False, True], ids=["waiting", "safe"])
async def test_a_rotation_sends_each_content_once(place: Place, order: tuple[bytes, ...], sent: bool) -> None:
    """a becomes b, and a new a is there already when anybody looks."""
    first = b"first" * 100
    place.write("a.mp4", first)
    await place.offer(b"a.mp4")
    if sent:
        await place.verify(first)
    os.rename(place.root / "a.mp4", place.root / "b.mp4")
    place.write("a.mp4", b"second" * 100)
    outcomes = dict(zip(order, await place.offer(*order), strict=True))
    assert outcomes == {b"a.mp4": Settled.QUEUED, b"b.mp4": Settled.RENAMED}
    assert place.states() == {b"a.mp4": "waiting", b"b.mp4": "safe" if sent else "waiting"}
    waiting = place.rows(
        "SELECT r.path, count(*) FROM uploads u JOIN recordings r ON r.id = u.recording_id"
        " WHERE u.state = 'queued' GROUP BY r.id ORDER BY r.path"
    )
    assert waiting == ([(b"a.mp4", 2)] if sent else [(b"a.mp4", 2), (b"b.mp4", 2)])


async def test_the_next_file_of_a_name_is_not_held_for_the_key_of_the_one_before(place: Place) -> None:
    """The recorder always writes to the same name, and a mover takes each away."""
    place.write("a.mp4", b"first")
    await place.offer(b"a.mp4")
    os.rename(place.root / "a.mp4", place.root / "moved.mp4")
    assert await place.offer(b"moved.mp4") == [Settled.RENAMED]
    place.write("a.mp4", b"second")
    assert await place.offer(b"a.mp4") == [Settled.QUEUED]


async def test_one_that_was_lost_and_is_found_again_goes_on(place: Place) -> None:
    """The worker looked before anybody had seen where the file went."""
    path = place.write("a.mp4")
    await place.offer(path)
    os.rename(place.root / "a.mp4", place.root / "b.mp4")
    for provider in place.providers.values():
        (claim,) = await place.ledger.run(queue.claim, provider.id, 1)
        fault = FileVanished("it is gone", code="ENOENT")
        assert await place.ledger.run(work.gone, claim.upload_id, fault, path)
    assert place.rows("SELECT state FROM recordings") == [("lost",)]
    assert await place.offer(b"b.mp4") == [Settled.RENAMED]
    assert place.states() == {b"b.mp4": "waiting"}
    assert place.rows("SELECT count(*) FROM uploads WHERE state = 'queued'") == [(2,)]


async def test_hard_links_are_one_recording(place: Place) -> None:
    path = place.write("a.mp4")
    await place.offer(path)
    os.link(place.root / "a.mp4", place.root / "b.mp4")
    assert await place.offer(b"b.mp4") == [Settled.LINKED]
    os.unlink(place.root / "a.mp4")
    assert await place.offer(b"b.mp4") == [Settled.RENAMED]
    assert place.states() == {b"b.mp4": "waiting"}


async def test_a_used_again_inode_is_another_recording(place: Place) -> None:
    """An equal content in a new file that got the inode of a deleted one: its mtime tells them apart."""
    path = place.write("a.mp4")
    await place.offer(path)
    place.write("a.mp4", mtime=NOW / 1000 - 5)
    os.rename(place.root / "a.mp4", place.root / "b.mp4")
    assert await place.offer(b"b.mp4") == [Settled.QUEUED]


async def test_empty_files_are_skipped_and_on_record(place: Place) -> None:
    path = place.write("a.mp4", b"")
    assert await place.offer(path) == [Settled.SKIPPED]
    assert await place.offer(path) == [Settled.SAME]
    assert place.states() == {path: "skipped"}
    place.write("a.mp4", b"now it has a content")
    assert await place.offer(path) == [Settled.QUEUED]


async def test_empty_files_may_be_wanted(tmp_path: Path) -> None:
    place = await Place(tmp_path, empty="upload").open()
    assert await place.offer(place.write("a.mp4", b"")) == [Settled.QUEUED]
    await place.ledger.close()


@pytest.mark.parametrize(
    ("required", "needed", "flags"),
    [("all", 2, {1}), (1, 1, {1}), (("attic",), 1, {0, 1})],
    ids=["all", "number", "names"],
)
async def test_what_it_requires_is_frozen(
    tmp_path: Path, required: object, needed: int, flags: set[int]
) -> None:
    place = await Place(tmp_path, required=required).open()
    await place.offer(place.write("a.mp4"))
    assert place.rows("SELECT needed FROM recordings") == [(needed,)]
    assert {row[0] for row in place.rows("SELECT required FROM uploads")} == flags
    if required == ("attic",):
        assert place.rows(
            "SELECT p.name FROM uploads u JOIN providers p ON p.id = u.provider_id WHERE required"
        ) == [("attic",)]
    await place.ledger.close()


async def test_keys_that_collide_hold_the_later_one(tmp_path: Path) -> None:
    place = await Place(tmp_path, key="{name}").open()
    place.write("cam1/a.mp4", b"one")
    place.write("cam2/a.mp4", b"two")
    assert await place.offer(b"cam1/a.mp4", b"cam2/a.mp4") == [Settled.QUEUED, Settled.HELD]
    ((reason,),) = place.rows("SELECT held FROM recordings WHERE held IS NOT NULL")
    assert "'nas/a.mp4' at nas" in reason
    assert "cam1/a.mp4" in reason
    # Known, and still held: nothing happens. Renamed so that it has a key of its own: queued.
    assert await place.offer(b"cam2/a.mp4") == [Settled.SAME]
    os.rename(place.root / "cam2/a.mp4", place.root / "cam2/b.mp4")
    assert await place.offer(b"cam2/b.mp4") == [Settled.RENAMED]
    assert place.states() == {b"cam1/a.mp4": "waiting", b"cam2/b.mp4": "waiting"}
    assert place.keys(b"cam2/b.mp4") == {"nas": "nas/b.mp4", "attic": "attic/b.mp4"}
    await place.ledger.close()


async def test_a_key_that_is_too_long_holds_it(place: Place) -> None:
    path = place.write("/".join(["d" * 250] * 4 + ["a.mp4"]))
    assert await place.offer(path) == [Settled.HELD]
    ((reason,),) = place.rows("SELECT held FROM recordings")
    assert "1024 are allowed" in reason
    assert place.rows("SELECT count(*) FROM uploads") == [(0,)]


async def test_a_file_that_no_object_can_hold_is_held(place: Place) -> None:
    path = place.write("a.mp4", bytes(LIMITS.max_object + 1))
    assert await place.offer(path) == [Settled.HELD]


async def test_the_date_of_an_implausible_mtime_is_when_it_was_found(place: Place) -> None:
    path = place.write("a.mp4", mtime=3600)
    assert await place.offer(path) == [Settled.QUEUED]
    assert place.keys(path)["nas"] == "nas/cameras/2027/01/15/a.mp4"
    assert place.rows("SELECT count(*) FROM events WHERE kind = 'doubtful'") == [(1,)]


async def test_odd_names_are_queued(place: Place) -> None:
    accented, decomposed = "\u00e9.mp4".encode(), "e\u0301.mp4".encode()
    names = [b"new\nline.mp4", b"-dash.mp4", b"\xff\xfe.mp4", accented, decomposed, b"A.mp4", b"a.mp4"]
    for name in names:
        place.write(name, name)
    assert await place.offer(*names) == [Settled.QUEUED] * len(names)
    assert place.keys(b"new\nline.mp4")["nas"].endswith("/new%0Aline.mp4")
    assert place.keys(b"\xff\xfe.mp4")["nas"].endswith("/%FF%FE.mp4")
    # The one that is spelt like another's encoding would take its key.
    place.write(b"\xff.mp4", b"1")
    place.write(b"%FF.mp4", b"2")
    assert await place.offer(b"\xff.mp4", b"%FF.mp4") == [Settled.QUEUED, Settled.HELD]


async def test_a_file_that_vanishes_meanwhile_is_left_for_later(place: Place) -> None:
    path = place.write("a.mp4")
    await place.offer(path)
    await place.verify()
    place.write("a.mp4", mtime=NOW / 1000 - 5)
    found = place.finished(path)
    os.unlink(place.root / "a.mp4")
    assert (await place.intake.offer("cameras", [found])).outcomes == (None,)
    assert place.states() == {path: "safe"}


CUT = "its last fragment has no media data"


async def offered(place: Place, path: bytes, flaw: str | None = CUT) -> Settled | None:
    (settled,) = (await place.intake.offer("cameras", [place.finished(path, flaw)])).outcomes
    return settled


def told(place: Place, path: bytes) -> tuple[Any, ...]:
    """State, reason, gate and doubt of what is there now; and how many uploads it has."""
    (row,) = place.rows(
        "SELECT r.state, r.held, r.gate, r.doubt,"
        " (SELECT count(*) FROM uploads WHERE recording_id = r.id) FROM recordings r"
        " WHERE r.path = ? AND r.past = 0",
        path,
    )
    return row


async def test_a_truncated_recording_is_flagged_and_sent(tmp_path: Path) -> None:
    place = await Place(tmp_path, container_check="warn").open()
    path = place.write("a.mp4")
    assert await offered(place, path) == Settled.QUEUED
    assert told(place, path) == ("waiting", None, None, f"it looks truncated: {CUT}", 2)
    with closing(connect_readonly(place.ledger.path)) as conn:
        (row,) = read.at_path(conn, "cameras", path)
    assert recording(row, place.config)["doubt"] == f"it looks truncated: {CUT}"
    assert place.rows("SELECT count(*) FROM events WHERE kind = 'doubtful'") == [(1,)]
    await place.ledger.close()


@pytest.fixture
async def strict_place(tmp_path: Path) -> AsyncIterator[Place]:
    place = await Place(tmp_path, container_check="require").open()
    yield place
    await place.ledger.close()


async def test_a_truncated_recording_is_held_until_it_changes(strict_place: Place) -> None:
    place = strict_place
    path = place.write("a.mp4")
    assert await offered(place, path) == Settled.HELD
    assert told(place, path) == ("held", f"it looks truncated: {CUT}", "container", None, 0)
    assert await offered(place, path) == Settled.SAME
    place.write("a.mp4", BIG + b"whole now")
    assert await offered(place, path, None) == Settled.QUEUED
    assert told(place, path) == ("waiting", None, None, None, 2)
    assert place.rows("SELECT state FROM recordings ORDER BY id") == [("superseded",), ("waiting",)]


async def test_a_held_recording_that_was_mended_without_growing_goes_out(strict_place: Place) -> None:
    """Same size, same head and tail: nothing was sent of it, so nothing has to be compared."""
    place = strict_place
    path = place.write("a.mp4")
    assert await offered(place, path) == Settled.HELD
    middle = len(BIG) // 2
    place.write("a.mp4", BIG[:middle] + b"mended" + BIG[middle + 6 :], mtime=NOW / 1000 - 5)
    assert await offered(place, path, None) == Settled.QUEUED
    assert told(place, path)[0] == "waiting"
    assert place.rows("SELECT count(*) FROM recordings") == [(1,)]


async def test_a_person_releases_a_truncated_recording(strict_place: Place) -> None:
    place = strict_place
    path = place.write("a.mp4")
    await offered(place, path)
    assert await place.ledger.run(held.release, 1, "anna") == ("cameras", path)
    assert await offered(place, path) == Settled.QUEUED
    doubt = f"it looks truncated: {CUT}; it was released all the same"
    assert told(place, path) == ("waiting", None, None, doubt, 2)
    assert place.rows("SELECT kind, who FROM events WHERE kind = 'released'") == [("released", "anna")]
    with pytest.raises(NotHeld, match="it is waiting, and not held"):
        await place.ledger.run(held.release, 1, "anna")
    # A new content is looked at anew.
    place.write("a.mp4", BIG + b"and more")
    assert await offered(place, path) == Settled.HELD


async def test_what_is_held_for_a_reason_is_not_released(place: Place) -> None:
    await place.offer(place.write(b"\xff.mp4", b"1"))
    path = place.write("%FF.mp4", b"2")
    assert await place.offer(path) == [Settled.HELD]
    with pytest.raises(NotHeld, match="its key"):
        await place.ledger.run(held.release, 2, "anna")
    with pytest.raises(NotHeld, match="not there"):
        await place.ledger.run(held.release, 3, "anna")


async def test_before_the_end_truncated_is_better_than_nothing(strict_place: Place) -> None:
    place = strict_place
    path = place.write("a.mp4")
    await offered(place, path)
    place.intake.lenient = True
    assert await offered(place, path) == Settled.QUEUED
    assert told(place, path) == ("waiting", None, None, f"it looks truncated: {CUT}", 2)


async def test_a_truncated_recording_that_is_renamed_stays_held(strict_place: Place) -> None:
    place = strict_place
    path = place.write("a.mp4")
    await offered(place, path)
    os.rename(place.root / "a.mp4", place.root / "b.mp4")
    assert await offered(place, b"b.mp4") == Settled.RENAMED
    assert told(place, b"b.mp4")[0] == "held"
    place.write("taken.mp4")
    await place.ledger.run(held.release, 1, "anna")
    assert await offered(place, b"b.mp4") == Settled.QUEUED
