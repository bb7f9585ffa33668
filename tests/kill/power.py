"""A disk whose power can be cut: ext4 on a loop device over a file in memory.

What the file holds at an instant is what a disk would have after a power cut then: all that was synced, and
of the rest what the kernel happened to have written. It is copied while the writer is stopped.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.needs import MissingError

SIZE: Final = 512 * 2**20
"""Bytes, of which hardly any are in memory."""


@dataclass
class Machine:
    """A machine with one disk, at `path` while it is powered."""

    path: Path
    _image: Path

    @contextmanager
    def powered(self) -> Iterator[None]:
        """Its disk mounted, the journal played back as after a power cut."""
        # The journal is written when somebody syncs, and hardly ever by itself: that would save what was not.
        _run("mount", "-t", "ext4", "-o", "loop,commit=300", str(self._image), str(self.path))
        try:
            yield
        finally:
            subprocess.run(["umount", str(self.path)], check=True)

    @contextmanager
    def cut(self, writer: int) -> Iterator[None]:
        """The power fails now, for this process: kill it in the block. What comes after it has the disk
        as it was.
        """
        _stop(writer)
        left = self._image.with_suffix(".left")
        subprocess.run(["cp", "--sparse=always", self._image, left], check=True)
        yield
        self._left = left

    def restore(self) -> None:
        """Between two times of being powered: the disk is what the cut left of it."""
        self._left.replace(self._image)


def machine(folder: Path) -> Machine:
    """A machine with an empty disk.

    Raises:
        MissingError: this user may not mount one.
    """
    made = Machine(folder / "disk", folder / "disk.img")
    made.path.mkdir()
    with made._image.open("wb") as file:
        file.truncate(SIZE)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", str(made._image))
    with made.powered():
        pass
    return made


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MissingError(f"{command[0]} is not installed") from None
    if done.returncode != 0:
        raise MissingError(f"a loop image cannot be mounted here: {done.stderr.strip()}")


def _stop(pid: int) -> None:
    """SIGSTOP, and wait until each of its threads stands: one that syncs does so only after that."""
    subprocess.run(["kill", f"-{signal.SIGSTOP.value}", str(pid)], check=True)
    deadline = time.monotonic() + 30
    while {_state(task) for task in Path(f"/proc/{pid}/task").iterdir()} != {"T"}:
        assert time.monotonic() < deadline, "it does not stop"


def _state(task: Path) -> str:
    return task.joinpath("stat").read_text().rpartition(")")[2].split()[0]
