"""When to sweep what: the whole tree now and then, at once what is in doubt.

Nothing here knows the time: callers say what the monotonic clock shows. A folder is its path relative
to the source; the empty one is the whole tree.
"""

from __future__ import annotations

from math import inf
from typing import Final

SECOND_LOOK: Final = 1.0
"""Seconds until a new folder is looked at once more: what is made in it before it is watched shows then."""

FOLDERS: Final = 64
"""Folders in doubt at once; beyond that the whole tree is."""

SHARE: Final = 20
"""Sweeps that only a doubt asks for leave pauses of that many times their own length."""


class Schedule:
    def __init__(self) -> None:
        self._whole = inf
        self._resting = -inf
        self._wanted = False
        # When to look, and how many looks are left.
        self._folders: dict[bytes, tuple[float, int]] = {}

    @property
    def asked(self) -> bool:
        """Whether a sweep is wanted for another reason than that it is time for one."""
        return bool(self._folders) or self._wanted

    def next_due(self) -> float:
        """When `take_due` has something; infinite if nothing was asked for."""
        return min(self._whole, min((due for due, _ in self._folders.values()), default=inf))

    def ask(self, due: float) -> None:
        """Sweep the whole tree at `due`, whatever it costs."""
        self._whole = min(self._whole, due)
        self._wanted = True

    def doubt(self, folder: bytes, now: float) -> None:
        """Something below `folder` may have been missed."""
        if folder and len(self._folders) < FOLDERS:
            self._folders[folder] = (now, 2)
            return
        # The pause after a long sweep keeps doubts from turning into one endless sweep.
        self._whole = min(self._whole, max(now, self._resting))
        self._wanted = True

    def take_due(self, now: float) -> list[bytes]:
        """The folders to sweep now: the empty one alone for all, or none inside of another."""
        if self._whole <= now:
            self._folders = {
                folder: (now + SECOND_LOOK, 1) for folder, (_, looks) in self._folders.items() if looks > 1
            }
            return [b""]
        due = sorted(folder for folder, (when, _) in self._folders.items() if when <= now)
        for folder in due:
            _, looks = self._folders.pop(folder)
            if looks > 1:
                self._folders[folder] = (now + SECOND_LOOK, 1)
        return [folder for folder in due if not any(folder.startswith(other + b"/") for other in due)]

    def began(self, again: float) -> None:
        """A sweep of the whole tree begins: it covers all doubts so far. It is due `again` if it fails."""
        self._whole = again
        self._wanted = False

    def ended(self, now: float, cost: float, every: float) -> None:
        """A sweep of the whole tree ended now; another one is due after `every`, sooner if in doubt.

        Args:
            now: on the monotonic clock.
            cost: seconds that went into passing over what is known.
            every: seconds.
        """
        self._resting = now + min(SHARE * cost, every)
        self._whole = self._resting if self._wanted else now + every
