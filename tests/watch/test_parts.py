"""What the watcher is made of: patterns, the walk, the schedule, the candidates, the root."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.needs import lacking
from uploaderd.candidates import Candidates
from uploaderd.config import Source
from uploaderd.ledger.beside import Present
from uploaderd.model import FileIdentity, FoundBy
from uploaderd.mounts import Mount, mount_of
from uploaderd.patterns import Belonging, Patterns
from uploaderd.root import Looks, look_at_root
from uploaderd.schedule import FOLDERS, SECOND_LOOK, SHARE, Schedule
from uploaderd.walk import Found, Tally, below_links, strangers, walk


@pytest.mark.parametrize(
    ("pattern", "path", "taken"),
    [
        ("**/*.mp4", b"a.mp4", True),
        ("**/*.mp4", b"x/y/a.mp4", True),
        ("**/*.mp4", b"x/.hidden/.a.mp4", True),
        ("**/*.mp4", b"a.MP4", False),
        ("**/*.mp4", b"a.mp4/b", False),
        ("*.mp4", b"x/a.mp4", False),
        ("x/**", b"x/y/z", True),
        ("x/**", b"xy/z", False),
        ("x/**/z.mp4", b"x/z.mp4", True),
        ("x/**/z.mp4", b"x/a/b/z.mp4", True),
        ("x/**/z.mp4", b"x/az.mp4", False),
        ("cam?/a", b"cam1/a", True),
        ("cam?/a", b"cam//a", False),
        ("?.mp4", "\u00e9.mp4".encode(), True),
        ("?.mp4", b"\xff.mp4", True),
        ("*.mp4", b"new\nline.mp4", True),
        ("cam[0-9].mp4", b"cam7.mp4", True),
        ("cam[!0-9].mp4", b"cam7.mp4", False),
        ("cam[!0-9].mp4", b"camx.mp4", True),
        ("a[!b]c", b"a/c", False),
        ("a[", b"a[", True),
        ("a.b+c(d)", b"a.b+c(d)", True),
        ("a.b", b"axb", False),
        ("a[[]b", b"a[b", True),
    ],
)
def test_patterns(pattern: str, path: bytes, taken: bool) -> None:
    assert Patterns([pattern], []).take(path) is taken


def test_exclude_wins_and_our_own_files_are_never_recordings() -> None:
    patterns = Patterns(["**/*"], ["**/*.tmp"])
    assert patterns.take(b"a/b.mp4")
    assert not patterns.take(b"a/b.tmp")
    assert not patterns.take(b".uploaderd-a.mp4")
    assert not patterns.take(b"a/.uploaderd/b.mp4")


def test_a_file_belongs_to_the_first_source_that_takes_it() -> None:
    def source(path: str, *include: str) -> Source:
        return Source.model_validate({"path": path, "include": include or ("**/*",)})

    belonging = Belonging(
        {
            "debug": source("/rec", "**/debug_*"),
            "deep": source("/rec/deep"),
            "all": source("/rec"),
            "other": source("/record"),
        }
    )
    assert belonging.owner(b"/rec/deep/a") == ("deep", b"a")
    assert belonging.owner(b"/rec/deep/debug_a") == ("debug", b"deep/debug_a")
    assert belonging.owner(b"/rec/a") == ("all", b"a")
    assert belonging.owner(b"/record/a") == ("other", b"a")
    assert belonging.owner(b"/elsewhere/a") is None
    assert not belonging.of("all").take(b"deep/a")
    assert not belonging.of("deep").take(b"debug_a")
    assert belonging.of("deep").take(b"a")


names = st.sampled_from([b"a", b"a-", b"a.b", b"a0", b"B", b"\xff", b"a b", b"\n"])
trees = st.sets(st.lists(names, min_size=1, max_size=4).map(tuple), max_size=30)


@given(trees)
def test_the_walk_goes_in_the_order_of_whole_paths(
    tmp_path_factory: pytest.TempPathFactory, tree: set[tuple[bytes, ...]]
) -> None:
    root = os.fsencode(tmp_path_factory.mktemp("tree"))
    made = set()
    for parts in tree:
        path = os.path.join(root, *parts)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
        except OSError:
            continue  # a folder of that name, or a file where a folder should be
        made.add(b"/".join(parts))
    tally = Tally()
    found = [one.path for one in walk(root, b"", lambda _: True, _fail, tally)]
    assert found == sorted(made)
    assert tally.files == len(made)
    below = sorted({path.split(b"/")[0] for path in made if b"/" in path})
    for folder in below:
        part = [one.path for one in walk(root, folder, lambda _: True, _fail, Tally())]
        assert part == sorted(path for path in made if path.startswith(folder + b"/"))


def _fail(path: bytes, error: OSError) -> None:
    raise AssertionError(path) from error


contents = st.dictionaries(st.binary(min_size=1, max_size=2), st.integers(1, 3), max_size=12)


@given(contents, contents)
def test_strangers_are_what_the_ledger_does_not_have_so(
    disk: dict[bytes, int], ledger: dict[bytes, int]
) -> None:
    found = (Found(path, FileIdentity(size, 1, 1, 1), 1) for path, size in sorted(disk.items()))
    known = {path: Present(path, size, 1, 1, stuck=False) for path, size in ledger.items()}
    told = [one.path for one in strangers(found, known.get, inodes=True)]
    assert told == sorted(path for path, size in disk.items() if ledger.get(path) != size)


def test_strangers_and_inodes() -> None:
    def told(*, inodes: bool, stuck_too: bool = False) -> int:
        found = iter([Found(b"a", FileIdentity(1, 1, 2, 1), 1), Found(b"b", FileIdentity(1, 1, 1, 1), 1)])
        known = {path: Present(path, 1, 1, 1, stuck=path == b"b") for path in (b"a", b"b")}
        return len(list(strangers(found, known.get, inodes=inodes, stuck_too=stuck_too)))

    assert told(inodes=True) == 1
    assert told(inodes=False) == 0
    assert told(inodes=False, stuck_too=True) == 1


def test_links_are_not_walked(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.mp4").write_bytes(b"x")
    (tmp_path / "tree" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "tree" / "a.mp4").symlink_to(tmp_path / "outside" / "a.mp4")
    root = os.fsencode(tmp_path / "tree")
    assert list(walk(root, b"", lambda _: True, _fail, Tally())) == []
    assert below_links(root, b"folder")
    (tmp_path / "outside" / "deep").mkdir()
    assert below_links(root, b"folder/deep")
    (tmp_path / "tree" / "real").mkdir()
    assert not below_links(root, b"real")


def test_a_deep_tree_is_walked(tmp_path: Path) -> None:
    """Deeper than Python's recursion would go."""
    folders = [tmp_path / "d"]
    while len(folders) < 1500:
        folders.append(folders[-1] / "d")
    for folder in folders:
        folder.mkdir()
    (folders[-1] / "a.mp4").write_bytes(b"x")
    found = list(walk(os.fsencode(tmp_path), b"", lambda _: True, _fail, Tally()))
    assert [one.path.count(b"/") for one in found] == [1500]
    (folders[-1] / "a.mp4").unlink()
    for folder in reversed(folders):
        folder.rmdir()


def test_the_schedule() -> None:
    schedule = Schedule()
    assert schedule.next_due() == inf
    schedule.doubt(b"day1", 10)
    schedule.doubt(b"day1/hour1", 10)
    assert schedule.asked
    assert schedule.take_due(9) == []
    assert schedule.take_due(10) == [b"day1"]
    # Looked at once more: what is made in a new folder before it is watched shows only then.
    assert schedule.next_due() == 10 + SECOND_LOOK
    assert schedule.take_due(10 + SECOND_LOOK) == [b"day1"]
    assert schedule.next_due() == inf
    assert not schedule.asked


def test_too_many_doubts_are_one_sweep_of_everything_at_a_bounded_cost() -> None:
    schedule = Schedule()
    for number in range(FOLDERS + 1):
        schedule.doubt(b"%d" % number, 10)
    assert schedule.take_due(10) == [b""]
    schedule.began(again=20)
    assert schedule.next_due() == 11  # second looks at the folders
    schedule.ended(now=12, cost=2, every=300)
    assert schedule.take_due(12) != [b""]
    schedule.doubt(b"", 13)
    # Twenty times as long as the sweep took, counted from its end.
    assert schedule.take_due(12 + 2 * SHARE - 1) == []
    assert schedule.take_due(12 + 2 * SHARE) == [b""]
    # Who asks outright is not made to wait.
    schedule.began(again=100)
    schedule.ended(now=60, cost=2, every=300)
    schedule.ask(61)
    assert schedule.take_due(61) == [b""]
    # However long a sweep takes, the next one comes in its time, even if the doubt came while it ran.
    schedule.began(again=100)
    schedule.doubt(b"", 70)
    schedule.ended(now=80, cost=50, every=300)
    assert schedule.asked
    assert schedule.take_due(379) == []
    assert schedule.take_due(380) == [b""]


def test_a_sweep_that_failed_is_made_again() -> None:
    schedule = Schedule()
    schedule.ask(1)
    assert schedule.take_due(1) == [b""]
    schedule.began(again=6)
    assert schedule.next_due() == 6


def _identity(size: int = 1) -> FileIdentity:
    return FileIdentity(size, 1, 1, 1)


def test_a_candidate_that_keeps_changing_comes_up_once() -> None:
    candidates = Candidates()
    for now in range(100):
        candidates.changed(_identity(now), b"a", FoundBy.EVENT, float(now), 2.0)
        assert candidates.take_due(float(now), 10) == []
    (one,) = candidates.take_due(101.0, 10)
    assert (one.since, one.identity.size) == (99.0, 99)
    assert candidates.take_due(200.0, 10) == []
    candidates.later(b"a", 201.0)
    candidates.drop(b"a")
    candidates.changed(_identity(), b"a", FoundBy.EVENT, 200.0, 1.0)
    assert len(candidates.take_due(300.0, 10)) == 1


def test_a_candidate_that_changes_is_looked_at_sooner_than_was_meant() -> None:
    candidates = Candidates()
    candidates.changed(_identity(), b"a", FoundBy.EVENT, 0.0, 1.0)
    assert len(candidates.take_due(1.0, 10)) == 1
    candidates.later(b"a", 3600.0)
    candidates.changed(_identity(), b"a", FoundBy.EVENT, 10.0, 2.0)
    assert candidates.next_due() == 12.0
    assert len(candidates.take_due(12.0, 10)) == 1
    assert candidates.take_due(3600.0, 10) == []


def test_a_candidate_that_is_vouched_for_is_so_until_it_changes() -> None:
    candidates = Candidates()
    candidates.changed(_identity(1), b"a", FoundBy.EVENT, 0.0, 1.0)
    candidates.vouch(b"a")
    candidates.changed(_identity(1), b"a", FoundBy.EVENT, 0.5, 1.0)
    (one,) = candidates.take_due(1.0, 10)
    assert one.vouched
    candidates.changed(_identity(2), b"a", FoundBy.EVENT, 2.0, 1.0)
    assert not one.vouched


def test_candidates_are_bounded_and_say_so() -> None:
    candidates = Candidates(limit=2)
    for path in (b"a", b"b", b"c"):
        candidates.changed(_identity(), path, FoundBy.EVENT, 0.0, 1.0)
    assert len(candidates) == 2
    assert not candidates.room_again()
    candidates.drop(b"a")
    assert candidates.room_again()
    assert not candidates.room_again()


def test_a_candidate_is_dropped_only_if_it_is_as_it_was() -> None:
    candidates = Candidates()
    candidates.changed(_identity(2), b"a", FoundBy.EVENT, 0.0, 1.0)
    candidates.drop_if(b"a", _identity(1))
    assert len(candidates) == 1
    candidates.drop_if(b"a", _identity(2))
    assert len(candidates) == 0


@contextmanager
def mounted(kind: str, where: Path, *options: str) -> Iterator[None]:
    done = subprocess.run(
        ["mount", "-t", kind, *options, "none", str(where)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lacking(f"no {kind} can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(where)], check=True)


def test_an_unplugged_disk_is_missing_and_not_empty(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    path = os.fsencode(root)
    with mounted("tmpfs", root):
        there = look_at_root(path, None)
        assert there.missing == ""
        # Empty, but itself a mount: nothing is unplugged.
        assert look_at_root(path, 12345).missing == ""
        (root / "a.mp4").write_bytes(b"x")
    gone = look_at_root(path, there.device)
    assert "mounted" in gone.missing
    (root / "b.mp4").write_bytes(b"x")
    # Somebody uses the folder itself now: another device, but recordings.
    assert look_at_root(path, there.device).missing == ""


def test_roots_that_are_not_there(tmp_path: Path) -> None:
    assert look_at_root(os.fsencode(tmp_path / "none"), None).missing
    (tmp_path / "file").write_bytes(b"")
    assert look_at_root(os.fsencode(tmp_path / "file"), None).missing
    empty = tmp_path / "empty"
    empty.mkdir()
    assert look_at_root(os.fsencode(empty), None).missing == ""
    assert look_at_root(os.fsencode(empty), os.stat(empty).st_dev).missing == ""


async def test_who_looks_at_the_root_is_not_cancelled_with_another_who_does(tmp_path: Path) -> None:
    looks = Looks(os.fsencode(tmp_path))
    looking = asyncio.create_task(looks.look(None))
    await asyncio.sleep(0)
    looks.close()
    assert (await looking).missing == ""


def test_mounts_are_told_apart(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()

    def kind(path: Path) -> Mount:
        fd = os.open(path, os.O_RDONLY)
        try:
            return mount_of(fd)
        finally:
            os.close(fd)

    assert kind(tmp_path) is not Mount.NETWORK
    with mounted("tmpfs", tmp_path / "work"):
        assert kind(tmp_path / "work") is Mount.LOCAL
    layers = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    with mounted("overlay", tmp_path / "merged", "-o", layers):
        assert kind(tmp_path / "merged") is Mount.OVERLAY
