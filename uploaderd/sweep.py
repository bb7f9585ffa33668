"""A sweep: every file of a source that the ledger does not know so, judged, in batches.

It runs on a thread, reads the ledger through a connection of its own, and holds one batch in memory.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from uploaderd.candidates import Candidates
from uploaderd.errors import FileFault, FileVanished, UploaderdError
from uploaderd.finished import Judge, Verdict
from uploaderd.ledger import connect_readonly
from uploaderd.ledger.beside import Beside
from uploaderd.ledger.reading import unreadable as unreadable_ledger
from uploaderd.model import FileIdentity, Milliseconds
from uploaderd.settling import RETRY_SECONDS
from uploaderd.walk import Found, Tally, below_links, strangers, walk

BATCH: Final = 256
"""Strangers judged and taken in at once."""

REMEMBERED: Final = 100_000
"""Files known to be nothing new (second names of recordings) that are not looked at again."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """One sweep. `unreadable`: folders that could not be looked into; `at`: when it ended."""

    files: int
    folders: int
    unreadable: int
    queued: int
    seconds: float
    at: Milliseconds


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A file to look at again in `wait` seconds; `writer`: somebody has it open for writing."""

    path: bytes
    identity: FileIdentity
    wait: float
    writer: bool


@dataclass(slots=True)
class Batch:
    finished: list[tuple[bytes, Verdict]] = field(default_factory=list)
    unfinished: list[Unfinished] = field(default_factory=list)
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)


class Sweep:
    """The sweeps of one source, one after another."""

    def __init__(
        self,
        root: bytes,
        source_id: int,
        ledger: Path,
        judge: Judge,
        takes: Callable[[bytes], bool],
        candidates: Candidates,
    ) -> None:
        self._root = root
        self._source_id = source_id
        self._ledger = ledger
        self._judge = judge
        self._takes = takes
        self._candidates = candidates
        self._nothing_new: dict[bytes, tuple[FileIdentity, int]] = {}
        self._looked_at: dict[bytes, tuple[FileIdentity, int]] = {}

    def batches(
        self, under: bytes, tally: Tally, *, inodes: bool, stuck_too: bool
    ) -> Generator[Batch, None, None]:
        """What is to be done below `under` (everywhere, if empty). Blocks: on a thread.

        Args:
            under: a folder relative to the root.
            tally: counts as the walk goes on.
            inodes: whether inodes mean something there.
            stuck_too: look at recordings again that are held, or failed.

        Raises:
            OSError: the root cannot be read.
            LedgerError: the ledger cannot be read.
        """
        if under and below_links(self._root, under):
            return
        unreadable: list[tuple[bytes, str]] = []

        def cannot_look(path: bytes, error: OSError) -> None:
            unreadable.append((path + b"/", error.strerror or str(error)))

        conn = connect_readonly(self._ledger)
        try:
            unknown = strangers(
                walk(self._root, under, self._takes, cannot_look, tally),
                Beside(conn, self._source_id).at,
                inodes=inodes,
                stuck_too=stuck_too,
            )
            while True:
                began = time.monotonic()
                files = list(islice(unknown, BATCH))
                tally.passing += time.monotonic() - began
                if not files:
                    break
                batch = Batch()
                self._looked_at.clear()
                for file in files:
                    self._look(file, batch)
                batch.unreadable += unreadable
                unreadable.clear()
                yield batch
            yield Batch(unreadable=unreadable)
        except sqlite3.Error as error:
            raise unreadable_ledger(self._ledger, error) from error
        finally:
            conn.close()

    def nothing_new(self, path: bytes) -> None:
        """What the last batch had at `path` is no recording of its own: pass it over until it changes."""
        if path in self._looked_at and len(self._nothing_new) < REMEMBERED:
            self._nothing_new[path] = self._looked_at[path]

    def _look(self, file: Found, batch: Batch) -> None:
        seen = (file.identity, file.changed_ns)
        # A candidate that was open for writing has its own quiet time, which its mtime does not tell.
        if self._nothing_new.get(file.path) == seen or self._candidates.written(file.path):
            return
        self._looked_at[file.path] = seen
        try:
            verdict = self._judge.look(file.path)
        except FileVanished:
            return
        except FileFault as fault:
            batch.unreadable.append((file.path, fault.message))
        except (UploaderdError, OSError):
            batch.unfinished.append(Unfinished(file.path, file.identity, RETRY_SECONDS, writer=False))
        else:
            if verdict.finished_by is not None:
                batch.finished.append((file.path, verdict))
            else:
                writer = verdict.obstacle == "writer"
                batch.unfinished.append(Unfinished(file.path, verdict.identity, verdict.wait, writer))
