"""One file on its way out, step by step: whatever happened in between is seen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from uploaderd import quarantine
from uploaderd.errors import FileVanished
from uploaderd.finished import lease_waited_for
from uploaderd.quarantine import Doubt, Leaving, name_aside
from uploaderd.renaming import rename_without_replacing

ASIDE = name_aside(b"a.mp4")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "cam1" / "a.mp4"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"what was sent")
    return path


@pytest.fixture
def leaving(path: Path) -> Iterator[Leaving]:
    leaving = Leaving(bytes(path.parents[1]), b"cam1/a.mp4")
    leaving.open()
    yield leaving
    leaving.close()


def change_secretly(path: Path) -> None:
    """Other bytes, of the same size, under the same time."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"WHAT")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def names(path: Path) -> list[str]:
    return [file.name for file in path.parent.iterdir()]


def test_it_goes(leaving: Leaving, path: Path) -> None:
    leaving.put_aside(ASIDE, without_lease=False)
    assert names(path) == [os.fsdecode(ASIDE)]
    leaving.remove(without_lease=False)
    assert names(path) == []
    assert leaving.is_gone
    assert not leaving.is_aside


def test_it_comes_back(leaving: Leaving, path: Path) -> None:
    leaving.put_aside(ASIDE, without_lease=False)
    assert leaving.put_back() == b"cam1/a.mp4"
    assert names(path) == ["a.mp4"]


@pytest.mark.parametrize("how", ["append", "secretly"])
def test_a_change_before_it_is_put_aside_is_seen(leaving: Leaving, path: Path, how: str) -> None:
    if how == "secretly":
        change_secretly(path)
    else:
        path.write_bytes(b"something else")
    with pytest.raises(Doubt) as doubt:
        leaving.put_aside(ASIDE, without_lease=False)
    assert doubt.value.why == "changed"
    assert names(path) == ["a.mp4"]


@pytest.mark.parametrize("how", ["append", "secretly"])
def test_a_change_while_it_is_aside_is_seen(leaving: Leaving, path: Path, how: str) -> None:
    leaving.put_aside(ASIDE, without_lease=False)
    aside = path.with_name(os.fsdecode(ASIDE))
    if how == "secretly":
        change_secretly(aside)
    else:
        with aside.open("ab") as file:
            file.write(b"and more")
    with pytest.raises(Doubt) as doubt:
        leaving.remove(without_lease=False)
    assert doubt.value.why == "changed"
    leaving.put_back()
    assert path.read_bytes() != b"what was sent"


def test_another_file_that_took_the_path_before_is_put_back(leaving: Leaving, path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(b"what was sent")  # alike to the byte, and another file all the same
    new.rename(path)
    with pytest.raises(Doubt):
        leaving.put_aside(ASIDE, without_lease=False)
    assert names(path) == ["a.mp4"]


def _in_the_last_instant(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Act after all has been looked at and before the file is renamed."""

    def renamed(*names: Any) -> None:
        act()
        monkeypatch.undo()
        rename_without_replacing(*names)

    monkeypatch.setattr(quarantine, "rename_without_replacing", renamed)


def test_another_file_that_took_the_path_in_the_last_instant_is_put_back(
    leaving: Leaving, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = path.with_name("new")
    new.write_bytes(b"what was sent")
    _in_the_last_instant(monkeypatch, lambda: os.rename(new, path))
    with pytest.raises(Doubt) as doubt:
        leaving.put_aside(ASIDE, without_lease=False)
    assert doubt.value.why == "replaced"
    assert leaving.is_aside
    leaving.put_back()
    assert names(path) == ["a.mp4"]


def test_a_recorder_that_waits_for_the_lease_gets_its_file(
    leaving: Leaving, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append() -> None:
        with path.open("ab") as file:
            file.write(b" and more")

    recorder = Thread(target=append)

    def act() -> None:
        recorder.start()
        until = time.monotonic() + 20
        while not lease_waited_for(leaving._fd):
            assert time.monotonic() < until

    _in_the_last_instant(monkeypatch, act)
    with pytest.raises(Doubt) as doubt:
        leaving.put_aside(ASIDE, without_lease=False)
    assert doubt.value.why == "writer"
    leaving.put_back()
    recorder.join(20)
    assert path.read_bytes() == b"what was sent and more"


def test_a_file_that_was_renamed_before_is_not_touched(leaving: Leaving, path: Path) -> None:
    path.rename(path.with_name("b.mp4"))
    with pytest.raises(Doubt):
        leaving.put_aside(ASIDE, without_lease=False)
    assert names(path) == ["b.mp4"]
    assert not leaving.is_aside


@pytest.mark.parametrize("without_lease", [False, True])
def test_a_writer_keeps_it_whatever_the_rules(leaving: Leaving, path: Path, without_lease: bool) -> None:
    with path.open("r+b"), pytest.raises(Doubt) as doubt:
        leaving.put_aside(ASIDE, without_lease=without_lease)
    assert doubt.value.why == "writer"
    leaving.put_aside(ASIDE, without_lease=without_lease)
    with path.with_name(os.fsdecode(ASIDE)).open("r+b"), pytest.raises(Doubt) as doubt:
        leaving.remove(without_lease=without_lease)
    assert doubt.value.why == "writer"
    assert leaving.is_aside


def test_what_somebody_took_away_while_it_was_aside_is_not_missed(leaving: Leaving, path: Path) -> None:
    leaving.put_aside(ASIDE, without_lease=False)
    path.with_name(os.fsdecode(ASIDE)).unlink()
    with pytest.raises(Doubt):
        leaving.remove(without_lease=False)
    assert not leaving.is_aside
    assert not leaving.is_gone, "and not by our hand"


def test_a_stranger_under_the_name_aside_is_not_removed(leaving: Leaving, path: Path) -> None:
    leaving.put_aside(ASIDE, without_lease=False)
    aside = path.with_name(os.fsdecode(ASIDE))
    aside.unlink()
    aside.write_bytes(b"what was sent")
    with pytest.raises(Doubt):
        leaving.remove(without_lease=False)
    assert aside.exists()


def test_no_link_is_followed(path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.mp4"
    path.rename(outside)
    path.symlink_to(outside)
    leaving = Leaving(bytes(path.parents[1]), b"cam1/a.mp4")
    with pytest.raises(FileVanished):
        leaving.open()
    leaving.close()
    assert outside.exists()
