"""A symbolic link takes the place of the file, or of a folder above it, while it is opened."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.kill.figures import Record
from uploaderd.beneath import open_beneath
from uploaderd.errors import Fault, FileVanished

TRIES: Final = 10_000

SWAPPER: Final = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
one, other = (os.fsencode(path) for path in sys.argv[1:])
print("swapping", flush=True)
while os.getppid() == {parent}:
    # renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE): there is no moment without either
    if libc.renameat2(-100, one, -100, other, 2):
        raise OSError(ctypes.get_errno(), "renameat2")
"""


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Another process exchanges the two names, as fast as it can."""
    command = [sys.executable, "-c", SWAPPER.format(parent=os.getpid()), str(one), str(other)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"swapping\n"
        try:
            yield
            assert process.poll() is None, "it swapped to the end"
        finally:
            process.kill()


@pytest.mark.parametrize("what", ["the file", "its folder", "a folder above"])
def test_not_one_byte_from_outside_the_source(tmp_path: Path, what: str, record: Record) -> None:
    assert hasattr(ctypes.CDLL(None), "renameat2")
    source, outside = tmp_path / "source", tmp_path / "outside"
    path = source / "cams" / "one" / "a.mp4"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"of the source")
    # Outside it looks the same from each folder on.
    (outside / "cams" / "one").mkdir(parents=True)
    (outside / "cams" / "one" / "a.mp4").write_bytes(b"OF NOBODY'S BUSINESS")
    level = {"the file": path, "its folder": path.parent, "a folder above": path.parent.parent}[what]
    link = tmp_path / "link"
    link.symlink_to(outside / level.relative_to(source))
    opened = refused = 0
    with swapping(level, link):
        for _ in range(TRIES):
            try:
                fd = open_beneath(os.fsencode(source), b"cams/one/a.mp4")
            except FileVanished:
                refused += 1
                continue
            try:
                assert os.pread(fd, 100, 0) == b"of the source"
            finally:
                os.close(fd)
            opened += 1
    assert opened, "it was never the file"
    assert refused, "it was never the link"
    record("tries", TRIES)
    record("refused", refused)
    record("bytes from outside", 0)


def test_a_link_in_the_way_is_refused_while_it_is_there(tmp_path: Path) -> None:
    """The same without a race: each level, each kind of thing that may stand there."""
    source = tmp_path / "source"
    (source / "cams").mkdir(parents=True)
    (tmp_path / "a.mp4").write_bytes(b"outside")
    for target in (tmp_path, Path("/"), Path("..")):
        (source / "cams" / "one").symlink_to(target)
        with pytest.raises(FileVanished):
            open_beneath(os.fsencode(source), b"cams/one/a.mp4")
        (source / "cams" / "one").unlink()
    for bad in (b"../a.mp4", b"cams/../../a.mp4", b"/etc/passwd", b"cams//a.mp4", b"."):
        with pytest.raises(Fault):
            open_beneath(os.fsencode(source), bad)
