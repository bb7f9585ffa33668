"""The ledger: can it be read, is it where SQLite's locks and fsync can be relied upon, is there room?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from uploaderd.acts.acting import user
from uploaderd.config import Config
from uploaderd.doctor.findings import Found, Look, blocking, fail, ok, warn
from uploaderd.errors import LedgerError
from uploaderd.ledger import read
from uploaderd.ledger.lock import holder
from uploaderd.ledger.reading import connect_readonly
from uploaderd.mounts import Mount, mount_of
from uploaderd.report.lines import size

SUBJECT: Final = "ledger"

LEAST_FREE: Final = 64 * 2**20
"""Bytes below which the ledger's disk is about to be full: some thousand recordings' rows and events."""


def looks(config: Config) -> Iterator[tuple[str, Look]]:
    path = config.ledger.path
    yield "file", blocking(lambda: [_file(path)])
    yield "daemon", blocking(lambda: [_daemon(path)])
    yield "file system", blocking(lambda: [_file_system(path)])
    yield "disk", blocking(lambda: [_disk(path)])
    yield "permissions", blocking(lambda: [_permissions(path)])


def used_providers(config: Config) -> frozenset[str]:
    """Names of providers that hold a proven copy, as far as the ledger can be read."""
    try:
        with closing(connect_readonly(config.ledger.path, outdated=True)) as conn:
            return frozenset(row.name for row in read.providers(conn) if row.verified)
    except LedgerError:
        return frozenset()


def _file(path: Path) -> Found:
    if not path.exists():
        if not path.parent.is_dir():
            return fail(
                f"there is no ledger yet, and no folder for it: {path.parent}",
                "create the folder, owned by the daemon's user (a systemd unit does, by StateDirectory=)",
            )
        return ok(f"{path} is not there yet: the daemon makes it")
    try:
        connect_readonly(path, outdated=True).close()
    except LedgerError as error:
        if not os.access(path, os.R_OK, effective_ids=True):
            return warn(
                f"{path} may not be read by you",
                f"ask as {_owner(path)}: sudo -u {_owner(path)} uploaderd ...",
            )
        return fail(error.message, error.hint)
    return ok(str(path))


def _daemon(path: Path) -> Found:
    try:
        held_by = holder(path)
    except PermissionError:
        return ok("who runs it cannot be seen by you")
    if held_by is None:
        return warn("no daemon runs", "start it: systemctl start uploaderd, or uploaderd run")
    return ok(f"runs: process {held_by.pid}, version {held_by.version}" if held_by.pid else "runs elsewhere")


def _file_system(path: Path) -> Found:
    fd = os.open(_nearest(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        network = mount_of(fd) is Mount.NETWORK
    finally:
        os.close(fd)
    if network:
        return warn(
            f"{path.parent} is on a network file system (or FUSE): SQLite's locks and fsync cannot be"
            " trusted there",
            "set [ledger] path to a local disk; stop the daemon and move the ledger with its -wal",
        )
    return ok("a local disk")


def _disk(path: Path) -> Found:
    disk = os.statvfs(_nearest(path))
    free = disk.f_bavail * disk.f_frsize
    if free < LEAST_FREE:
        return warn(f"{size(free)} free at {path.parent}", "free some space: a full disk stops every upload")
    return ok(f"{size(free)} free")


def _permissions(path: Path) -> Found:
    """Whoever reads the ledger can go on with half-done uploads; whoever writes the folder can replace it."""
    if path.exists():
        if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            return warn(f"everybody on this machine may read or write {path}", f"chmod 600 {path}")
        owner = _owner(path)
        if path.stat().st_uid != os.geteuid():
            return ok(f"belongs to {owner}; you are {user(os.geteuid())}: what follows is what you may do")
        return ok(f"belongs to you ({owner})")
    if not path.parent.is_dir():
        return ok("nothing is there yet")
    if not os.access(path.parent, os.W_OK, effective_ids=True):
        return warn(
            f"you ({user(os.geteuid())}) may not write {path.parent}",
            f"if the daemon runs as you: chown {user(os.geteuid())} {path.parent}; else ask as its user",
        )
    return ok(f"{path.parent} can be written")


def _nearest(path: Path) -> Path:
    """The folder, or what is there of the way to it."""
    return next(folder for folder in path.parents if folder.is_dir())


def _owner(path: Path) -> str:
    return user(path.stat().st_uid)
