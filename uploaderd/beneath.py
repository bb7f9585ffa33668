"""Files below a source's root, opened component by component, following no symbolic link.

And what tells one from another without reading all of it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import Final

from uploaderd.errors import Fault, FileFault, FileVanished, LocalFault, SourceMissing
from uploaderd.model import FileIdentity

FINGERPRINT_REACH: Final = 16 * 1024
"""Bytes of head and of tail that the fingerprint covers."""

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that took the file's place must not wait for its writer.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def folder_beneath(root: bytes, path: bytes) -> int:
    """Open the folder below `root` that holds the file at `path`; a descriptor. Blocks.

    Raises:
        SourceMissing: the root itself cannot be opened: nothing below it is taken for deleted.
        FileVanished: the folder is not there, or is reached through a symbolic link.
        FileFault: it may not be opened (EACCES), with the reason.
    """
    parts = path.split(b"/")
    if any(part in (b"", b".", b"..") for part in parts):
        raise FileFault(f"{os.fsdecode(path)!r} is not a path below its source", code="EINVAL")
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceMissing(
            f"the source {os.fsdecode(root)!r} is not there: {error.strerror}",
            code=errno.errorcode.get(error.errno or 0, ""),
            hint="mount or create it; the daemon goes on by itself",
        ) from error
    try:
        for part in parts[:-1]:
            below = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
            os.close(folder)
            folder = below
    except OSError as error:
        os.close(folder)
        raise fault_of(error, root, path) from error
    return folder


def open_beneath(root: bytes, path: bytes) -> int:
    """Open the regular file at `path` below `root` for reading; a descriptor. Blocks.

    Raises:
        FileVanished: nothing is there, or something other than a regular file.
        SourceMissing, FileFault: as `folder_beneath`.
    """
    folder = folder_beneath(root, path)
    try:
        return open_in(folder, root, path)
    finally:
        os.close(folder)


def open_in(folder: int, root: bytes, path: bytes) -> int:
    """Open the regular file at `path` below `root`, whose folder is open already; a descriptor. Blocks.

    Raises:
        FileVanished, FileFault: as `open_beneath`.
    """
    try:
        fd = os.open(os.path.basename(path), _FILE_FLAGS, dir_fd=folder)
    except OSError as error:
        raise fault_of(error, root, path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileVanished(f"{shown(root, path)} is not a regular file any more", code="ENOTREG")
    return fd


def identity_of(status: os.stat_result, fingerprint: bytes = b"") -> FileIdentity:
    return FileIdentity(
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        device=status.st_dev,
        fingerprint=fingerprint,
    )


def fingerprint(fd: int, size: int) -> bytes:
    """16 bytes over size, head and tail of an open file. Blocks.

    A hint for telling renamed or restored files from new ones, never a proof of content.
    """
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16)
    digest.update(os.pread(fd, FINGERPRINT_REACH, 0))
    if size > FINGERPRINT_REACH:
        digest.update(os.pread(fd, FINGERPRINT_REACH, max(FINGERPRINT_REACH, size - FINGERPRINT_REACH)))
    return digest.digest()


def shown(root: bytes, path: bytes) -> str:
    return os.path.join(root, path).decode("utf-8", "backslashreplace")


def fault_of(error: OSError, root: bytes, path: bytes) -> Fault:
    where = shown(root, path)
    name = errno.errorcode.get(error.errno or 0, "EIO")
    # ENXIO: a socket took the path.
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
        return FileVanished(f"{where} is not there any more", code=name)
    if error.errno in (errno.EACCES, errno.EPERM):
        return FileFault(
            f"{where} may not be read: {error.strerror}",
            code=name,
            hint="let the daemon's user read it (group, ACL, or CAP_DAC_READ_SEARCH)",
        )
    return LocalFault(
        f"reading {where} failed: {error.strerror}",
        code=name,
        hint="check the disk or mount that holds the recordings",
    )
