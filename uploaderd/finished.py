"""Is it finished? Quiet for long enough, and nobody has it open for writing, where the kernel tells.

A rename, a marker or somebody who vouches spares the quiet time, and never the look for a writer.

The kernel tells through a read lease (fcntl(2), F_SETLEASE): it is refused while any process, in any
container, has the file open for writing or mapped writable. It is given back at once: held, it would
make the recorder's next open wait.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from dataclasses import dataclass
from typing import Final, Literal

from uploaderd import containers
from uploaderd.beneath import fingerprint, folder_beneath, identity_of, open_beneath
from uploaderd.clock import Clock
from uploaderd.config import Source
from uploaderd.errors import Fault, FileFault, FileVanished, LocalFault, SourceMissing
from uploaderd.markers import ABANDONED, Markers, Word
from uploaderd.model import FileIdentity, FinishedBy, Milliseconds
from uploaderd.mounts import Mount, mount_of

LOOK_AGAIN: Final = 0.2
"""Seconds until a file that somebody still writes is looked at again: nothing is reported on close, and
a file is to be queued at most 0.3 s (median) later than its quiet time allows."""

MARKER_SECONDS: Final = 60.0
"""Until another look at a file whose marker says that it is not finished: its vanishing is an event."""

IN_PLACE: Final = 60.0
"""Seconds of quiet at least, where files are to arrive by a rename, for one that shows no trace of it: it may
be what its recorder has still to rename."""

EARLIEST_MS: Final = 946_684_800_000
"""2000-01-01: a time before it comes from a machine without a battery clock."""

_OUR_OWN: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN))
"""Errors that say something of this process or machine, and nothing of the file."""

_DAY_MS: Final = 86_400_000
_NETWORK_MARGIN: Final = 3600.0
"""Seconds by which a file server's clock is trusted to be right: on a network file system, a file that
was never seen before must be older than that to count as quiet at first sight."""


def ignore_lease_signals() -> None:
    """Live through the SIGIO of somebody who opens a file in the instant in which its lease is held.

    Call it once, in the main thread, before the first look: the signal ends a process by default.
    """
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def writer_has(fd: int) -> bool | None:
    """Whether some process has the file open for writing; None where that cannot be known.

    `fd` is open for reading only. It cannot be known on file systems that other hosts write to, and
    of a file of another owner without CAP_LEASE.
    """
    taken = take_lease(fd)
    if taken:
        give_lease_back(fd)
    return None if taken is None else not taken


def take_lease(fd: int) -> bool | None:
    """Take the file's read lease; False if somebody has it open for writing, None as `writer_has`.

    Until it is given back, or `fd` is closed, whoever opens the file for writing or cuts it waits, up
    to /proc/sys/fs/lease-break-time (45 s): hold it for moments only.
    """
    if mount_of(fd) is Mount.NETWORK:
        return None
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return False if error.errno == errno.EAGAIN else None
    return True


def lease_waited_for(fd: int) -> bool:
    """Whether somebody wants to write since the lease was taken."""
    return fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK


def give_lease_back(fd: int) -> None:
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        pass  # the kernel took it: this process was stopped for longer than it lets anybody wait


def plausible(mtime_ns: int, now: Milliseconds) -> bool:
    """Whether a file's time can be believed: after 2000, and at most a day ahead of our clock."""
    return EARLIEST_MS <= mtime_ns // 1_000_000 <= now + _DAY_MS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one look at a file came to.

    Attributes:
        identity: the file as it is now; with its fingerprint if it is finished.
        finished_by: None while it is not finished.
        obstacle: what keeps it: it changed since the last look, somebody writes, the writer that was
            there is gone only now, it was not quiet for long enough, or its marker says so.
        wait: seconds until another look is worth it.
        flaw: what its container lacks, if the source wants to know, it is finished and does not look whole.
        refused: why it cannot be read, though it is there and nothing is seen to change it: quiet time
            alone has judged it then, and `identity` has no fingerprint.
    """

    identity: FileIdentity
    finished_by: FinishedBy | None = None
    obstacle: Literal["", "changed", "writer", "closed", "quiet", "marker"] = ""
    wait: float = 0.0
    flaw: str | None = None
    refused: str | None = None


def _errno_of(error: FileFault | LocalFault | OSError) -> int | None:
    told = error if isinstance(error, OSError) else error.__cause__
    return told.errno if isinstance(told, OSError) else None


class Judge:
    """Looks at the files of one source. All methods block: call them on a thread."""

    def __init__(self, root: bytes, source: Source, clock: Clock) -> None:
        self._root = root
        self._source = source
        self._clock = clock
        self.markers = Markers(root)
        self.lease: bool | None = None
        """Whether the last lease that was asked for could be had; None before the first."""

    @property
    def shortest(self) -> float:
        """Seconds after its last change before which no look is worth it."""
        if self._source.finished in ("rename", "marker"):
            return 0.0
        return self._source.quiet_time(lease=self._source.finished == "auto", network=False)

    def look(
        self,
        path: bytes,
        before: FileIdentity | None = None,
        since: float | None = None,
        *,
        written: bool = False,
        vouched: bool = False,
    ) -> Verdict:
        """Look at a file.

        Args:
            path: relative to the source.
            before: as it was when last looked at; None at first sight.
            since: on the monotonic clock, since when it is known not to have changed; None at first
                sight: then its mtime alone has to tell.
            written: somebody had it open for writing when last looked at. Closing is a change as well:
                a recorder may still want to replace the file.
            vouched: somebody who must know says that it is finished.

        Raises:
            FileVanished: nothing is there any more, or no regular file.
            SourceMissing: the root itself is not there.
            FileFault: its folder may not be looked into.
            LocalFault, OSError: the disk or mount failed, or the process is short of something.
        """
        try:
            return self._look(path, before, since, written=written, vouched=vouched)
        except (FileVanished, SourceMissing):
            raise
        except (FileFault, LocalFault, OSError) as error:
            if _errno_of(error) in _OUR_OWN:
                raise
            return self._unreadable(path, before, since, error)

    def _look(
        self, path: bytes, before: FileIdentity | None, since: float | None, *, written: bool, vouched: bool
    ) -> Verdict:
        fd = open_beneath(self._root, path)
        try:
            status = os.fstat(fd)
            identity = identity_of(status)
            if before is not None and not before.same_stat(identity):
                return Verdict(identity, obstacle="changed", wait=max(LOOK_AGAIN, self.shortest))
            told = FinishedBy.VOUCHED if vouched else self._told(path, status)
            if told is Word.BUSY:
                return Verdict(identity, obstacle="marker", wait=MARKER_SECONDS)
            mount = mount_of(fd)
            if isinstance(told, FinishedBy):
                # Nothing to wait for, but a writer.
                least, quiet = 0.0, 0.0
            else:
                least, quiet = self._least(), self._quiet(identity, since, mount)
            if quiet < least and not written:
                return Verdict(identity, obstacle=self._obstacle, wait=least - quiet)
            writer = self._writer(fd)
            if writer:
                return Verdict(identity, obstacle="writer", wait=LOOK_AGAIN)
            if isinstance(told, FinishedBy):
                return self._finished(fd, path, status, told)
            if written:
                return Verdict(identity, obstacle="closed", wait=least)
            needed = self._needed(lease=writer is False, network=mount is Mount.NETWORK)
            if quiet < needed:
                return Verdict(identity, obstacle=self._obstacle, wait=needed - quiet)
            return self._finished(fd, path, status, FinishedBy.QUIET if writer is None else FinishedBy.LEASE)
        finally:
            os.close(fd)

    def _unreadable(
        self,
        path: bytes,
        before: FileIdentity | None,
        since: float | None,
        error: FileFault | LocalFault | OSError,
    ) -> Verdict:
        """The verdict on a file that is there and cannot be read.

        Raises:
            FileVanished, SourceMissing, FileFault, OSError: not even its status can be had.
        """
        folder = folder_beneath(self._root, path)
        try:
            status = os.stat(os.path.basename(path), dir_fd=folder, follow_symlinks=False)
            mount = mount_of(folder)
        except FileNotFoundError as gone:
            raise FileVanished(f"{os.fsdecode(path)!r} is not there any more", code="ENOENT") from gone
        finally:
            os.close(folder)
        if not stat.S_ISREG(status.st_mode):
            raise FileVanished(f"{os.fsdecode(path)!r} is not a regular file any more", code="ENOTREG")
        identity = identity_of(status)
        needed = self._needed(lease=False, network=mount is Mount.NETWORK)
        if before is not None and not before.same_stat(identity):
            return Verdict(identity, obstacle="changed", wait=needed)
        if (quiet := self._quiet(identity, since, mount)) < needed:
            return Verdict(identity, obstacle="quiet", wait=needed - quiet)
        reason = (
            f"{error.message}; {error.hint}" if isinstance(error, Fault) else f"{error.strerror or error}"
        )
        return Verdict(identity, finished_by=FinishedBy.QUIET, refused=f"it cannot be read: {reason}")

    def _finished(self, fd: int, path: bytes, status: os.stat_result, by: FinishedBy) -> Verdict:
        """What was just found finished, unless it changed meanwhile."""
        identity = identity_of(status)
        mark = fingerprint(fd, status.st_size)
        flaw = None
        if self._source.container_check != "off" and status.st_size > 0:
            flaw = containers.flaw(lambda at, size: os.pread(fd, size, at), status.st_size, path)
        if not identity_of(after := os.fstat(fd)).same_stat(identity):
            return Verdict(identity_of(after), obstacle="changed", wait=max(LOOK_AGAIN, self.shortest))
        if after.st_nlink == 0:
            raise FileVanished(f"{os.fsdecode(path)!r} was unlinked", code="ENOENT")
        return Verdict(identity_of(status, mark), finished_by=by, flaw=flaw)

    def _told(self, path: bytes, status: os.stat_result) -> FinishedBy | Word:
        """What a rename or a marker says of it; nothing where none is waited for."""
        match self._source.finished:
            case "rename":
                # A rename moves ctime, a write both: what was put there by one has the later ctime. Of
                # one that follows the last write within a tick of the kernel's clock nothing is seen, and
                # of what was written in place: that is judged as with `auto`, later.
                return FinishedBy.RENAME if status.st_ctime_ns > status.st_mtime_ns else Word.NOTHING
            case "marker":
                word = self.markers.word(path, status.st_mtime_ns)
                return FinishedBy.MARKER if word is Word.DONE else word
        return Word.NOTHING

    def _writer(self, fd: int) -> bool | None:
        if self._source.finished == "quiet":
            return None
        writer = writer_has(fd)
        self.lease = writer is not None
        return writer

    def _least(self) -> float:
        """Seconds without a change, at least, where nobody says that it is finished."""
        return self._needed(lease=self._source.finished != "quiet", network=False)

    def _needed(self, *, lease: bool, network: bool) -> float:
        quiet = self._source.quiet_time(lease=lease, network=network)
        match self._source.finished:
            case "marker":
                return max(quiet, ABANDONED)
            case "rename":
                return max(quiet, IN_PLACE)
        return quiet

    @property
    def _obstacle(self) -> Literal["quiet", "marker"]:
        return "marker" if self._source.finished == "marker" else "quiet"

    def _quiet(self, identity: FileIdentity, since: float | None, mount: Mount) -> float:
        """Seconds for which the file did not change: by our own clock, and by its mtime where that tells."""
        now = self._clock.now()
        age = (now - identity.mtime_ns // 1_000_000) / 1000
        # Clocks of file servers run ahead, and recorders start without the time: such an mtime says nothing.
        trusted = plausible(identity.mtime_ns, now) and age >= 0
        if since is not None:
            watched = self._clock.monotonic() - since
            return min(watched, age) if trusted else watched
        if not trusted or (mount is Mount.NETWORK and age < _NETWORK_MARGIN):
            return 0.0
        return age
