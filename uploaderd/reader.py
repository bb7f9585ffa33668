"""Byte ranges of a recording, read in windows while they are sent, checksummed in the same pass.

The file is opened once per attempt (`beneath`); what is read is compared with what was queued before
and after. Windows that the page cache holds are read on the event loop (`RWF_NOWAIT`: the kernel refuses
rather than blocks, preadv2(2)); all others on threads.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self, TypeVar

from uploaderd import checksum
from uploaderd.beneath import fault_of, fingerprint, identity_of, open_beneath, shown
from uploaderd.errors import FileChanged
from uploaderd.model import Checksum, FileIdentity

Window = bytes | bytearray
T = TypeVar("T")

WINDOW: Final = 256 * 1024
"""Bytes read at once: small enough to be hashed on the loop (some 25 microseconds), large enough
that the loop's own work per window does not show."""

HELD: Final = 4 * WINDOW
"""Bytes of a range that are kept from its checksum to its sending: each window that is read lets go of the
interpreter, which another thread takes."""

_TURN: Final = 4 * WINDOW
"""Bytes after which a body lets others run: a fifth of a millisecond of hashing and copying."""

_threads: Final = ThreadPoolExecutor(8, thread_name_prefix="reader")
"""Disk reads wait here; they are their own pool so that a hung disk starves nothing else."""


class OpenRecording:
    """A recording's file, open for one attempt. Close it; closing waits for reads under way."""

    def __init__(self, fd: int, root: bytes, path: bytes, identity: FileIdentity) -> None:
        self._fd = fd
        self._root = root
        self._path = path
        self._reads: set[asyncio.Future[Any]] = set()
        self._nowait = hasattr(os, "RWF_NOWAIT")
        self.identity = identity
        """As it was when it was opened, fingerprint included."""

    @classmethod
    async def open(cls, root: bytes, path: bytes) -> OpenRecording:
        """Open and look at the file.

        Raises:
            FileVanished, FileFault: as `open_beneath`.
        """

        def opened() -> OpenRecording:
            fd = open_beneath(root, path)
            try:
                status = os.fstat(fd)
                identity = identity_of(status, fingerprint(fd, status.st_size))
            except OSError as error:
                os.close(fd)
                raise fault_of(error, root, path) from error
            return cls(fd, root, path, identity)

        return await asyncio.get_running_loop().run_in_executor(_threads, opened)

    @property
    def size(self) -> int:
        return self.identity.size

    def fileno(self) -> int:
        """The descriptor, for looking at it (leases, fstat); reading goes through `body`."""
        return self._fd

    def body(
        self,
        offset: int,
        size: int,
        *,
        md5: bool = False,
        pace: Callable[[int], Awaitable[None]] | None = None,
        window: int = WINDOW,
    ) -> Body:
        """The range [offset, offset + size). `pace` is awaited with each window's size first.

        `window`: bytes that are sent at once, at most `WINDOW`.
        """
        return Body(self, offset, size, md5=md5, pace=pace, window=window)

    async def look_again(self, writer_has: Callable[[int], bool | None] | None = None) -> bool:
        """Whether the file still has a name; its content must be what was opened.

        False once it was unlinked, all of it: what was read is whole, and this is the last of it. A file
        that is merely not at its path was moved, or its mount went away: it has a name somewhere.
        `writer_has`, given the descriptor, tells whether somebody has the file open for writing.

        Raises:
            FileChanged: the content changed, another file took the path, or somebody is writing to it.
        """

        def looked() -> bool:
            named = looked_at_name()
            if writer_has is not None and writer_has(self._fd):
                raise FileChanged("somebody has the file open for writing again", code="writer")
            return named

        def looked_at_name() -> bool:
            now = os.fstat(self._fd)
            if (now.st_size, now.st_mtime_ns) != (self.identity.size, self.identity.mtime_ns):
                raise FileChanged(
                    f"{shown(self._root, self._path)} changed while it was being sent",
                    code="changed",
                )
            try:
                there = os.stat(os.path.join(self._root, self._path), follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return now.st_nlink > 0
            except OSError as error:
                raise fault_of(error, self._root, self._path) from error
            if (there.st_ino, there.st_dev) != (now.st_ino, now.st_dev):
                raise FileChanged(
                    f"{shown(self._root, self._path)} was replaced while it was being sent",
                    code="replaced",
                )
            return True

        return await self.on_thread(looked)

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work on this file; `close` waits for it."""
        future = asyncio.get_running_loop().run_in_executor(_threads, work)
        self._reads.add(future)
        future.add_done_callback(self._reads.discard)
        return await asyncio.shield(future)

    async def read(self, offset: int, size: int, running: checksum.Running) -> Window:
        """One window, hashed into `running`.

        Raises:
            FileChanged: the file is shorter than it was.
            LocalFault: the disk refused (class transient: disks and network mounts come back).
        """
        if self._nowait:
            window = bytearray(size)
            try:
                if os.preadv(self._fd, [window], offset, os.RWF_NOWAIT) == size:
                    running.update(window)
                    return window
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise fault_of(error, self._root, self._path) from error
                self._nowait = False

        def blocking() -> bytes:
            try:
                data = os.pread(self._fd, size, offset)
                while len(data) < size and (more := os.pread(self._fd, size - len(data), offset + len(data))):
                    data += more
            except OSError as error:
                raise fault_of(error, self._root, self._path) from error
            if len(data) < size:
                raise FileChanged(
                    f"{shown(self._root, self._path)} became shorter while it was being sent",
                    code="truncated",
                )
            running.update(data)
            return data

        return await self.on_thread(blocking)

    async def close(self) -> None:
        """Close the file, once no thread reads from it any more. Idempotent."""
        while self._reads:
            await asyncio.wait(self._reads)
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.shield(self.close())


class Body:
    """A byte range of an open recording; satisfies `provider.Body`."""

    def __init__(
        self,
        recording: OpenRecording,
        offset: int,
        size: int,
        *,
        md5: bool,
        pace: Callable[[int], Awaitable[None]] | None,
        window: int,
    ) -> None:
        self._recording = recording
        self._offset = offset
        self._size = size
        self._md5 = md5
        self._pace = pace
        self._window = window
        self._checksum: Checksum | None = None
        self._digest: Checksum | None = None
        self._held: list[Window] = []

    @property
    def offset(self) -> int:
        return self._offset

    @property
    def size(self) -> int:
        return self._size

    def __len__(self) -> int:
        return self._size

    @property
    def checksum(self) -> Checksum:
        """Of the whole range, once it was read to its end.

        Raises:
            RuntimeError: asked before that.
        """
        if self._checksum is None:
            raise RuntimeError("the range was not read to its end")
        return self._checksum

    async def __aiter__(self) -> AsyncIterator[Window]:
        held, self._held = self._held, []
        if not held or len(held[0]) > self._window:
            async for window in self._windows(self._pace, self._window):
                yield window
            return
        self._checksum = None
        held.reverse()
        while held:
            window = held.pop()
            if self._pace is not None:
                await self._pace(len(window))
            if not held:
                self._checksum = self._digest
            yield window

    async def digest(self) -> Checksum:
        """Checksum of the range before it is sent: read once, remembered.

        Of a range of at most `HELD` bytes the content is as well, until it is sent: it is read once in all,
        unless it has to be sent in smaller windows.
        """
        if self._digest is None:
            keeps = self._size <= HELD and min(self._size, WINDOW) <= self._window
            held = [window async for window in self._windows(None, WINDOW) if keeps]
            self._digest, self._held = self.checksum, held
        return self._digest

    async def _windows(
        self, pace: Callable[[int], Awaitable[None]] | None, most: int
    ) -> AsyncIterator[Window]:
        self._checksum = None
        running = checksum.Running(md5=self._md5)
        position, end = self._offset, self._offset + self._size
        while position < end:
            size = min(most, end - position)
            if pace is not None:
                await pace(size)
            window = await self._recording.read(position, size, running)
            position += size
            if (position - self._offset) % _TURN == 0:
                # Cached windows and a socket that takes everything never wait: without this the loop
                # stands still for a whole part, and a broken connection is noticed only after it.
                await asyncio.sleep(0)
            if position >= end:
                # Known before the last window leaves: a trailer may want it.
                self._checksum = running.value()
            yield window
        if self._size == 0:
            self._checksum = running.value()
