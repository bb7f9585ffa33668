"""Run by systemd inside the unit's sandbox, as its user: what can be written, read and done from there.

Prints one JSON object. Only the standard library: it is not the daemon's environment that is probed.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import stat
import sys
from collections.abc import Callable
from functools import partial

SKIPPED = ("/proc", "/sys", "/dev")
CLONE_NEWUSER = 0x10000000  # linux/sched.h


def main(out: str, *wanted: str) -> None:
    with open("/proc/self/status", encoding="utf-8") as file:
        status = dict(line.split(":", 1) for line in file)
    found = {
        "writable": sorted(writable("/")),
        "readable": [path for path in wanted if readable(path)],
        "capabilities": status["CapEff"].strip(),
        "groups": sorted(os.getgroups()),
        "environment": dict(os.environ),
        "others": [pid for pid in os.listdir("/proc") if pid.isdigit() and rooted(pid)],
        "refused": {
            "netlink": refused(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
            "namespace": refused(lambda: libc(ctypes.CDLL(None, use_errno=True).unshare, CLONE_NEWUSER)),
            "executable memory": refused(executable_memory),
            "chroot": refused(lambda: os.chroot("/")),
            "priority": refused(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
            "clock": refused(lambda: __import__("time").clock_settime(0, 0)),
        },
    }
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file)


def rooted(pid: str) -> bool:
    return os.stat(f"/proc/{pid}").st_uid == 0


def writable(top: str) -> set[str]:
    """Every folder and file below that could be written; of what is below such a folder, the folder alone."""
    found = set()
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in SKIPPED]
        if not refused(partial(make_and_remove, folder)):
            found.add(folder)
            folders.clear()
            continue
        for name in files:
            path = os.path.join(folder, name)
            # A socket is connected to, which is another thing than writing to where it lies.
            if stat.S_ISREG(os.lstat(path).st_mode) and os.access(path, os.W_OK):
                found.add(path)
    return found


def make_and_remove(folder: str) -> None:
    path = os.path.join(folder, ".probe")
    os.mkdir(path)
    os.rmdir(path)


def readable(path: str) -> bool:
    try:
        if os.path.isdir(path):
            return bool(os.listdir(path))
        with open(path, "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def refused(act: Callable[[], object]) -> str:
    """The error's name; empty if it was allowed."""
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def libc(call: Callable[..., int], *arguments: object) -> None:
    if call(*arguments) != 0:
        raise OSError(ctypes.get_errno(), "")


def executable_memory() -> None:
    import mmap

    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


if __name__ == "__main__":
    main(*sys.argv[1:])
