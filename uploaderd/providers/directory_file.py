"""One file of a directory provider: written in windows, synced, read back past the page cache."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Self, TypeVar

from uploaderd import checksum
from uploaderd.model import Checksum
from uploaderd.provider import Body
from uploaderd.providers.directory_faults import fault_of

T = TypeVar("T")

_BATCH: Final = 1024 * 1024
"""Bytes that go to a thread at once: several of the reader's windows, a millisecond of writing."""

_BATCH_WINDOWS: Final = 256
"""Windows that go to a thread at once; the kernel takes 1,024 (IOV_MAX)."""

_HOP: Final = 16 * 1024 * 1024
"""Bytes read back in one visit to a thread, so that a cancellation is noticed on the way."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class OpenFile:
    """An open file whose blocking deeds run on threads, one after another.

    A cancelled caller does not wait for a disk that hangs: leaving closes the file once the deed
    under way has come back, however long that takes.
    """

    def __init__(self, threads: ThreadPoolExecutor, where: str, opening: Callable[[], int]) -> None:
        self._threads = threads
        self._where = where
        self._opening = opening
        self._fd = -1
        self._last: Future[Any] | None = None

    async def __aenter__(self) -> Self:
        def opened() -> None:
            self._fd = self._opening()

        await self.run("opening", opened)
        return self

    async def __aexit__(self, *exc: object) -> None:
        def closed() -> None:
            if self._fd >= 0:
                fd, self._fd = self._fd, -1
                os.close(fd)

        def later(_: Future[Any]) -> None:
            try:
                self._threads.submit(closed)
            except RuntimeError:  # the provider was closed meanwhile
                closed()

        assert self._last is not None
        self._last.add_done_callback(later)

    def fileno(self) -> int:
        return self._fd

    async def run(self, doing: str, work: Callable[[], T]) -> T:
        """Run blocking work.

        Raises:
            Fault: for what the kernel refused.
        """
        return await asyncio.wrap_future(self._submit(doing, work))

    def _submit(self, doing: str, work: Callable[[], T]) -> Future[T]:
        def guarded() -> T:
            try:
                return work()
            except OSError as error:
                raise fault_of(error, doing, self._where) from error

        future = self._threads.submit(guarded)
        self._last = future
        return future

    async def write(self, body: Body, offset: int) -> None:
        """Write the body from `offset` on; the next windows are read while the last are written."""
        writing: asyncio.Future[None] | None = None
        batch: list[bytes | bytearray] = []
        waiting = 0
        try:
            async for window in body:
                batch.append(window)
                waiting += len(window)
                if waiting < _BATCH and len(batch) < _BATCH_WINDOWS:
                    continue
                if writing is not None:
                    await writing
                writing = self._start_writing(batch, offset)
                offset += waiting
                batch, waiting = [], 0
            if writing is not None:
                await writing
            if batch:
                writing = self._start_writing(batch, offset)
                await writing
        finally:
            if writing is not None:
                writing.cancel()

    def _start_writing(self, windows: list[bytes | bytearray], offset: int) -> asyncio.Future[None]:
        future = asyncio.wrap_future(self._submit("writing", lambda: _write_all(self._fd, windows, offset)))
        # Its fault is of no interest if the body failed first.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    async def sync(self) -> None:
        """Have everything on disk, the file's own size and attributes included."""
        await self.run("syncing", lambda: os.fsync(self._fd))

    async def read_back(self, offset: int, size: int) -> Checksum:
        """Checksum of what the disk, not the page cache, has in the range. After `sync` only."""
        running = checksum.Running()

        def hashed(start: int, length: int) -> None:
            for window in _from_disk(self._fd, start, length):
                running.update(window)

        end = offset + size
        while offset < end:
            length = min(_HOP, end - offset)
            await self.run("reading back", partial(hashed, offset, length))
            offset += length
        return running.value()

    async def windows(self) -> AsyncIterator[bytes]:
        """The whole file, read past the page cache."""
        offset = 0
        while window := await self.run("reading", partial(self._window, offset)):
            yield window
            offset += len(window)

    def _window(self, offset: int) -> bytes:
        return b"".join(_from_disk(self._fd, offset, _BATCH))


def _from_disk(fd: int, offset: int, size: int) -> Iterator[bytes]:
    # Clean pages are dropped and come from the disk again (posix_fadvise(2)). A file system that has
    # its pages nowhere else, tmpfs, keeps them. Only whole pages are: so the range is widened to them.
    start = offset - offset % _PAGE
    os.posix_fadvise(fd, start, offset + size - start + _PAGE, os.POSIX_FADV_DONTNEED)
    end = offset + size
    while offset < end and (window := os.pread(fd, min(_BATCH, end - offset), offset)):
        yield window
        offset += len(window)


def _write_all(fd: int, windows: list[bytes | bytearray], offset: int) -> None:
    total = sum(len(window) for window in windows)
    written = os.pwritev(fd, windows, offset)
    if written < total:  # a signal, a full disk or a quota in the middle: the rest, or the reason
        rest = memoryview(b"".join(windows))
        while written < total:
            written += os.pwrite(fd, rest[written:], offset + written)
