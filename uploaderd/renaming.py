"""Renaming without replacing, which `os` does not have: renameat2(2) with RENAME_NOREPLACE."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_NOREPLACE: Final = 1  # linux/fs.h
_libc: Final = ctypes.CDLL(None, use_errno=True)

FLAG_UNKNOWN: Final = frozenset({errno.EINVAL, errno.ENOSYS})
"""What a kernel, or a file system such as NFS, says that does not know the flag. EINVAL is also FAT's
word for a name that it cannot have."""


def rename_without_replacing(source: int, old: bytes, target: int, new: bytes) -> None:
    """Rename `old` in the folder `source` to `new` in the folder `target`; both are descriptors.

    Raises:
        FileExistsError: something has the new name. Nothing was changed.
        OSError: as renameat2(2).
    """
    try:
        call = _libc.renameat2
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    if call(source, old, target, new, _NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
