"""The target folder of a `directory` provider: is it the right one, and how things are put into it.

Everything here blocks. Nothing below the target is ever reached through a symbolic link. In the
target, `.uploaderd/` belongs to this program:

    .uploaderd/marker       shows that this is the folder that was used before, not an empty mount point
    .uploaderd/incoming/    half-done uploads, one file each, named by the upload's token
    .uploaderd/notes/       tokens and metadata, where the file system keeps no extended attributes
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from uploaderd.errors import Fault, KeyRefused
from uploaderd.model import FailureClass
from uploaderd.providers.directory_faults import fault_of, key_fault_of
from uploaderd.renaming import FLAG_UNKNOWN, rename_without_replacing

OWN: Final = b".uploaderd"
INCOMING: Final = b"incoming"
MARKER: Final = b"marker"
_MARKER_TEXT: Final = b"""uploaderd keeps half-done copies here. Leave this file: while it is gone,
uploaderd takes the folder for one whose mount is missing, and writes nothing.
"""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What link(2) says where there are no hard links: FAT, some FUSE and SMB servers.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


class Target:
    """The folder as configured; opened anew for each deed, because mounts come and go."""

    def __init__(self, path: Path, *, require_mount: bool, expect_marker: bool) -> None:
        self.path = path
        self._require_mount = require_mount
        self._expect_marker = expect_marker
        # A folder made by one thread must be on disk before another relies on its being there.
        self._making = threading.Lock()

    @contextmanager
    def opened(self, *, writing: bool) -> Iterator[int]:
        """A descriptor of the folder, once it is certain to be the right one.

        The marker is made by the first write ever; from then on it has to be there.

        Raises:
            Fault: class provider: no folder, no mount, no marker.
        """
        try:
            root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Fault(
                f"the folder {str(self.path)!r} is not there",
                failure=FailureClass.PROVIDER,
                code=errno.errorcode[error.errno or errno.ENOENT],
                hint="mount what belongs there, or create it; it goes on by itself",
            ) from error
        except OSError as error:
            raise fault_of(error, "opening", str(self.path)) from error
        try:
            if self._require_mount and not _is_mounted(root):
                raise Fault(
                    f"nothing is mounted at {str(self.path)!r}, which has require_mount = true",
                    failure=FailureClass.PROVIDER,
                    code="no-mount",
                    hint="mount it; it goes on by itself",
                )
            self._look_for_marker(root, writing=writing)
            yield root
        finally:
            os.close(root)

    def _look_for_marker(self, root: int, *, writing: bool) -> None:
        expected = self._expect_marker  # before the look: another thread may make the marker right after it
        try:
            os.stat(OWN + b"/" + MARKER, dir_fd=root, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            self._expect_marker = True
            return
        if expected:
            raise Fault(
                f"the marker .uploaderd/marker in {str(self.path)!r} is gone: is the mount there?",
                failure=FailureClass.PROVIDER,
                code="no-marker",
                hint="mount what belongs there; if the folder was emptied on purpose, make the marker again:"
                f" mkdir -p {self.path}/.uploaderd && touch {self.path}/.uploaderd/marker",
            )
        if writing:
            with self.own(root) as own:
                fd = os.open(MARKER, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=own)
                try:
                    os.pwrite(fd, _MARKER_TEXT, 0)
                    os.fsync(fd)
                finally:
                    os.close(fd)
                sync_folder(own)
            self._expect_marker = True

    @contextmanager
    def own(self, root: int, *names: bytes) -> Iterator[int]:
        """A folder of our own below `.uploaderd`, made where it is absent."""
        with self._making:
            fd = open_folder(root, [OWN, *names], mode=0o700)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def parent(self, root: int, key: str) -> Iterator[tuple[int, bytes]]:
        """The folder that holds the key's file, made where it is absent, and the file's name.

        Raises:
            KeyRefused: the file system cannot have such a path.
        """
        *folders, name = components(key)
        try:
            with self._making:
                fd = open_folder(root, folders, mode=0o777)
        except OSError as error:
            raise key_fault_of(error, key) or error from error
        try:
            yield fd, name
        finally:
            os.close(fd)


def components(key: str) -> list[bytes]:
    """The key as the names of folders and file.

    Raises:
        KeyRefused: it would leave the target, or enter our own folder.
    """
    names = key.encode("utf-8", "surrogateescape").split(b"/")
    if any(name in (b"", b".", b"..") or b"\0" in name for name in names):
        raise KeyRefused(f"the key {key!r} is not a path below the target", code="key-component")
    # In any case: file systems that do not tell `.UPLOADERD` from it are common behind SMB.
    if names[0].lower() == OWN:
        raise KeyRefused(
            f"the key {key!r} leads into the folder that uploaderd keeps for itself",
            code="key-component",
            hint="change `key` or `prefix`",
        )
    return names


def open_folder(root: int, names: list[bytes], *, mode: int | None = None) -> int:
    """A folder below `root`, reached component by component; made where `mode` is given.

    Raises:
        OSError: ENOENT where it is absent and not to be made; ENOTDIR, ELOOP for what is no folder.
    """
    fd = os.dup(root)
    try:
        for name in names:
            try:
                below = os.open(name, _FOLDER, dir_fd=fd)
            except FileNotFoundError:
                if mode is None:
                    raise
                try:
                    os.mkdir(name, mode, dir_fd=fd)
                except FileExistsError:
                    pass  # another program made it just now
                sync_folder(fd)
                below = os.open(name, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = below
    except BaseException:
        os.close(fd)
        raise
    return fd


def sync_folder(fd: int) -> None:
    """Put a folder's entries on disk, where the file system can (SMB cannot: EINVAL)."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def place(incoming: int, temporary: bytes, parent: int, name: bytes) -> None:
    """Give a finished file its name, on disk when it returns, and take away the temporary one.

    Raises:
        FileExistsError: something else has the name.
    """
    try:
        os.link(temporary, name, src_dir_fd=incoming, dst_dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        # Ours already: linked before a crash, or NFS sent the request twice and lost the first reply.
        ours = os.stat(temporary, dir_fd=incoming, follow_symlinks=False)
        there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not os.path.samestat(ours, there):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_without_replacing(incoming, temporary, parent, name)
        sync_folder(parent)
        return
    sync_folder(parent)
    os.unlink(temporary, dir_fd=incoming)


def _rename_without_replacing(incoming: int, temporary: bytes, parent: int, name: bytes) -> None:
    # NFS does not know the flag, but has links.
    try:
        rename_without_replacing(incoming, temporary, parent, name)
    except OSError as error:
        if error.errno not in FLAG_UNKNOWN:
            raise
        if error.errno == errno.EINVAL and _knows_the_flag(incoming, temporary):
            raise  # FAT says EINVAL for a name that it cannot have
        raise Fault(
            "the file system can neither link nor rename without replacing: it could overwrite what is there",
            failure=FailureClass.PROVIDER,
            code=errno.errorcode[error.errno],
            hint="use another file system for this provider",
        ) from error


def _knows_the_flag(incoming: int, temporary: bytes) -> bool:
    aside = temporary + b"-"
    try:
        rename_without_replacing(incoming, temporary, incoming, aside)
    except OSError:
        return False
    os.rename(aside, temporary, src_dir_fd=incoming, dst_dir_fd=incoming)
    return True


def _is_mounted(root: int) -> bool:
    """Whether the open folder lies on a mount of its own, other than `/`.

    Told by the descriptor's mount id (proc_pid_fdinfo(5), proc_pid_mountinfo(5)), so that what is
    asked about is what is used, bind mounts included. An automount point that nothing was mounted
    on yet does not count.
    """
    said = Path(f"/proc/self/fdinfo/{root}").read_text()
    number = next(line.split()[1] for line in said.splitlines() if line.startswith("mnt_id:"))
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if fields[0] == number:
            return fields[4] != "/" and right.split()[0] != "autofs"
    # Detached (umount -l) after it was opened.
    return False
