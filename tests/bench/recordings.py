"""Files that stand for recordings: of random bytes, so that nothing on the way can shorten them."""

from __future__ import annotations

import os
import random
from pathlib import Path

_BLOCK = 4 * 2**20


def folder_of(base: Path, count: int, size: int) -> Path:
    """A folder below `base` with `count` files of `size` bytes, in the page cache; made where missing."""
    folder = base / f"{count}x{size}"
    if not (folder / "whole").exists():
        (folder / "files").mkdir(parents=True, exist_ok=True)
        generator = random.Random(size)
        for number in range(count):
            write(folder / "files" / f"{number:06d}.mp4", size, generator)
        os.sync()  # so that no run shares the disk with what is still to be written of them
        (folder / "whole").touch()
    warm(folder / "files")
    return folder / "files"


def sparse(base: Path, size: int) -> Path:
    """A folder with one file of `size` bytes of nothing, which takes no room on the disk."""
    folder = base / f"sparse-{size}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "000000.mp4").open("ab") as file:
        file.truncate(size)
    return folder


def write(path: Path, size: int, generator: random.Random) -> None:
    with path.open("wb") as file:
        for left in range(size, 0, -_BLOCK):
            file.write(generator.randbytes(min(left, _BLOCK)))


def warm(folder: Path) -> None:
    """Have the page cache hold every file of the folder."""
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            while file.read(_BLOCK):
                pass


def cool(folder: Path) -> None:
    """Have the page cache hold none of them: the next reader reads from the disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
