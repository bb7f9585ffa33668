"""Who has a file open for writing, as far as /proc shows it to whoever asks (proc(5), fdinfo)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WritingProcess:
    pid: int
    name: str


def writers(path: bytes) -> list[WritingProcess]:
    """Processes that have the file open for writing; not those of other users, unless asked by root."""
    try:
        wanted = os.stat(path)
    except OSError:
        return []
    name = os.path.basename(path)
    return [
        WritingProcess(int(pid), _name(pid))
        for pid in os.listdir("/proc")
        if pid.isdigit() and any(_writes(pid, fd, wanted) for fd in _open_as(pid, name))
    ]


def _open_as(pid: str, name: bytes) -> Iterator[str]:
    """Descriptors whose link ends in the file's name: looking at all could wait for a mount that hangs."""
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            if os.path.basename(os.readlink(os.fsencode(f"/proc/{pid}/fd/{fd}"))) == name:
                yield fd
    except OSError:
        return  # another user's process, or one that just ended


def _writes(pid: str, fd: str, wanted: os.stat_result) -> bool:
    try:
        found = os.stat(f"/proc/{pid}/fd/{fd}")
        with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as info:
            flags = next(int(line.split()[1], 8) for line in info if line.startswith("flags:"))
    except (OSError, StopIteration):
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino) and flags & os.O_ACCMODE != 0


def _name(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
            return comm.read().strip()
    except OSError:
        return "ended"
