"""Free space, asked again and again by a process that must not pile up threads at a mount that hangs."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from uploaderd.report.disks import Disk

FRESH_SECONDS: Final = 10.0
"""How old an answer may be."""

PATIENCE_SECONDS: Final = 0.1
"""How long whoever asks waits for a new answer; a file system that takes longer is told of next time."""


class Disks:
    """The last answer of each folder's file system; no folder is ever asked by two threads at once."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[float, Disk]] = {}
        self._asked: set[Path] = set()
        self._lock = threading.Lock()

    def look(self, folders: Mapping[str, Path], now: float) -> dict[str, Disk]:
        """What is known of them at `now` (monotonic seconds), by the same names. Blocks a little."""
        threads = [
            threading.Thread(target=self._ask, args=(folder, now), daemon=True, name="disks")
            for folder in self._to_ask(folders, now)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS / len(threads))
        with self._lock:
            return {name: self._known.get(folder, (now, Disk()))[1] for name, folder in folders.items()}

    def _to_ask(self, folders: Mapping[str, Path], now: float) -> list[Path]:
        """Those whose answer is old, and whom nobody asks just now: one that hangs is not known."""
        with self._lock:
            old = [
                folder
                for folder in set(folders.values())
                if folder not in self._known or now - self._known[folder][0] >= FRESH_SECONDS
            ]
            for folder in old:
                if folder in self._asked:
                    self._known.pop(folder, None)
            wanted = [folder for folder in old if folder not in self._asked]
            self._asked.update(wanted)
            return wanted

    def _ask(self, folder: Path, now: float) -> None:
        try:
            disk = os.statvfs(folder)
        except OSError:
            found = Disk(there=False)
        else:
            found = Disk(there=True, free=disk.f_bavail * disk.f_frsize)
        with self._lock:
            self._known[folder] = (now, found)
            self._asked.discard(folder)
