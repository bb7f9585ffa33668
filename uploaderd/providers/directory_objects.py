"""Finished files in the target of a `directory` provider: looking, giving a name, taking away.

Everything here blocks, and raises OSError for what the kernel refuses.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Final

from uploaderd.errors import KeyTaken
from uploaderd.model import Checksum, ObjectInfo, ObjectSpec
from uploaderd.providers import directory_notes as notes
from uploaderd.providers.directory_faults import key_fault_of
from uploaderd.providers.directory_tree import (
    INCOMING,
    OWN,
    Target,
    components,
    open_folder,
    place,
    sync_folder,
)

NO_SIZE: Final = -1
"""The size of what is no regular file: it equals no recording's."""

KEPT_SECONDS: Final = 30 * 86400
"""How long nobody may have touched a half-done copy before it is taken for forgotten.

Whoever remembers it goes on within hours or discards it; a copy that is gone is begun anew.
"""

INSTANT_SECONDS: Final = 3600
"""The same of what is there for an instant: a probe's tiny file, and the first name of a copy that has
its own by now. A power cut undoes the removal of either, which is not synced."""

_FORGETTABLE: Final = re.compile(rb"(?:(probe-)[0-9a-f]{16}|[0-9a-f]{32})")

# O_NONBLOCK: opening a FIFO must not wait for its writer.
_LOOK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def info_of(root: int, key: str) -> ObjectInfo | None:
    """What is at the key. No checksum: that would be a read of the whole file."""
    *folders, name = components(key)
    try:
        parent = open_folder(root, folders)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            return ObjectInfo(key, NO_SIZE, etag=_etag(status))
        fd = os.open(name, _LOOK, dir_fd=parent)
    except FileNotFoundError:
        return None
    finally:
        os.close(parent)
    try:
        status = os.fstat(fd)
        return ObjectInfo(key, status.st_size, etag=_etag(status), token=notes.token_of(root, fd, key))
    finally:
        os.close(fd)


def open_to_read(target: Target, key: str) -> int:
    """A descriptor of the object, with nothing of it dirty in the page cache: what is dirty stays there."""
    with target.opened(writing=False) as root:
        *folders, name = components(key)
        parent = open_folder(root, folders)
        try:
            fd = os.open(name, _LOOK, dir_fd=parent)
        finally:
            os.close(parent)
    try:
        os.fdatasync(fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def finish(target: Target, spec: ObjectSpec, fd: int, content: Checksum) -> ObjectInfo:
    """Give the temporary file `fd`, whose content is on disk, its name, and its token with it.

    What `spec.replaces` names is compared and then replaced in two steps: the kernel has no one call
    for it. A stranger who writes the key in between loses.

    Raises:
        KeyTaken: something else has the name, or what it replaces is not what was named.
        KeyRefused: the file system cannot have that name.
    """
    temporary = spec.token.encode()
    with (
        target.opened(writing=True) as root,
        target.own(root, INCOMING) as incoming,
        target.parent(root, spec.key) as (parent, name),
    ):
        notes.write(target, root, fd, spec)
        os.fsync(fd)
        try:
            if spec.replaces is None:
                place(incoming, temporary, parent, name)
            else:
                found = info_of(root, spec.key)
                _replace(found, spec.replaces, incoming, temporary, parent, name)
        except FileExistsError:
            notes.forget(root, spec.key, os.fstat(fd))
            found = info_of(root, spec.key)
            raise KeyTaken(
                f"another file is at {spec.key!r} in {str(target.path)!r}"
                if found
                else f"the file {spec.key!r} in {str(target.path)!r}, which was to be replaced, is gone",
                found=found,
                code="EEXIST" if found else "ENOENT",
            ) from None
        except OSError as error:
            raise key_fault_of(error, spec.key) or error from error
        status = os.fstat(fd)
        return ObjectInfo(
            key=spec.key,
            size=status.st_size,
            etag=_etag(status),
            token=spec.token,
            crc32c=content.crc32c,
            crc64nvme=content.crc64nvme,
            read_back=True,
        )


def _replace(
    found: ObjectInfo | None, replaces: str, incoming: int, temporary: bytes, parent: int, name: bytes
) -> None:
    if found is None or found.revision != replaces:
        raise FileExistsError
    os.rename(temporary, name, src_dir_fd=incoming, dst_dir_fd=parent)
    sync_folder(parent)


def discard(target: Target, handle: str) -> None:
    """Remove a temporary file; fine if it is gone."""
    with target.opened(writing=False) as root:
        try:
            incoming = open_folder(root, [OWN, INCOMING])
        except FileNotFoundError:
            return
        try:
            os.unlink(handle.encode(), dir_fd=incoming)
            sync_folder(incoming)
        except FileNotFoundError:
            pass
        finally:
            os.close(incoming)


def forget_old(incoming: int, now: float) -> None:
    """Remove temporary files that a crash, or a ledger that is lost, left behind for good.

    `now` is in seconds, by the clock that dates the files: a server's may be another than ours.
    """
    for entry in os.listdir(incoming):
        name = os.fsencode(entry)
        if (ours := _FORGETTABLE.fullmatch(name)) is None:
            continue
        try:
            status = os.stat(name, dir_fd=incoming, follow_symlinks=False)
            kept = INSTANT_SECONDS if ours[1] or status.st_nlink > 1 else KEPT_SECONDS
            if now - status.st_mtime > kept:
                os.unlink(name, dir_fd=incoming)
        except FileNotFoundError:
            pass  # another daemon shares the folder


def delete(target: Target, key: str) -> None:
    """Remove an object; fine if it is gone. Folders stay: another upload may be about to use them."""
    with target.opened(writing=True) as root:
        *folders, name = components(key)
        try:
            parent = open_folder(root, folders)
        except FileNotFoundError:
            return
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            os.unlink(name, dir_fd=parent)
            sync_folder(parent)
        except FileNotFoundError:
            return
        finally:
            os.close(parent)
        notes.forget(root, key, status)


def _etag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
