"""Nothing is written outside the target, and nothing over what another wrote."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from tests.contract import acts
from tests.provider_directory.nas import KEY, PART, content, directory, incoming
from uploaderd import renaming
from uploaderd.errors import Fault, KeyRefused, KeyTaken
from uploaderd.model import FailureClass
from uploaderd.providers import directory_tree
from uploaderd.providers.directory import Directory
from uploaderd.reader import OpenRecording


@pytest.mark.parametrize(
    "key",
    [
        "../a",
        "a/../../b",
        "/etc/a",
        "a//b",
        "a/",
        "",
        ".",
        "a/./b",
        "a\0b",
        ".uploaderd/marker",
        ".UploaderD/x",
    ],
)
async def test_keys_that_leave_the_target_are_refused(
    nas: Directory, target: Path, recording: OpenRecording, key: str
) -> None:
    with pytest.raises(KeyRefused):
        await acts.put(nas, acts.spec_of(key, recording.size), recording)
    with pytest.raises(KeyRefused):
        await nas.open(acts.spec_of(key, recording.size), PART)
    with pytest.raises(KeyRefused):
        await nas.stat(key)

    assert {path.name for path in target.parent.iterdir()} == {"target", "a.mp4"}


async def test_no_symbolic_link_is_followed(
    nas: Directory, target: Path, tmp_path: Path, recording: OpenRecording
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"theirs")
    (target / "folder").symlink_to(outside)
    (target / "link.mp4").symlink_to(outside / "file")
    (target / "dangling.mp4").symlink_to(outside / "absent")

    with pytest.raises(KeyRefused):
        await acts.put(nas, acts.spec_of("folder/a.mp4", recording.size), recording)
    for name in ("link.mp4", "dangling.mp4"):
        with pytest.raises(KeyTaken):
            await acts.put(nas, acts.spec_of(name, recording.size), recording)
        found = await nas.stat(name)
        assert found is not None
        assert found.size == -1

    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_bytes() == b"theirs"
    assert incoming(target) == []


async def test_a_linked_folder_of_our_own_is_not_followed(
    nas: Directory, target: Path, tmp_path: Path, recording: OpenRecording
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "marker").touch()
    (target / ".uploaderd").symlink_to(tmp_path / "outside")

    with pytest.raises(Fault):
        await acts.put(nas, acts.spec_of(KEY, recording.size), recording)

    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["marker"]


async def test_what_is_no_file_takes_the_key_and_blocks_nobody(
    nas: Directory, target: Path, recording: OpenRecording
) -> None:
    os.mkfifo(target / "fifo.mp4")
    (target / "folder.mp4").mkdir()

    for name in ("fifo.mp4", "folder.mp4"):
        with pytest.raises(KeyTaken) as caught:
            await asyncio.wait_for(acts.put(nas, acts.spec_of(name, recording.size), recording), 10)
        assert caught.value.found is not None
        assert caught.value.found.size == -1
        named = acts.spec_of(name, recording.size, replaces=caught.value.found.revision)
        if name == "folder.mp4":
            with pytest.raises(KeyRefused):
                await acts.put(nas, named, recording)


async def test_a_file_where_a_folder_is_needed_refuses_the_key(
    nas: Directory, recording: OpenRecording
) -> None:
    await acts.put(nas, acts.spec_of("cam1", recording.size), recording)

    with pytest.raises(KeyRefused, match="folder"):
        await acts.put(nas, acts.spec_of("cam1/a.mp4", recording.size), recording)

    assert await nas.stat("cam1/a.mp4") is None


async def test_a_name_too_long_refuses_the_key(
    nas: Directory, target: Path, recording: OpenRecording
) -> None:
    for key in ("x" * 256, "x" * 256 + "/a.mp4"):
        with pytest.raises(KeyRefused):
            await acts.put(nas, acts.spec_of(key, recording.size), recording)
    assert incoming(target) == []


async def test_many_uploads_make_their_folders_at_once(
    nas: Directory, target: Path, recording: OpenRecording
) -> None:
    keys = [f"2026/11/{n % 3}/{n % 2}/{n}.mp4" for n in range(40)]
    other = await directory(target)  # as another daemon's

    await asyncio.gather(
        *(
            acts.put(provider, acts.spec_of(key, recording.size), recording)
            for provider, key in zip([nas, other] * 20, keys, strict=True)
        )
    )
    await other.aclose()

    assert all((target / key).read_bytes() == content(recording) for key in keys)
    assert incoming(target) == []


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As FAT has it."""

    def link(*args: object, **options: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


@pytest.mark.usefixtures("without_links")
async def test_without_hard_links_nothing_is_replaced_either(
    nas: Directory, target: Path, recording: OpenRecording
) -> None:
    (target / "taken.mp4").write_bytes(b"theirs")

    with pytest.raises(KeyTaken):
        await acts.put(nas, acts.spec_of("taken.mp4", recording.size), recording)
    await acts.put(nas, acts.spec_of(KEY, recording.size), recording)

    assert (target / "taken.mp4").read_bytes() == b"theirs"
    assert (target / KEY).read_bytes() == content(recording)
    assert incoming(target) == []


@pytest.mark.usefixtures("without_links")
@pytest.mark.parametrize("knows_the_flag", [False, True])
async def test_a_refused_name_is_told_from_a_missing_ability(
    nas: Directory,
    recording: OpenRecording,
    monkeypatch: pytest.MonkeyPatch,
    knows_the_flag: bool,
) -> None:
    """EINVAL is what FAT says to `a:b`, and what others say to RENAME_NOREPLACE."""
    really = renaming.rename_without_replacing

    def renameat2(source: int, old: bytes, target: int, new: bytes) -> None:
        if not knows_the_flag or new == b"a:b.mp4":
            raise OSError(errno.EINVAL, "Invalid argument")
        really(source, old, target, new)

    monkeypatch.setattr(directory_tree, "rename_without_replacing", renameat2)

    with pytest.raises(Fault) as caught:
        await acts.put(nas, acts.spec_of("a:b.mp4", recording.size), recording)

    expected = FailureClass.RECORDING if knows_the_flag else FailureClass.PROVIDER
    assert caught.value.failure is expected
