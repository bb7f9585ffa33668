"""What lies under a path: a local file system, one that other hosts write to, or a layered one.

Python's `os.statvfs` leaves out the type, so statfs(2) is asked directly. Its first field is a C long
on every 64-bit Linux but s390x (statfs(2), "f_type"); magic numbers are of linux/magic.h and of the
file systems' own headers.
"""

from __future__ import annotations

import ctypes
import os
from enum import StrEnum
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)
_STATFS_BYTES: Final = 256  # struct statfs has 120 on x86-64; room for any other


class Mount(StrEnum):
    LOCAL = "local"
    NETWORK = "network"
    """Others may write to it unseen: no events, no leases, inodes that say nothing."""
    OVERLAY = "overlay"
    """Events and leases work, but what is written to a layer beneath is not seen."""


_MAGIC: Final = {
    0x6969: Mount.NETWORK,  # NFS
    0x517B: Mount.NETWORK,  # SMB
    0xFF534D42: Mount.NETWORK,  # CIFS
    0xFE534D42: Mount.NETWORK,  # SMB2
    0x65735546: Mount.NETWORK,  # FUSE: sshfs, mergerfs, s3fs, virtiofs ...
    0x01021997: Mount.NETWORK,  # 9P
    0x00C36400: Mount.NETWORK,  # Ceph
    0x5346414F: Mount.NETWORK,  # AFS
    0x0BD00BD0: Mount.NETWORK,  # Lustre
    0x47504653: Mount.NETWORK,  # GPFS
    0x01161970: Mount.NETWORK,  # GFS2
    0x7461636F: Mount.NETWORK,  # OCFS2
    0x786F4256: Mount.NETWORK,  # VirtualBox shared folders
    0x794C7630: Mount.OVERLAY,
}


def mount_of(fd: int) -> Mount:
    """What the open file or directory lies on.

    Raises:
        OSError: the kernel does not say (a mount that hangs or is gone).
    """
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.fstatfs(fd, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    magic = ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
    return _MAGIC.get(magic, Mount.LOCAL)
