"""python tests/watch/fuse.py FOLDER MOUNTPOINT: the folder's files, read-only, through a real FUSE mount.

What is written to the folder is what another host writes to a network file system: no event tells of
it. The kernel is spoken to directly (linux/fuse.h, protocol 7.31), without libfuse. Flat: no subfolders.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from enum import IntEnum

ROOT = 1
REQUEST = struct.Struct("=IIQQIIII")


class Asked(IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    BATCH_FORGET = 42


def main(folder: str, mountpoint: str) -> None:
    fuse = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fuse},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tests", os.fsencode(mountpoint), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    os.write(sys.stdout.fileno(), b"ready\n")
    paths: dict[int, str] = {ROOT: folder}
    while True:
        request = os.read(fuse, 1 << 20)
        _, kind, unique, node, *_ = REQUEST.unpack_from(request)
        if kind in (Asked.FORGET, Asked.BATCH_FORGET):
            continue
        try:
            body, code = answer(kind, paths, node, request[REQUEST.size :]), 0
        except OSError as error:
            body, code = b"", error.errno or errno.EIO
        os.write(fuse, struct.pack("=IiQ", 16 + len(body), -code, unique) + body)


def answer(kind: int, paths: dict[int, str], node: int, rest: bytes) -> bytes:
    match kind:
        case Asked.INIT:
            return struct.pack("=IIIIHHIIHHI7I", 7, 31, 1 << 16, 0, 8, 8, 1 << 16, 1, 16, 0, 0, *[0] * 7)
        case Asked.LOOKUP:
            path = os.path.join(paths[ROOT], os.fsdecode(rest.rstrip(b"\0")))
            status = os.stat(path)
            paths[status.st_ino] = path
            # Nothing is remembered (zeros): another host may have written since.
            return struct.pack("=QQQQII", status.st_ino, 0, 0, 0, 0, 0) + attributes(status)
        case Asked.GETATTR:
            return struct.pack("=QII", 0, 0, 0) + attributes(os.stat(paths[node]))
        case Asked.OPEN | Asked.OPENDIR:
            return struct.pack("=QII", 0, 1, 0)  # direct: past the page cache
        case Asked.READ:
            _, offset, size = struct.unpack_from("=QQI", rest)
            with open(paths[node], "rb") as file:
                return os.pread(file.fileno(), size, offset)
        case Asked.READDIR:
            _, offset, size = struct.unpack_from("=QQI", rest)
            return entries(paths[node], offset, size)
        case Asked.STATFS:
            return struct.pack("=5Q4I6I", 1, 1, 1, 1, 1, 4096, 255, 4096, 0, *[0] * 6)
        case Asked.RELEASE | Asked.RELEASEDIR:
            return b""
    raise OSError(errno.ENOSYS, "not here")


def attributes(status: os.stat_result) -> bytes:
    seconds = (int(status.st_atime), int(status.st_mtime), int(status.st_ctime))
    parts = [each % 1_000_000_000 for each in (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)]
    size = status.st_size
    owner = (status.st_mode, status.st_nlink, status.st_uid, status.st_gid)
    return struct.pack("=6Q10I", status.st_ino, size, size // 512, *seconds, *parts, *owner, 0, 4096, 0)


def entries(folder: str, offset: int, size: int) -> bytes:
    listing = b""
    for number, entry in enumerate(sorted(os.scandir(folder), key=lambda one: one.name)):
        if number < offset:
            continue
        name = os.fsencode(entry.name)
        one = struct.pack("=QQII", entry.inode(), number + 1, len(name), stat.S_IFREG >> 12) + name
        one += b"\0" * (-len(one) % 8)
        if len(listing) + len(one) > size:
            break
        listing += one
    return listing


if __name__ == "__main__":
    main(*sys.argv[1:])
