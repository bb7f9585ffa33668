"""The right folder is told from an empty mount point."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.contract import acts
from tests.provider_directory.nas import KEY, PART, begun, directory
from uploaderd.errors import Fault, SessionGone
from uploaderd.model import FailureClass
from uploaderd.providers.directory import Directory
from uploaderd.providers.directory_tree import Target
from uploaderd.reader import OpenRecording


async def test_the_first_write_makes_the_marker(nas: Directory, target: Path) -> None:
    assert await nas.stat(KEY) is None
    assert list(target.iterdir()) == [], "a look made something"

    await nas.probe()

    assert (target / ".uploaderd" / "marker").is_file()
    assert (target / ".uploaderd").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("step", ["probe", "stat", "put", "parts", "abort", "read"])
async def test_without_its_marker_the_folder_is_not_trusted(
    nas: Directory, target: Path, tmp_path: Path, recording: OpenRecording, step: str
) -> None:
    session = await begun(nas, recording, 1)
    target.rename(tmp_path / "unmounted")
    target.mkdir()

    async def read() -> None:
        async for _ in nas.read(KEY):
            pass

    deeds: dict[str, Callable[[], Awaitable[object]]] = {
        "probe": nas.probe,
        "stat": lambda: nas.stat(KEY),
        "put": lambda: acts.put(nas, acts.spec_of(KEY, recording.size), recording),
        "parts": lambda: nas.parts(session),
        "abort": lambda: nas.abort(session),
        "read": read,
    }
    with pytest.raises(Fault, match="is the mount there") as caught:
        await deeds[step]()

    assert caught.value.failure is FailureClass.PROVIDER
    assert not isinstance(caught.value, SessionGone)
    assert caught.value.hint
    assert list(target.iterdir()) == []
    target.rmdir()
    (tmp_path / "unmounted").rename(target)
    assert [part.size for part in await nas.parts(session)] == [PART], "it heals by itself"


async def test_a_folder_that_was_used_before_must_have_its_marker(target: Path) -> None:
    provider = await directory(target, expect_marker=True)

    with pytest.raises(Fault) as caught:
        await provider.probe()

    assert (caught.value.failure, caught.value.code) == (FailureClass.PROVIDER, "no-marker")
    assert list(target.iterdir()) == []
    await provider.aclose()


async def test_a_marker_that_another_thread_makes_right_after_the_look_is_not_gone(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the first uploads ever begin at once."""
    tree = Target(target, require_mount=False, expect_marker=False)
    looked: list[str | bytes] = []
    stat = os.stat

    def overtaken(path: str | bytes, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> object:
        try:
            return stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        except FileNotFoundError:
            if not looked:
                looked.append(path)
                with tree.opened(writing=True):
                    pass
            raise

    monkeypatch.setattr(os, "stat", overtaken)
    with tree.opened(writing=True):
        assert looked == [b".uploaderd/marker"]
    assert (target / ".uploaderd" / "marker").exists()


async def test_an_absent_folder_is_never_made_and_heals(tmp_path: Path) -> None:
    provider = await directory(tmp_path / "later")
    with pytest.raises(Fault) as caught:
        await provider.probe()
    assert (caught.value.failure, caught.value.code) == (FailureClass.PROVIDER, "ENOENT")
    assert not (tmp_path / "later").exists()

    (tmp_path / "later").mkdir()

    await provider.probe()
    await provider.aclose()


async def test_require_mount_takes_a_mount_and_refuses_the_root_file_system() -> None:
    bare = await directory(Path("/"), require_mount=True)
    with pytest.raises(Fault) as caught:
        await bare.stat("never-there")
    assert (caught.value.failure, caught.value.code) == (FailureClass.PROVIDER, "no-mount")
    await bare.aclose()

    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        mounted = await directory(Path(folder), require_mount=True)
        await mounted.probe()
        await mounted.aclose()
