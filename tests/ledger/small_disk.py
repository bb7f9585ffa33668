"""A small disk of its own for a ledger, that a test fills up and frees again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.needs import MissingError, lacking


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A file system of `size` bytes at `path`."""

    path: Path

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self) -> None:
        """Take every free byte."""
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                pass
        assert os.statvfs(self.path).f_bavail == 0

    def free(self) -> None:
        """Give all of them back."""
        self._ballast.unlink()


@contextmanager
def small_disk(path: Path, size: str = "16M") -> Iterator[SmallDisk]:
    """A tmpfs at `path`, which is made.

    Raises:
        MissingError: this user may not mount one.
    """
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", path],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        raise MissingError(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    # By a process that outlives whoever is killed: what it reads ends with them.
    unmounting = subprocess.Popen(
        ["sh", "-c", 'read -r _; exec umount --lazy "$0"', path],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield SmallDisk(path)
    finally:
        assert unmounting.stdin is not None
        unmounting.stdin.close()
        assert unmounting.wait(60) == 0


@contextmanager
def small_disk_or_skip(path: Path) -> Iterator[SmallDisk]:
    """The same for a fixture: where it cannot be mounted, the test is skipped, or fails if it must run."""
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(path))
        except MissingError as error:
            lacking(error)
        yield disk
