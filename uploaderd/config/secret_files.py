"""Files that hold secrets: whether they have changed since they were read.

A mounted Kubernetes Secret is rotated beneath the running daemon. What systemd hands over with
LoadCredential is not: it is made when the service starts, and stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SYSTEMD: Final = Path("/run/credentials")
"""Below it systemd makes $CREDENTIALS_DIRECTORY (systemd.exec(5), "Credentials")."""

Stamp = tuple[int, int, int] | None
"""A file's time, inode and size; None where it is not there."""


def stamp(path: str | os.PathLike[str]) -> Stamp:
    """Of what is behind the links: Kubernetes changes a mounted Secret by one."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """The folders that secrets were read from, and how they looked before."""

    folders: tuple[Path, ...]
    stamps: dict[str, Stamp]

    @classmethod
    def of(cls, folders: Iterable[Path]) -> SecretFiles:
        """As they look now. Asks the disk."""
        there = tuple(folders)
        return cls(there, _look(there))

    def look(self) -> dict[str, Stamp]:
        """As they look now, to be compared with `stamps`. Asks the disk."""
        return _look(self.folders)

    @property
    def fixed(self) -> bool:
        """Whether some of them stay as they were at the start, whatever becomes of their originals."""
        return any(folder.is_relative_to(SYSTEMD) for folder in self.folders)


def _look(folders: Iterable[Path]) -> dict[str, Stamp]:
    found: dict[str, Stamp] = {}
    for folder in folders:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        found |= {os.path.join(folder, name): stamp(folder / name) for name in names if "__" in name}
    return found
