"""What a `directory` provider's folder is like before anything is written there. Everything blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from uploaderd.acts.acting import user
from uploaderd.config import DirectoryProvider
from uploaderd.doctor.findings import Found, fail, ok, warn
from uploaderd.report.lines import size

LEAST_FREE: Final = 2**30

_OWN: Final = ".uploaderd"


def folder(config: DirectoryProvider) -> Found:
    """Is it there, and is there room?"""
    if not config.path.is_dir():
        return fail(f"the folder {config.path} is not there", "mount what belongs there, or create it")
    disk = os.statvfs(config.path)
    free = disk.f_bavail * disk.f_frsize
    if free < LEAST_FREE:
        return warn(f"{size(free)} free in {config.path}", "free some space there")
    return ok(f"{config.path}, {size(free)} free")


def others(path: Path) -> str:
    """Whose it is, if only its user may write there and that is not us; else nothing."""
    try:
        uid = (path / _OWN).stat().st_uid
    except OSError:
        return ""
    return user(uid) if os.geteuid() not in (0, uid) else ""


@contextmanager
def as_it_was(path: Path) -> Iterator[None]:
    """Afterwards our own folder is there only if it was before.

    The daemon makes it at its first write. Made by whoever tries things out, the daemon could not enter it.
    """
    own = path / _OWN
    there = own.exists()
    try:
        yield
    finally:
        if not there and own.is_dir():
            (own / "marker").unlink(missing_ok=True)
            for below in (*own.iterdir(), own):
                try:
                    below.rmdir()
                except OSError:
                    break  # a daemon has begun to use it
