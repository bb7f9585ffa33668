"""The root of a source: is it there, is it the one that was there, and what lies under it?

An empty or vanished mount is never "all files were deleted".
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Final

from uploaderd.mounts import Mount, mount_of
from uploaderd.waiting import on_own_thread

ANSWER_SECONDS: Final = 30.0
"""How long a root may take to answer. By the wall's time, and not by a clock that may be turned."""

SILENT: Final = "it does not answer: its mount hangs"


@dataclass(frozen=True, slots=True)
class Root:
    """A source's root as it is now.

    Attributes:
        missing: why it counts as missing; empty while it is there.
        device: st_dev; None while it is missing.
        inode: with `device`, tells a root that was made anew from the one that was watched.
        mount: what kind of file system it lies on.
    """

    missing: str
    device: int | None = None
    inode: int | None = None
    mount: Mount = Mount.LOCAL


def look_at_root(path: bytes, remembered: int | None) -> Root:
    """Look at the root. Blocks, on a mount that hangs for good.

    Args:
        path: absolute.
        remembered: the device that it was last seen on; None if it never was.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return Root(missing=error.strerror or "cannot be opened")
    try:
        status = os.fstat(fd)
        # Device numbers change across reboots, too; but where a disk was unplugged an empty folder of
        # the parent's own device is left.
        if (
            remembered not in (None, status.st_dev)
            and status.st_dev == os.stat("..", dir_fd=fd).st_dev
            and _empty(fd)
        ):
            return Root(missing="it is empty, and not on the device that it was on: is its disk mounted?")
        return Root("", status.st_dev, status.st_ino, mount_of(fd))
    except OSError as error:
        return Root(missing=error.strerror or "cannot be read")
    finally:
        os.close(fd)


class Looks:
    """Looks at a root, one at a time, each on a thread that nobody waits for."""

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._looking: asyncio.Task[Root] | None = None

    async def look(self, remembered: int | None) -> Root:
        """The root as it is now; missing, too, while it does not answer. `remembered`: see `look_at_root`."""
        while True:
            # What a look came to that was given up may be long past.
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(
                    on_own_thread(lambda: look_at_root(self._path, remembered)), name="root"
                )
            looking = self._looking
            # A look that hangs stays the only one: each would keep a thread for good.
            if not (await asyncio.wait((looking,), timeout=ANSWER_SECONDS))[0]:
                return Root(missing=SILENT)
            if not looking.cancelled():  # else closed by another, who has nothing to do with us
                return looking.result()

    def close(self) -> None:
        """Leave no look behind. Whoever waits for it still begins another."""
        if self._looking is not None:
            self._looking.cancel()


def _empty(fd: int) -> bool:
    with os.scandir(fd) as scan:
        return next(scan, None) is None
