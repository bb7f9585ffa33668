"""What file systems say now, for a process that asks once: their free space, or nothing at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uploaderd.config import Config

LOOK_SECONDS: Final = 0.15
"""What a file system may take to tell its free space: `status` answers within 0.3 s though a mount hangs."""

PATIENT_SECONDS: Final = 2.0
"""The same for who wants something of the folder itself, and could only wait for ever."""

SILENT: Final = "does not answer: its mount hangs, or its disk is very busy"
SILENT_HINT: Final = "see why (`df` on it, `dmesg`), or unmount it; nothing of it counts as deleted meanwhile"


@dataclass(frozen=True, slots=True)
class Disk:
    """What one look at a folder came to. `free` and `there` are None if it did not answer in time."""

    there: bool | None = None
    free: int | None = None


def look_at(folders: Mapping[str, Path], seconds: float = LOOK_SECONDS) -> dict[str, Disk]:
    """Free space of each folder's file system; all at once, and none for longer than that.

    Each look at a mount that hangs leaves a thread behind, which is nothing for a process that asks again
    and again.
    """
    found = {name: Disk() for name in folders}

    def look(name: str, folder: Path) -> None:
        try:
            disk = os.statvfs(folder)
        except OSError:
            found[name] = Disk(there=False)
        else:
            found[name] = Disk(there=True, free=disk.f_bavail * disk.f_frsize)

    # Threads that nobody waits for: a mount whose server is gone may never answer.
    threads = [threading.Thread(target=look, args=item, daemon=True) for item in folders.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds / len(threads))
    return dict(found)


def silent(config: Config) -> list[str]:
    """Sources whose folders do not answer: whoever touches a file there may wait for ever."""
    looks = look_at({name: Path(source.path) for name, source in config.sources.items()}, PATIENT_SECONDS)
    return [name for name, disk in looks.items() if disk.there is None]
