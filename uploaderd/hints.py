"""Hints from the kernel that something changed below a folder. Never the truth: the sweep is that.

watchfiles 1.3 was seen to miss files written at once into a new folder and whatever is in a folder that
is moved in, to drop an overflow of the kernel's queue, to stay deaf when its root is made anew, to stop
for good at a name that is not UTF-8, and to say nothing when the limit of watches is reached by a
folder made later. It tells nothing of a close. Whoever listens sweeps at any doubt.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from watchfiles import Change, watch

DEBOUNCE_MS: Final = 100
"""Changes are gathered at most that long, so that a file written all the time is not waited for."""

STEP_MS: Final = 100
"""How long nothing may change until changes are told. The library's thread also wakes that often when nothing
ever does: at 40 ms that was two thirds of what an idle daemon took."""

BEAT_MS: Final = 500
"""How long nothing may change until the library says so. The first time, that shows that the watch stands."""

BEATS: Final = 4
"""So many of these are one empty set. Waking the loop each time was a quarter of an idle daemon's work."""

_libc: Final = ctypes.CDLL(None, use_errno=True)
_QUEUE: Final = Path("/proc/sys/fs/inotify/max_queued_events")
_IN_CREATE: Final = 0x100  # inotify(7)
_QUEUED: Final = 16_384
"""What the kernel's queue holds unless it is told otherwise."""

Hints = set[tuple[Change, str]]


async def hints(root: bytes, *, lenient: bool = False) -> AsyncGenerator[Hints, None]:
    """Changes below the folder, with whole paths; an empty set when it stands, and now and then.

    Watching is set up on a thread: it walks the whole tree.

    Args:
        root: the folder.
        lenient: go on where a folder below it may not be read. watchfiles then gives up, in silence, on
            the folders that come after: sweep often.

    Raises:
        FileNotFoundError: the folder is not there, or one below it vanished in that moment.
        PermissionError: a folder below it may not be read.
        OSError: the limit of watches is reached.
        RuntimeError: watchfiles failed, or cannot go on.
    """
    stop = threading.Event()
    changes = watch(
        os.fsdecode(root),
        watch_filter=None,
        debounce=DEBOUNCE_MS,
        step=STEP_MS,
        rust_timeout=BEAT_MS,
        yield_on_timeout=True,
        stop_event=stop,
        raise_interrupt=False,
        force_polling=False,
        ignore_permission_denied=lenient,
    )
    # A thread of its own: it is busy all the time, and a mount that hangs must not hold up others.
    thread = ThreadPoolExecutor(1, thread_name_prefix="hints")

    def heard(beats: int) -> Hints | None:
        batch: Hints | None = set()
        while beats > 0 and batch is not None and not batch:
            batch = next(changes, None)
            beats -= 1
        return batch

    try:
        loop = asyncio.get_running_loop()
        beats = 1
        while (batch := await loop.run_in_executor(thread, heard, beats)) is not None:
            beats = BEATS
            yield batch
    finally:
        stop.set()
        thread.submit(changes.close)
        thread.shutdown(wait=False)


def flood() -> int:
    """Hints at once that make an overflow of the kernel's queue likely, which watchfiles keeps to itself.

    A fourth of what the queue holds (inotify(7), max_queued_events): a file that is written is several
    events and one hint.
    """
    try:
        queued = int(_QUEUE.read_text())
    except (OSError, ValueError):
        queued = _QUEUED
    return max(1, min(queued, _QUEUED) // 4)


def watch_limit_reached(root: bytes) -> bool:
    """Whether the kernel refuses this user another inotify watch or instance.

    watchfiles does not say so of folders that were made after it began.
    """
    fd = _libc.inotify_init1(os.O_CLOEXEC)
    if fd < 0:
        return ctypes.get_errno() in (errno.EMFILE, errno.ENFILE)
    try:
        # The number of watches is what is limited (inotify(7), ENOSPC), whichever folder they are on.
        return _libc.inotify_add_watch(fd, root, _IN_CREATE) < 0 and ctypes.get_errno() == errno.ENOSPC
    finally:
        os.close(fd)
