"""Who runs the daemon of a ledger: a record lock on a file beside it.

A POSIX record lock (fcntl(2)) dies with its process however that ends, and can be asked for without
taking it, so `status` never gets in a starting daemon's way.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uploaderd.errors import LedgerHeld

_FLOCK: Final = "hhqqi"
"""`struct flock` on 64-bit Linux: type, whence, start, length, pid."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a ledger. `pid` is 0 if it lives in another PID namespace.

    `socket` is where it answers: a service manager may have told it another place than it tells the
    person who asks.
    """

    pid: int
    version: str
    started_at: int
    socket: Path | None = None


class LedgerLock:
    """Holds a ledger for this process until closed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, ledger: Path, version: str, now: int, socket: Path | None = None) -> LedgerLock:
        """Hold the ledger.

        Raises:
            LedgerHeld: another process does; names it.
        """
        fd = os.open(_beside(ledger), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            held = holder(ledger)
            raise LedgerHeld(
                f"the ledger {ledger} is held by another uploaderd"
                + (f" (process {held.pid})" if held is not None and held.pid else ""),
                "stop that one, or give this one a ledger of its own ([ledger] path)",
            ) from error
        told: dict[str, object] = {"pid": os.getpid(), "version": version, "started_at": now}
        if socket is not None:
            told["socket"] = str(socket)
        record = json.dumps(told).encode()
        os.pwrite(fd, record, 0)
        os.ftruncate(fd, len(record))
        return cls(fd)

    def close(self) -> None:
        """Give the ledger back. Idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def holder(ledger: Path) -> Holder | None:
    """The process that holds the ledger, or None. Takes nothing, writes nothing.

    Must not be called by the holder itself: closing any descriptor of the file drops its lock.
    """
    try:
        fd = os.open(_beside(ledger), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # A read lock, because a write lock may only be asked for by who may write.
        asked = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        if kind == fcntl.F_UNLCK:
            return None
        record = os.pread(fd, 4096, 0)
    finally:
        os.close(fd)
    try:
        told = json.loads(record)
        socket = Path(told["socket"]) if "socket" in told else None
        return Holder(pid, str(told["version"]), int(told["started_at"]), socket)
    except (ValueError, KeyError, TypeError):
        return Holder(pid, "", 0)  # it is about to write its record


def _beside(ledger: Path) -> Path:
    return ledger.with_name(ledger.name + ".lock")
