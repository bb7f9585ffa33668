"""Token, content type and metadata of a copy in a directory.

They are extended attributes of the file, so that `cp -a`, `rsync -X` and backups take them along:

    user.uploaderdtoken    the token
    user.mime_type          the content type (as freedesktop.org's shared-mime-info names it)
    user.uploaderd.NAME    metadata, UTF-8

Where the file system keeps none, or too few bytes of them (ext4: 4 KiB), they are a JSON file
`.uploaderd/notes/XX/REST`, named by SHA-256 over key, size and mtime: a stranger's file that took
the key never inherits the note, and a copy of the whole tree that keeps mtimes keeps the notes.

Everything here blocks.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from typing import Final

from uploaderd.model import TOKEN_METADATA, ObjectSpec, Token
from uploaderd.providers.directory_tree import OWN, Target, open_folder, sync_folder

TOKEN_ATTRIBUTE: Final = f"user.{TOKEN_METADATA}"
TYPE_ATTRIBUTE: Final = "user.mime_type"
METADATA_ATTRIBUTE: Final = "user.uploaderd."

_NOTES: Final = b"notes"
# No attributes here, or no room for these. A disk that is full says ENOSPC again for the file.
_NOT_HERE: Final = frozenset(
    {errno.ENOTSUP, errno.EPERM, errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.ENAMETOOLONG, errno.EINVAL}
)


def write(target: Target, root: int, fd: int, spec: ObjectSpec) -> None:
    """Note what belongs to the file `fd`, which is about to be placed. fsync of `fd` is the caller's."""
    attributes = {TOKEN_ATTRIBUTE: spec.token, TYPE_ATTRIBUTE: spec.content_type} | {
        METADATA_ATTRIBUTE + name: value for name, value in spec.metadata.items()
    }
    try:
        for name, value in attributes.items():
            os.setxattr(fd, name, value.encode())
        return
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    shelf, name_ = _name(spec.key, os.fstat(fd))
    note = {
        "key": spec.key,
        "token": spec.token,
        "content_type": spec.content_type,
        "metadata": dict(spec.metadata),
    }
    with target.own(root, _NOTES, shelf) as notes:
        note_fd = os.open(name_, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=notes)
        with open(note_fd, "w", encoding="utf-8") as file:
            json.dump(note, file)
            file.flush()
            os.fsync(note_fd)
        sync_folder(notes)


def token_of(root: int, fd: int, key: str) -> Token | None:
    """The token of the file `fd` at the key; None for a stranger's."""
    try:
        return _token(os.getxattr(fd, TOKEN_ATTRIBUTE).decode("ascii", "replace"))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            raise
    shelf, name = _name(key, os.fstat(fd))
    try:
        shelf_fd = open_folder(root, [OWN, _NOTES, shelf])
        try:
            note_fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=shelf_fd)
        finally:
            os.close(shelf_fd)
        with open(note_fd, encoding="utf-8") as file:
            note = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return None  # torn by a power cut: the file was never placed
    return _token(str(note.get("token"))) if isinstance(note, dict) else None


def forget(root: int, key: str, status: os.stat_result) -> None:
    """Remove the note of a file that was not placed, or is deleted; fine if there is none."""
    shelf, name = _name(key, status)
    try:
        shelf_fd = open_folder(root, [OWN, _NOTES, shelf])
        try:
            os.unlink(name, dir_fd=shelf_fd)
        finally:
            os.close(shelf_fd)
    except (FileNotFoundError, NotADirectoryError):
        pass


def _token(text: str) -> Token | None:
    return Token(text) if re.fullmatch(r"[0-9a-f]{32}", text) else None


def _name(key: str, status: os.stat_result) -> tuple[bytes, bytes]:
    text = f"{key}\0{status.st_size}\0{status.st_mtime_ns}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest().encode()
    return digest[:2], digest[2:]
