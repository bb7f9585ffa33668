"""Marker files: a recorder says that a file is finished (`{path}.done`), or not yet (`{path}.lock`, `.tmp`).

The second kind speaks by vanishing. A file that was never seen to have a marker says nothing.
"""

from __future__ import annotations

import errno
import os
import threading
from enum import StrEnum
from typing import Final

DONE: Final = b".done"
BUSY: Final = (b".lock", b".tmp")

PATTERNS: Final = ("**/*.done", "**/*.lock", "**/*.tmp")
"""Markers are never recordings."""

ABANDONED: Final = 3600.0
"""Seconds of quiet after which a file without any marker counts all the same: its recorder died before it
left one, or its lock came and went while nobody watched. Nothing that is finished is missed for good."""

STALE_NS: Final = 2_000_000_000
"""A `.done` that is older than its file by more is of an earlier content."""

REMEMBERED: Final = 50_000
"""Locks that were seen, and whose vanishing is waited for."""


class Word(StrEnum):
    """What the markers of a file say."""

    DONE = "done"
    BUSY = "busy"
    NOTHING = "nothing"


def marked_by(path: bytes) -> bytes | None:
    """The file that the one at `path` would be the marker of; None if it is no marker."""
    for ending in (DONE, *BUSY):
        if path.endswith(ending) and not path.endswith(b"/" + ending) and path != ending:
            return path.removesuffix(ending)
    return None


class Markers:
    """The markers below one root. May be used from several threads."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._busy: dict[bytes, None] = {}
        self._lock = threading.Lock()

    def was_busy(self, path: bytes) -> None:
        """A `.lock` or `.tmp` of the file was seen."""
        with self._lock:
            self._busy[path] = None
            if len(self._busy) > REMEMBERED:
                del self._busy[next(iter(self._busy))]

    def word(self, path: bytes, mtime_ns: int) -> Word:
        """What is beside the file now, or was and is not any more. Blocks.

        Args:
            path: the recording's, relative to the root.
            mtime_ns: the recording's.

        Raises:
            OSError: the folder cannot be looked into.
        """
        if any(self._time_of(path + ending) is not None for ending in BUSY):
            self.was_busy(path)
            return Word.BUSY
        done = self._time_of(path + DONE)
        if path in self._busy or (done is not None and done + STALE_NS >= mtime_ns):
            return Word.DONE
        return Word.NOTHING

    def forget(self, path: bytes) -> None:
        """The file was taken in: what is locked from now on is another content."""
        with self._lock:
            self._busy.pop(path, None)

    def _time_of(self, path: bytes) -> int | None:
        try:
            return os.lstat(os.path.join(self._root, path)).st_mtime_ns
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None  # no marker can be beside a name so long
            raise
