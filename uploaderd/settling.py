"""From candidate to finished: each is looked at when its quiet time may be over, and then offered."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from uploaderd.beneath import identity_of
from uploaderd.candidates import Candidate, Candidates
from uploaderd.clock import Clock, wait_for
from uploaderd.errors import FileFault, FileVanished, LedgerBroken, LedgerError, UploaderdError
from uploaderd.finished import Judge, Verdict
from uploaderd.intake import Finished, Intake
from uploaderd.keys import text_of
from uploaderd.ledger.identity import Settled
from uploaderd.logs.setup import get_logger
from uploaderd.model import FileIdentity, FinishedBy, FoundBy

log = get_logger(__name__)
Look = Verdict | UploaderdError | OSError

_WAITS: Final = {
    "writer": "it is open for writing",
    "closed": "it was closed a moment ago",
    "changed": "it changed a moment ago",
    "quiet": "it was not quiet for long enough",
    "marker": "its marker does not say that it is finished",
}

RETRY_SECONDS: Final = 5.0
"""Until another look, where the last one failed for a reason outside of the file (disk, ledger)."""

LOOKS: Final = 256
"""Candidates looked at in one go."""

OPEN_FILES_A_SECOND: Final = 5_000
"""Looks at files that are open for writing, at most, when there are very many of them."""

REPORTED: Final = 10_000
"""Unreadable files that are remembered as reported."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of files that were offered: how many were queued, which are second names of others."""

    queued: int = 0
    linked: tuple[bytes, ...] = ()


class Settling:
    """The candidates of one source. `inodes` tells whether inodes mean something there."""

    def __init__(
        self,
        source: str,
        root: bytes,
        judge: Judge,
        takes: Callable[[bytes], bool],
        intake: Intake,
        clock: Clock,
        threads: Executor,
        inodes: Callable[[], bool],
    ) -> None:
        self.candidates = Candidates()
        self._source = source
        self._root = root
        self._judge = judge
        self._takes = takes
        self._intake = intake
        self._clock = clock
        self._threads = threads
        self._inodes = inodes
        self._due = asyncio.Event()
        self._asked: set[bytes] = set()
        self._looking = False
        self._reported: set[bytes] = set()

    @property
    def only_open(self) -> list[bytes] | None:
        """Files that somebody still writes, if nothing else waits to be looked at or taken in; else None."""
        return None if self._asked or self._looking else self.candidates.written_now

    @property
    def unsettled(self) -> list[bytes]:
        """Files that wait to be looked at again, for whatever reason."""
        return [*self._asked, *self.candidates.paths]

    def look_at(self, path: bytes) -> None:
        """Look at the file anew, whatever was thought of it."""
        self._asked.add(path)
        self._due.set()

    async def run(self) -> None:
        """Look at each candidate when it is due, until cancelled."""
        while True:
            due = self.candidates.next_due()
            await wait_for(self._due, self._clock, None if due is None else due - self._clock.monotonic())
            self._looking = True
            try:
                if self._asked:
                    asked, self._asked = self._asked, set()
                    await self.see(dict.fromkeys(asked, False))
                if candidates := self.candidates.take_due(self._clock.monotonic(), LOOKS):
                    await self._look_again(candidates)
            finally:
                self._looking = False

    async def see(self, paths: Mapping[bytes, bool]) -> dict[bytes, bool]:
        """Make candidates of the files that changed; the value says that a path is new.

        Returns:
            The folders among them, and whether they are in doubt: new, or not to be looked into.
        """
        loop = asyncio.get_running_loop()
        files, folders = await loop.run_in_executor(self._threads, self._stats, paths)
        for path, status in files:
            now = self._clock.monotonic()
            self.candidates.changed(identity_of(status), path, FoundBy.EVENT, now, self._judge.shortest)
            self._due.set()
        return folders

    def found(self, path: bytes, identity: FileIdentity, wait: float, *, writer: bool) -> None:
        """A sweep came across a file that is not finished."""
        self.candidates.found(identity, path, self._clock.monotonic(), wait, writer=writer)
        self._due.set()

    async def ensure(self, paths: Sequence[bytes], *, vouched: bool) -> dict[bytes, str]:
        """Look at files now, and take in what is finished; of the others, why not: they stay candidates.

        Args:
            paths: relative to the source.
            vouched: the caller knows that they are finished: no quiet time, but no writer either.

        Raises:
            LedgerBroken: the ledger's storage failed.
        """
        known = {path: self.candidates.get(path) for path in paths}
        before = [
            (path, None, None if one is None else one.since, one is not None and one.written, vouched)
            for path, one in known.items()
        ]
        looks = await asyncio.get_running_loop().run_in_executor(self._threads, self._judged, before)
        finished, others = [], {}
        for path, looked in zip(known, looks, strict=True):
            match looked:
                case Verdict(finished_by=FinishedBy()):
                    self.candidates.drop_if(path, looked.identity)
                    finished.append((path, looked, FoundBy.ENSURE))
                case Verdict():
                    others[path] = _WAITS[looked.obstacle]
                    self._keep(path, looked, vouched=vouched)
                case UploaderdError():
                    others[path] = str(looked)
                case _:
                    others[path] = looked.strerror or str(looked)
        await self.offer(finished)
        return others

    def _keep(self, path: bytes, looked: Verdict, *, vouched: bool) -> None:
        """A candidate from now on, if it was none; one that is vouched for, as soon as nobody writes."""
        now = self._clock.monotonic()
        if self.candidates.get(path) is None:
            self.candidates.changed(looked.identity, path, FoundBy.ENSURE, now, looked.wait)
        if vouched:
            self.candidates.vouch(path)
            self.candidates.later(path, now + looked.wait)
        self._due.set()

    async def offer(self, judged: Iterable[tuple[bytes, Verdict, FoundBy]]) -> Taken:
        """Hand finished files to the intake. What it cannot take in now is looked at again later.

        Raises:
            LedgerBroken: the ledger's storage failed.
        """
        finished = []
        for path, verdict, found_by in judged:
            assert verdict.finished_by is not None
            self._reported.discard(path)
            finished.append(
                Finished(
                    path,
                    verdict.identity,
                    found_by,
                    verdict.finished_by,
                    self._clock.now(),
                    verdict.flaw,
                    verdict.refused,
                )
            )
        if not finished:
            return Taken()
        outcomes: tuple[Settled | None, ...] = (None,) * len(finished)
        try:
            outcomes = (await self._intake.offer(self._source, finished, inodes=self._inodes())).outcomes
        except LedgerBroken:
            raise
        except LedgerError as error:
            log.warning("the ledger takes nothing in just now", source=self._source, reason=str(error))
        linked = []
        for one, outcome in zip(finished, outcomes, strict=True):
            if outcome is not None:
                self._judge.markers.forget(one.path)
            if outcome is Settled.LINKED:
                linked.append(one.path)
            elif outcome is None:
                self.found(one.path, one.identity, RETRY_SECONDS, writer=False)
        return Taken(outcomes.count(Settled.QUEUED), tuple(linked))

    def cannot_read(self, path: bytes, reason: str) -> None:
        """Say it, once."""
        if path not in self._reported and len(self._reported) < REPORTED:
            self._reported.add(path)
            log.warning(
                "cannot be read, and is left out until it can",
                source=self._source,
                path=text_of(path),
                reason=reason,
            )

    async def _look_again(self, candidates: list[Candidate]) -> None:
        before = [(one.path, one.identity, one.since, one.written, one.vouched) for one in candidates]
        loop = asyncio.get_running_loop()
        try:
            looks = await loop.run_in_executor(self._threads, self._judged, before)
        except BaseException:
            # The source was paused, say: they are looked at once it goes on.
            for one in candidates:
                self.candidates.later(one.path, one.due)
            raise
        finished = []
        for one, (_, _, since, *_), looked in zip(candidates, before, looks, strict=True):
            # An event may have come while it was looked at.
            if isinstance(looked, Verdict) and looked.finished_by is not None and one.since == since:
                self.candidates.drop(one.path)
                finished.append((one.path, looked, one.found_by))
            else:
                self._not_yet(one, looked)
        await self.offer(finished)

    def _not_yet(self, one: Candidate, looked: Look) -> None:
        """When to look again at what is not finished, or never."""
        now = self._clock.monotonic()
        match looked:
            case FileVanished():
                self.candidates.drop(one.path)
            case FileFault():
                self.candidates.drop(one.path)
                self.cannot_read(one.path, looked.message)
            case Verdict(obstacle="writer"):
                one.since, one.written = now, True
                wait = max(looked.wait, len(self.candidates) / OPEN_FILES_A_SECOND)
                self.candidates.later(one.path, now + wait)
            case Verdict(obstacle="changed" | "closed"):
                one.identity, one.since, one.written = looked.identity, now, False
                self.candidates.later(one.path, now + looked.wait)
            case Verdict():
                self.candidates.later(one.path, max(one.due, now + looked.wait))
            case _:
                self.candidates.later(one.path, now + RETRY_SECONDS)

    # --- on threads ------------------------------------------------------------------------------

    def _judged(
        self, files: Iterable[tuple[bytes, FileIdentity | None, float | None, bool, bool]]
    ) -> list[Look]:
        looks: list[Look] = []
        for path, identity, since, written, vouched in files:
            try:
                looks.append(self._judge.look(path, identity, since, written=written, vouched=vouched))
            except (UploaderdError, OSError) as error:
                looks.append(error)
        return looks

    def _stats(
        self, paths: Mapping[bytes, bool]
    ) -> tuple[list[tuple[bytes, os.stat_result]], dict[bytes, bool]]:
        """Regular files that are taken, and what `see` returns."""
        files, folders = [], dict[bytes, bool]()
        for path, new in paths.items():
            whole = os.path.join(self._root, path)
            try:
                status = os.lstat(whole)
            except PermissionError:
                folders[os.path.dirname(path)] = True
            except OSError:
                continue
            else:
                if stat.S_ISDIR(status.st_mode):
                    folders[path] = new or not _may_be_looked_into(whole)
                elif stat.S_ISREG(status.st_mode) and self._takes(path):
                    files.append((path, status))
        return files, folders


def _may_be_looked_into(folder: bytes) -> bool:
    try:
        # Opening its "." takes both the right to read it and the right to search it.
        os.close(os.open(os.path.join(folder, b"."), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
