"""What is on the disk, beside what the ledger has, both in the order of the paths' bytes.

Neither side is ever held in memory, and files that lie together share a query. What is on the disk and
not, or not so, in the ledger is a stranger. What is only in the ledger is left alone: a missing file may
be a missing mount, and whoever sends it next finds out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from uploaderd.ledger.beside import Present
from uploaderd.model import FileIdentity

LOST_FOUND: Final = b"lost+found"


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file that a source takes. `changed_ns` is its ctime: links and renames move it too."""

    path: bytes
    identity: FileIdentity
    changed_ns: int


@dataclass(slots=True)
class Tally:
    """What a walk came across.

    Attributes:
        files, folders: seen.
        unreadable: folders whose files are out of sight.
        passing: seconds that went into passing over them, without what was done about strangers.
        unwanted: set from outside when nobody waits for the walk any more; it ends at the next entry.
    """

    files: int = 0
    folders: int = 0
    unreadable: int = 0
    passing: float = 0.0
    unwanted: bool = False


def walk(
    root: bytes,
    under: bytes,
    takes: Callable[[bytes], bool],
    unreadable: Callable[[bytes, OSError], None],
    tally: Tally,
) -> Iterator[Found]:
    """The files below `root`/`under` that are taken, in the order of their whole paths' bytes. Blocks.

    Symbolic links are not followed. A folder that vanishes meanwhile is passed over; one that cannot be
    read is handed to `unreadable` (path relative to the root, and why).

    Raises:
        OSError: the root itself cannot be read.
    """
    try:
        entries = _sorted(os.path.join(root, under) if under else root)
    except OSError as error:
        if not under:
            raise
        _passed_over(under, error, unreadable, tally)
        return
    prefix = under + b"/" if under else b""
    yield from _walk(prefix, entries, takes, unreadable, tally)


def _walk(
    prefix: bytes,
    entries: list[tuple[bytes, os.DirEntry[bytes]]],
    takes: Callable[[bytes], bool],
    unreadable: Callable[[bytes, OSError], None],
    tally: Tally,
) -> Iterator[Found]:
    # A stack of folders, not recursion: a tree may be deeper than Python's.
    tally.folders += 1
    stack = [(prefix, iter(entries))]
    while stack:
        prefix, rest = stack[-1]
        for name, entry in rest:
            if tally.unwanted:
                return
            path = prefix + name
            try:
                if name.endswith(b"/"):
                    below = _sorted(entry.path)
                    tally.folders += 1
                    stack.append((path, iter(below)))
                    break
                if takes(path):
                    status = entry.stat(follow_symlinks=False)
                    # Checked again: an entry's kind may be older than its status.
                    if stat.S_ISREG(status.st_mode):
                        tally.files += 1
                        identity = FileIdentity(
                            status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev
                        )
                        yield Found(path, identity, status.st_ctime_ns)
            except OSError as error:
                _passed_over(path.rstrip(b"/"), error, unreadable, tally)
        else:
            stack.pop()


def _sorted(folder: bytes) -> list[tuple[bytes, os.DirEntry[bytes]]]:
    """Regular files and folders; a folder's name ends with "/", which makes whole paths come in order."""
    entries = []
    with os.scandir(folder) as scan:
        for entry in scan:
            if entry.is_dir(follow_symlinks=False):
                entries.append((entry.name + b"/", entry))
            elif entry.is_file(follow_symlinks=False):
                entries.append((entry.name, entry))
    entries.sort(key=lambda one: one[0])
    return entries


def _passed_over(
    path: bytes, error: OSError, unreadable: Callable[[bytes, OSError], None], tally: Tally
) -> None:
    # Every ext file system has a lost+found that is root's alone, and no recorder writes there.
    if not isinstance(error, FileNotFoundError | NotADirectoryError) and os.path.basename(path) != LOST_FOUND:
        tally.unreadable += 1
        unreadable(path, error)


def strangers(
    found: Iterator[Found],
    known_at: Callable[[bytes], Present | None],
    *,
    inodes: bool,
    stuck_too: bool = False,
) -> Iterator[Found]:
    """What of `found` the ledger does not have at that path, or has with another size, mtime or inode.

    Args:
        found: from `walk`.
        known_at: what the ledger has at a path; asked in the order of `found` (`ledger.beside`).
        inodes: whether inodes count (not on network file systems).
        stuck_too: count recordings that are held or failed as strangers, so that they are looked at again.
    """
    for file in found:
        here, identity = known_at(file.path), file.identity
        if (
            here is None
            or identity.size != here.size
            or identity.mtime_ns != here.mtime_ns
            or (inodes and identity.inode != here.inode)
            or (stuck_too and here.stuck)
        ):
            yield file


def below_links(root: bytes, under: bytes) -> bool:
    """Whether `under` is reached through a symbolic link, or is no folder: no place for recordings."""
    path = root
    for part in under.split(b"/"):
        path = os.path.join(path, part)
        try:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                return True
        except OSError:
            return True
    return False
