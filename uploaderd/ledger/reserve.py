"""Room on the ledger's disk that is kept back, so that a full disk cannot stop what would free it.

A file beside the ledger, `<ledger>.reserve`, allocated and never written to. When the disk is full it is
given up for requests that free space; until it could be taken again no others are let through, or they
would use it up.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

SIZE: Final = 4 * 2**20
"""Bytes: some fifty removals, each of which frees a recording."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reserve:
    """The reserve of one ledger. All methods block: call them on the ledger's thread."""

    def __init__(self, ledger: Path, size: int = SIZE) -> None:
        self._path = ledger.with_name(ledger.name + ".reserve")
        self._size = size
        self._held = False

    def take(self) -> bool:
        """Whether it is there, now if not before. False on a full disk.

        Where room cannot be kept back at all (a file system that does not know fallocate) there is
        nothing to hold, and nothing to wait for.
        """
        if self._held:
            return True
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            return error.errno not in _FULL
        try:
            os.posix_fallocate(fd, 0, self._size)
        except OSError as error:
            # What was had of it would only make the disk fuller.
            os.ftruncate(fd, 0)
            return error.errno not in _FULL
        finally:
            os.close(fd)
        self._held = True
        return True

    def give_up(self) -> bool:
        """Give its room back to the disk. True if there was any."""
        if not self._held:
            return False
        self._held = False
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False  # somebody has done it already
        try:
            os.ftruncate(fd, 0)
            # ext4 lets others have the blocks only once that is on disk.
            os.fsync(fd)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True
