"""Whether the files that a login was read from have changed since: a rotated key needs no restart."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from typing import Final

from uploaderd.config.secret_files import Stamp, stamp

LOOK_SECONDS: Final = 5.0
"""At most so often the files are looked at, on a thread: they may lie on a network file system."""

_Look = tuple[Stamp, ...]


class CredentialFiles:
    """Files by their paths; what is not there counts as well. Made before they are read."""

    def __init__(self, paths: Iterable[str | os.PathLike[str]], every: float | None = None) -> None:
        self._paths = tuple(os.path.expanduser(path) for path in paths)
        self._every = LOOK_SECONDS if every is None else every
        self._seen = self._look()
        self._due = time.monotonic() + self._every

    async def changed(self) -> bool:
        """Whether one of them is not what it was when this was made. Says so until it is made anew."""
        if not self._paths or time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + self._every
        return await asyncio.to_thread(self._look) != self._seen

    def _look(self) -> _Look:
        return tuple(stamp(path) for path in self._paths)
