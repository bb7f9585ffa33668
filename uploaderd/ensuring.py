"""Files that somebody asks for by name: looked at now, taken in if they are finished, their recordings told.

Nothing is waited for here. What is not finished yet is a candidate from then on.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from uploaderd.beneath import identity_of
from uploaderd.ledger import connect_readonly
from uploaderd.ledger.intake import at_inode, at_path
from uploaderd.ledger.reading import unreadable
from uploaderd.model import FileIdentity, RecordingState
from uploaderd.settling import Settling
from uploaderd.walk import Tally, below_links, walk

AT_ONCE: Final = 256
"""Files looked at and taken in at once."""

LEFT_OUT: Final = "the ledger could not take it in just now; it is tried again"


@dataclass(frozen=True, slots=True)
class Ensured:
    """What became of the files that were asked for; paths are relative to the source.

    Attributes:
        rows: of each recording (in the ledger), by the path of its file. Second names share one.
        others: why there is none, by path. What is not finished yet becomes one by itself.
    """

    rows: Mapping[bytes, int]
    others: Mapping[bytes, str]


@dataclass(slots=True)
class _Files:
    found: dict[bytes, FileIdentity] = field(default_factory=dict)
    others: dict[bytes, str] = field(default_factory=dict)


class Ensuring:
    """The files of one source, by name."""

    def __init__(
        self,
        root: bytes,
        source_id: int,
        ledger: Path,
        takes: Callable[[bytes], bool],
        settling: Settling,
        threads: Executor,
    ) -> None:
        self._root = root
        self._source_id = source_id
        self._ledger = ledger
        self._takes = takes
        self._settling = settling
        self._threads = threads

    async def look(self, paths: Sequence[bytes], *, vouched: bool, inodes: bool) -> Ensured:
        """Look at files, and at all below folders.

        Args:
            paths: relative to the source; the empty one is all of it.
            vouched: the caller knows that they are finished.
            inodes: whether inodes mean something there.

        Raises:
            LedgerError: the ledger cannot be read, or its storage failed.
        """
        loop = asyncio.get_running_loop()
        files = await loop.run_in_executor(self._threads, self._below, paths)
        rows = await loop.run_in_executor(self._threads, self._recorded, files.found, inodes, False)
        unknown = [path for path in files.found if path not in rows]
        others = files.others
        for begin in range(0, len(unknown), AT_ONCE):
            some = unknown[begin : begin + AT_ONCE]
            others |= await self._settling.ensure(some, vouched=vouched)
        looked_at = {path: files.found[path] for path in unknown if path not in others}
        rows |= await loop.run_in_executor(self._threads, self._recorded, looked_at, inodes, True)
        others |= {path: LEFT_OUT for path in looked_at if path not in rows}
        return Ensured(rows, others)

    def _below(self, paths: Iterable[bytes]) -> _Files:
        """The regular files that are meant, as they are now. Blocks."""
        files = _Files()

        def cannot_look(path: bytes, error: OSError) -> None:
            files.others[path] = error.strerror or str(error)

        for path in paths:
            try:
                status = os.lstat(os.path.join(self._root, path) if path else self._root)
            except OSError as error:
                cannot_look(path, error)
                continue
            folder = os.path.dirname(path)
            if folder and below_links(self._root, folder):
                files.others[path] = "it is reached through a symbolic link"
            elif stat.S_ISDIR(status.st_mode):
                walked = walk(self._root, path, self._takes, cannot_look, Tally())
                files.found |= {one.path: one.identity for one in walked}
            elif not stat.S_ISREG(status.st_mode):
                files.others[path] = "it is no regular file"
            elif not self._takes(path):
                files.others[path] = "the source's patterns do not take it, or an earlier source does"
            else:
                files.found[path] = identity_of(status)
        return files

    def _recorded(
        self, files: Mapping[bytes, FileIdentity], inodes: bool, looked_at: bool
    ) -> dict[bytes, int]:
        """Rows of the files that the ledger has as they are. Blocks.

        Those that are held or failed do not count unless they were just looked at: that may let them go.
        """
        rows = {}
        conn = connect_readonly(self._ledger)
        try:
            for path, identity in files.items():
                known = at_path(conn, self._source_id, path)
                if known is not None:
                    here = known.identity
                    same = (here.size, here.mtime_ns) == (identity.size, identity.mtime_ns)
                    same = same and (not inodes or here.inode == identity.inode)
                    if looked_at or (
                        same and known.state not in (RecordingState.HELD, RecordingState.FAILED)
                    ):
                        rows[path] = known.id
                elif looked_at and inodes:
                    linked = at_inode(conn, self._source_id, identity.inode, identity.mtime_ns)
                    if linked and not linked[0].gone:
                        rows[path] = linked[0].id
        except sqlite3.Error as error:
            raise unreadable(self._ledger, error) from error
        finally:
            conn.close()
        return rows
