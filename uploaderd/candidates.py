"""Files that may soon be finished: when each was last seen to change, and when to look again.

Nothing here blocks or knows the time: callers say what the monotonic clock shows.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

from uploaderd.model import FileIdentity, FoundBy

LIMIT: Final = 50_000
"""Candidates held at once (some 20 MB); what is beyond is left to the next sweep."""


@dataclass(slots=True)
class Candidate:
    """One file that was seen.

    Attributes:
        identity: as it was when last looked at, without fingerprint.
        since: since when it is not known to have changed.
        due: when to look again.
    """

    path: bytes
    found_by: FoundBy
    first_seen: float
    since: float
    due: float
    identity: FileIdentity
    written: bool = False
    """Somebody had it open for writing when last looked at: `since` then, whatever its mtime says."""
    vouched: bool = False
    """Somebody says that it is finished: what is waited for is that its last writer is gone."""
    serial: int = 0
    """Of its one valid entry in the heap."""
    entry: float = 0.0
    """When that entry comes up."""


class Candidates:
    """The candidates of one source, by path and by when they are due."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._by_path: dict[bytes, Candidate] = {}
        # One valid entry a candidate, with the time at which it was due when it was pushed. A candidate
        # that keeps changing only moves its own `due` on; the entry is put right when it comes up.
        self._heap: list[tuple[float, int, bytes]] = []
        self._serial = 0
        self._overflowed = False

    def __len__(self) -> int:
        return len(self._by_path)

    @property
    def paths(self) -> list[bytes]:
        return list(self._by_path)

    def get(self, path: bytes) -> Candidate | None:
        return self._by_path.get(path)

    def room_again(self) -> bool:
        """Whether candidates were dropped, and there is room for them now; True once each time."""
        if not self._overflowed or len(self._by_path) > self._limit // 2:
            return False
        self._overflowed = False
        return True

    @property
    def written_now(self) -> list[bytes] | None:
        """The paths of all, if each was open for writing when last looked at; None if one was not."""
        if all(known.written for known in self._by_path.values()):
            return list(self._by_path)
        return None

    def written(self, path: bytes) -> bool:
        """Whether somebody was seen writing to it when it was last looked at."""
        known = self.get(path)
        return known is not None and known.written

    def changed(
        self, identity: FileIdentity, path: bytes, found_by: FoundBy, now: float, quiet: float
    ) -> None:
        """A file was seen to come or to change just now: its quiet time begins."""
        known = self._by_path.get(path)
        if known is not None:
            if known.vouched and known.identity.same_stat(identity):
                return  # an event of before it was vouched for
            known.identity, known.since, known.due = identity, now, now + quiet
            known.written = known.vouched = False
            if known.due < known.entry:
                self._push(known)
            return
        if len(self._by_path) >= self._limit:
            self._overflowed = True
            return
        self._by_path[path] = candidate = Candidate(path, found_by, now, now, now + quiet, identity)
        self._push(candidate)

    def found(self, identity: FileIdentity, path: bytes, now: float, wait: float, *, writer: bool) -> None:
        """A sweep came across a file that is not finished; one that is a candidate already stays as it is."""
        if path not in self._by_path:
            self.changed(identity, path, FoundBy.SWEEP, now, wait)
            if (known := self._by_path.get(path)) is not None:
                known.written = writer

    def vouch(self, path: bytes) -> None:
        """Somebody says that it is finished as it is: look as soon as may be."""
        if (known := self._by_path.get(path)) is not None:
            known.vouched = True

    def later(self, path: bytes, due: float) -> None:
        """Look again at `due`: it did not change, but it is not finished either."""
        known = self._by_path.get(path)
        if known is not None:
            known.due = due
            self._push(known)

    def take_due(self, now: float, most: int) -> list[Candidate]:
        """At most so many whose time has come. Each must then be dropped, or given a `later`."""
        due: list[Candidate] = []
        while self._heap and self._heap[0][0] <= now and len(due) < most:
            _, serial, path = heapq.heappop(self._heap)
            known = self._by_path.get(path)
            if known is None or known.serial != serial:
                continue
            if known.due > now:
                self._push(known)
            else:
                due.append(known)
        return due

    def next_due(self) -> float | None:
        """When `take_due` may have something, at the earliest."""
        return self._heap[0][0] if self._heap else None

    def drop(self, path: bytes) -> None:
        self._by_path.pop(path, None)

    def drop_if(self, path: bytes, identity: FileIdentity) -> None:
        """Drop it, unless it was seen to change since it was like that."""
        known = self._by_path.get(path)
        if known is not None and known.identity.same_stat(identity):
            del self._by_path[path]

    def _push(self, candidate: Candidate) -> None:
        self._serial += 1
        candidate.serial, candidate.entry = self._serial, candidate.due
        heapq.heappush(self._heap, (candidate.due, self._serial, candidate.path))
