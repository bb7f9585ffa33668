"""A file on its way out: opened, put aside under a name of our own, and then gone or put back.

Everything here blocks, and works on descriptors: nothing is reached through a symbolic link, and what
was opened is what is renamed and removed, or nothing is. Nothing is ever replaced.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Collection, Iterator
from typing import Final

from uploaderd.beneath import fingerprint, folder_beneath, identity_of, open_in
from uploaderd.errors import FileVanished, UploaderdError
from uploaderd.finished import give_lease_back, lease_waited_for, take_lease
from uploaderd.markers import DONE
from uploaderd.model import FileIdentity
from uploaderd.mounts import Mount, mount_of
from uploaderd.patterns import OWN
from uploaderd.renaming import FLAG_UNKNOWN, rename_without_replacing

_PREFIX: Final = OWN + b"-"
_SUFFIX: Final = b".removing"
_RANDOM: Final = 16  # hex digits
_LONGEST: Final = 255 - len(_PREFIX) - _RANDOM - 1 - len(_SUFFIX)
"""Bytes of a name that fit into the name that it has while it is put aside (NAME_MAX is 255)."""


class Doubt(UploaderdError):
    """Something is not as it must be for a file to be removed: it stays.

    `why` is a word (the ledger's `kept`), `message` a sentence for people.
    """

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why
        self.message = message


def name_aside(name: bytes) -> bytes:
    """The name that a file has while it is put aside; a new one each time.

    The old name is in it, so that the file finds back without a ledger; of a long one, the end.
    """
    return _PREFIX + secrets.token_hex(_RANDOM // 2).encode() + b"-" + name[-_LONGEST:] + _SUFFIX


def name_before(aside: bytes) -> bytes | None:
    """The name that a file had before it was put aside; None if it was not."""
    if not (aside.startswith(_PREFIX) and aside.endswith(_SUFFIX)):
        return None
    _, _, name = aside[len(_PREFIX) : -len(_SUFFIX)].partition(b"-")
    return name or None


class Leaving:
    """One file on its way out: opened, then perhaps put aside, then removed or put back.

    Attributes:
        identity: as it was when it was opened, fingerprint included.
        changed_ns: its ctime then: since when neither content nor attributes were touched.
        mount: what it lies on.
        is_aside: whether it has the name that it was given by `put_aside`.
        is_gone: whether it was unlinked.
    """

    identity: FileIdentity
    changed_ns: int
    mount: Mount

    def __init__(self, root: bytes, path: bytes) -> None:
        self._root = root
        self._path = path
        self._name = os.path.basename(path)
        self._folder = self._fd = -1
        self._aside = b""
        self.is_aside = self.is_gone = False

    def open(self) -> None:
        """Open the file and its folder.

        Raises:
            FileVanished, FileFault, SourceMissing: as `beneath.open_beneath`.
            OSError: the disk or mount failed.
        """
        self._folder = folder_beneath(self._root, self._path)
        self._fd = open_in(self._folder, self._root, self._path)
        self._status = os.fstat(self._fd)
        self.identity = identity_of(self._status, fingerprint(self._fd, self._status.st_size))
        self.changed_ns = self._status.st_ctime_ns
        self.mount = mount_of(self._fd)

    def close(self) -> None:
        """Let go of it; where it is, it stays. Idempotent."""
        for fd in (self._fd, self._folder):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder = -1

    def is_file_of(self, fd: int) -> bool:
        """Whether `fd` is this very file, untouched since it was opened here."""
        status = os.fstat(fd)
        return os.path.samestat(status, self._status) and _same(status, self._status)

    def put_aside(self, aside: bytes, *, without_lease: bool) -> None:
        """Give it the name `aside`, if it is what was opened, at its path, and nobody writes to it.

        If it raises, the file may have the new name already: see `is_aside`.

        Raises:
            Doubt: it stays.
            OSError: the kernel refuses.
        """
        leased = self._lease(without_lease=without_lease)
        try:
            if not _same(os.fstat(self._fd), self._status):
                raise Doubt("changed", "it changed while it was looked at")
            self._rename_aside(aside)
            there = os.stat(aside, dir_fd=self._folder, follow_symlinks=False)
            if not os.path.samestat(there, self._status):
                raise Doubt("replaced", "another file took its path")
            now = os.fstat(self._fd)
            if not _same(now, self._status, renamed=True):
                raise Doubt("changed", "it changed while it was put aside")
            self._nobody_waits(leased=leased)
            # The renaming itself moved the ctime: from here on it must not move any more.
            self._status = now
        finally:
            if leased:
                give_lease_back(self._fd)

    def remove(self, *, without_lease: bool) -> None:
        """Unlink what was put aside, if it is still untouched and in the folder that it was in.

        Raises:
            Doubt: it is still there.
            OSError: the kernel refuses.
        """
        leased = self._lease(without_lease=without_lease)
        try:
            self._nobody_moved_the_folder()
            try:
                there = os.stat(self._aside, dir_fd=self._folder, follow_symlinks=False)
            except FileNotFoundError:
                self.is_aside = False
                raise Doubt("replaced", "somebody took it away while it was put aside") from None
            if not os.path.samestat(there, self._status) or not _same(os.fstat(self._fd), self._status):
                raise Doubt("changed", "it changed while it was put aside")
            self._nobody_waits(leased=leased)
            os.unlink(self._aside, dir_fd=self._folder)
            self.is_aside, self.is_gone = False, True
        finally:
            if leased:
                give_lease_back(self._fd)

    def put_back(self) -> bytes:
        """Give it its name back, or a free one like it if that is taken by now; its path.

        Raises:
            OSError: it cannot be renamed; it is still aside.
        """
        name = put_back_in(self._folder, self._aside, self._name)
        self.is_aside = False
        return self._path[: len(self._path) - len(self._name)] + name

    def remove_marker(self) -> bool:
        """Remove the file's `.done`, unless another file has its name by now; whether there was one."""
        marker = self._name + DONE
        try:
            if not stat.S_ISREG(os.stat(marker, dir_fd=self._folder, follow_symlinks=False).st_mode):
                return False
            try:
                os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
            except FileNotFoundError:
                os.unlink(marker, dir_fd=self._folder)
                return True
        except OSError:
            pass  # it is in nobody's way
        return False

    def remove_empty_folders(self, spare: Collection[bytes]) -> int:
        """Remove the folder that it was in, and those above it, as far as they are empty; how many.

        Never the root, nor one of `spare` (absolute paths). The kernel refuses to remove a folder that
        something is in.
        """
        count = 0
        path = os.path.dirname(self._path)
        folder = os.dup(self._folder)
        try:
            while path and os.path.join(self._root, path) not in spare:
                above = folder_beneath(self._root, path)
                name = os.path.basename(path)
                try:
                    there = os.stat(name, dir_fd=above, follow_symlinks=False)
                    if not os.path.samestat(there, os.fstat(folder)):
                        return count
                    os.rmdir(name, dir_fd=above)
                finally:
                    os.close(folder)
                    folder = above
                count += 1
                path = os.path.dirname(path)
        except (OSError, UploaderdError):
            pass  # not empty, or not ours to remove: it stays
        finally:
            os.close(folder)
        return count

    # How it is done.

    def _lease(self, *, without_lease: bool) -> bool:
        """Whether the lease was taken; it need not be had `without_lease`, but nobody may be writing."""
        taken = take_lease(self._fd)
        if taken is False:
            raise Doubt("writer", "somebody has it open for writing")
        if taken is None and not without_lease:
            raise Doubt(
                "no-lease",
                "whether somebody has it open for writing cannot be known here (no lease can be had);"
                " `without_lease = true` in the source's cleanup would allow its removal",
            )
        return taken is True

    def _nobody_waits(self, *, leased: bool) -> None:
        if leased and lease_waited_for(self._fd):
            raise Doubt("writer", "somebody wants to write to it")

    def _nobody_moved_the_folder(self) -> None:
        try:
            now = folder_beneath(self._root, self._path)
        except UploaderdError:
            raise Doubt("moved", "its folder is not where it was") from None
        try:
            if not os.path.samestat(os.fstat(now), os.fstat(self._folder)):
                raise Doubt("moved", "its folder is not where it was")
        finally:
            os.close(now)

    def _rename_aside(self, aside: bytes) -> None:
        try:
            try:
                rename_without_replacing(self._folder, self._name, self._folder, aside)
            except OSError as error:
                if error.errno not in FLAG_UNKNOWN:
                    raise
                self._check_that_it_can_come_back()
                # Nothing has that name: it is random.
                os.rename(self._name, aside, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except FileNotFoundError:
            raise Doubt("replaced", "it is not at its path any more") from None
        self._aside = aside
        self.is_aside = True

    def _check_that_it_can_come_back(self) -> None:
        """Where renameat2's flag is unknown (NFS), a hard link gives a name without replacing."""
        probe = name_aside(b"probe")
        try:
            os.link(
                self._name, probe, src_dir_fd=self._folder, dst_dir_fd=self._folder, follow_symlinks=False
            )
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Doubt(
                "file-system",
                f"its file system can neither rename without replacing nor link: {error.strerror}",
            ) from error
        os.unlink(probe, dir_fd=self._folder)


def put_back_in(folder: int, aside: bytes, name: bytes) -> bytes:
    """Give what was put aside in the folder its name back, or a free one like it; the name that it has now.

    Raises:
        FileNotFoundError: it is not there.
        OSError: it cannot be renamed.
    """
    for candidate in (name, *(_like(name) for _ in range(8))):
        try:
            _give_name(folder, aside, candidate)
        except FileExistsError:
            continue
        return candidate
    raise FileExistsError(errno.EEXIST, "all names that were tried are taken", os.fsdecode(name))


def _like(name: bytes) -> bytes:
    """`18-00.kept-1f2e3d4c.mp4`: of the same kind, so that a sweep finds what may be a new content."""
    stem, ending = os.path.splitext(name)
    mark = b".kept-" + secrets.token_hex(4).encode()
    return stem[: 255 - len(mark) - len(ending)] + mark + ending


def _give_name(folder: int, aside: bytes, name: bytes) -> None:
    try:
        rename_without_replacing(folder, aside, folder, name)
    except OSError as error:
        if error.errno == errno.EEXIST:
            # Linked by an earlier try, which was cut off?
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not os.path.samestat(there, os.stat(aside, dir_fd=folder, follow_symlinks=False)):
                raise
        elif error.errno in FLAG_UNKNOWN:
            os.link(aside, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        else:
            raise
        os.unlink(aside, dir_fd=folder)


def settle(root: bytes, path: bytes, aside: bytes, inode: int) -> bytes | None:
    """Undo a removal that was cut off, as far as it had come; the file's path, or None: it is gone.

    The root must be there: see `root.look_at_root`.

    Raises:
        FileFault, SourceMissing: its folder cannot be looked into.
        OSError: it is there and cannot be renamed.
    """
    try:
        folder = folder_beneath(root, path)
    except FileVanished:
        return None
    name = os.path.basename(path)
    try:
        try:
            return path[: len(path) - len(name)] + put_back_in(folder, aside, name)
        except FileNotFoundError:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            return path if there.st_ino == inode else None
    except FileNotFoundError:
        return None
    finally:
        os.close(folder)


def put_back_at(root: bytes, path: bytes) -> bytes:
    """Give the file that was put aside at `path` its name back; its path then.

    Raises:
        FileVanished, FileFault, SourceMissing, OSError: it cannot be.
    """
    aside = os.path.basename(path)
    name = name_before(aside)
    assert name is not None
    folder = folder_beneath(root, path)
    try:
        return path[: len(path) - len(aside)] + put_back_in(folder, aside, name)
    finally:
        os.close(folder)


def put_aside_below(root: bytes) -> Iterator[bytes]:
    """Paths of all files below the root that were put aside, by whomever."""
    folders = [b""]
    while folders:
        prefix = folders.pop()
        try:
            with os.scandir(os.path.join(root, prefix)) as scan:
                for entry in scan:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(prefix + entry.name + b"/")
                    elif name_before(entry.name) is not None and entry.is_file(follow_symlinks=False):
                        yield prefix + entry.name
        except OSError:
            continue  # what cannot be looked into is the sweep's to report


def nearest_device(root: bytes, path: bytes) -> int:
    """The device of the deepest folder of the path that is there: another one than the file's own is a
    mount that is missing.

    Raises:
        OSError: the root is not there.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    folder = os.open(root, flags)
    try:
        for part in path.split(b"/")[:-1]:
            try:
                below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=folder)
            except OSError:
                break
            os.close(folder)
            folder = below
        return os.fstat(folder).st_dev
    finally:
        os.close(folder)


def _same(now: os.stat_result, before: os.stat_result, *, renamed: bool = False) -> bool:
    """Whether nobody touched it; renaming it moves the ctime alone."""
    return (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns) and (
        renamed or now.st_ctime_ns == before.st_ctime_ns
    )
