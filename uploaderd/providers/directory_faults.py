"""Kernel error numbers, as the faults that the layers above act upon."""

from __future__ import annotations

import errno
from typing import Final

from uploaderd.errors import Fault, FileFault, KeyRefused
from uploaderd.model import FailureClass

_PROVIDER: Final = {
    errno.ENOSPC: "free space there; it goes on by itself",
    errno.EDQUOT: "raise the quota of the daemon's user there, or free space; it goes on by itself",
    errno.EROFS: "mount it for writing; a file system that had errors is often turned read-only (see dmesg)",
    errno.EACCES: "let the daemon's user write there",
    errno.EPERM: "let the daemon's user write there",
    # What a network or FUSE mount says once its server or its process is gone.
    errno.ENOTCONN: "mount it again; it goes on by itself",
    errno.ESTALE: "mount it again; it goes on by itself",
    errno.ENODEV: "mount it again; it goes on by itself",
    errno.ENXIO: "mount it again; it goes on by itself",
}
_TRANSIENT: Final = {
    errno.EIO: "check the disk (dmesg, smartctl) or the network behind the mount",
    errno.EREMOTEIO: "check the disk (dmesg, smartctl) or the network behind the mount",
    errno.ETIMEDOUT: "check the network behind the mount",
    errno.EHOSTDOWN: "check the network behind the mount",
    errno.EHOSTUNREACH: "check the network behind the mount",
    errno.ENETUNREACH: "check the network behind the mount",
    errno.ECONNRESET: "",
    errno.EAGAIN: "",
    errno.EINTR: "",
    errno.EMFILE: "raise the daemon's limit of open files (LimitNOFILE)",
    errno.ENFILE: "raise the system's limit of open files (fs.file-max)",
    errno.ENOMEM: "",
}
_KEY: Final = {
    errno.ENAMETOOLONG: "has a name that is too long for the file system",
    errno.EILSEQ: "has characters that the file system does not take",
    errno.EINVAL: "has characters that the file system does not take",
    errno.ENOTDIR: "needs a folder where a file or a symbolic link is",
    errno.ELOOP: "would lead through a symbolic link",
    errno.EISDIR: "needs a file where a folder is",
    errno.EXDEV: "leads into another file system that is mounted below the target",
}


def fault_of(error: OSError, doing: str, where: str) -> Fault:
    """The fault for a failed deed ("writing") at `where`, a path for people."""
    number = error.errno or 0
    code = errno.errorcode.get(number, "EIO")
    message = f"{doing} {where} failed: {error.strerror or error}"
    if number in _PROVIDER:
        return Fault(message, failure=FailureClass.PROVIDER, code=code, hint=_PROVIDER[number])
    if number == errno.EFBIG:
        return FileFault(message, code=code, hint="use a file system that holds files of this size")
    return Fault(message, code=code, hint=_TRANSIENT.get(number, ""), recognised=number in _TRANSIENT)


def key_fault_of(error: OSError, key: str) -> KeyRefused | None:
    """The fault if the kernel refused the name itself; None if it is about something else."""
    reason = _KEY.get(error.errno or 0)
    if reason is None:
        return None
    return KeyRefused(
        f"the key {key!r} {reason}",
        code=errno.errorcode.get(error.errno or 0, ""),
        hint="change `key` or `prefix`, or what lies in the way",
    )
