"""A recorder that does not let go: a process that acts on a file in the instant in which it is removed.

It reads a line `ACTION WAIT PATH` a try, waits that many microseconds, acts, and answers with one line: the
word that it wrote (its own each time), or nothing if it wrote none.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

ACTIONS: dict[str, Callable[[str, bytes], bool]] = {}


def action(act: Callable[[str, bytes], bool]) -> Callable[[str, bytes], bool]:
    """True if the word was written."""
    ACTIONS[act.__name__] = act
    return act


@action
def append(path: str, word: bytes) -> bool:
    """As a recorder that closed its file and goes on with it."""
    with open(path, "ab") as file:
        file.write(word)
    return True


@action
def append_if_there(path: str, word: bytes) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return False
    os.write(fd, word)
    os.close(fd)
    return True


@action
def append_without_waiting(path: str, word: bytes) -> bool:
    """O_NONBLOCK: refused while a lease is held."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    except (FileNotFoundError, BlockingIOError):
        return False
    os.write(fd, word)
    os.close(fd)
    return True


@action
def start_anew(path: str, word: bytes) -> bool:
    with open(path, "wb") as file:
        file.write(word)
    return True


@action
def change_secretly(path: str, word: bytes) -> bool:
    """In place, of the same size, under the old time."""
    try:
        with open(path, "r+b") as file:
            status = os.fstat(file.fileno())
            file.write(word)
            file.flush()
            os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
    except FileNotFoundError:
        return False
    return True


@action
def replace(path: str, word: bytes) -> bool:
    with open(path + ".new", "wb") as file:
        file.write(word)
    os.rename(path + ".new", path)
    return True


@action
def rename_away_and_append(path: str, word: bytes) -> bool:
    try:
        os.rename(path, path + ".moved")
    except FileNotFoundError:
        return False
    with open(path + ".moved", "ab") as file:
        file.write(word)
    return True


@action
def link_and_append(path: str, word: bytes) -> bool:
    try:
        os.link(path, path + ".link")
    except FileNotFoundError:
        return False
    with open(path + ".link", "ab") as file:
        file.write(word)
    return True


@action
def cut(path: str, word: bytes) -> bool:
    try:
        os.truncate(path, 3)
    except FileNotFoundError:
        return False
    with open(path, "ab") as file:
        file.write(word)
    return True


@action
def move_the_folder(path: str, word: bytes) -> bool:
    folder = os.path.dirname(path)
    os.rename(folder, folder + ".moved")
    os.mkdir(folder)
    with open(path, "wb") as file:
        file.write(word)
    return True


def main() -> None:
    for number, line in enumerate(sys.stdin):
        act, wait, path = line.rstrip("\n").split(" ", 2)
        word = b"<word %08d>" % number
        until = time.perf_counter() + int(wait) / 1e6
        while time.perf_counter() < until:
            pass
        wrote = ACTIONS[act](path, word)
        sys.stdout.write(f"{word.decode() if wrote else ''}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
