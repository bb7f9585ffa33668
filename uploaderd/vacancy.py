"""Whether a small file may be written without a look at its key before.

A look is a round trip, which a small file feels. Where the provider itself refuses to write over an
object (`Limits.guards_keys`), it only keeps content from being sent in vain; so it can be left out as
long as keys are found free. After the first that is not, as with a ledger that was lost, all are looked
at again.
"""

from __future__ import annotations

from typing import Final

from uploaderd.model import Claim

ROW: Final = 16
"""Keys in a row that must have been free."""

TRIAL: Final = 64
"""As many in a row, and it is worth to see whether a provider that does not say so guards its keys."""

LARGEST: Final = 4 * 2**20
"""Bytes; more are not sent on trust: a round trip is little beside them."""

LARGEST_TRIAL: Final = 2**20
"""Bytes of an object that may be sent twice to see it."""


class Vacancy:
    """What the uploads of one provider found at their keys."""

    def __init__(self) -> None:
        self._row = 0
        self._trial: int | None = TRIAL

    def found(self, claim: Claim, *, free: bool) -> None:
        """What a look found at an upload's key, or what a write met there."""
        if not free:
            self._row = 0
        elif _fresh(claim):
            self._row += 1

    def likely(self, claim: Claim) -> bool:
        """Whether an upload may begin on the chance that its key is free. Nothing of its own is there yet."""
        return _fresh(claim) and claim.identity.size <= LARGEST and self._row >= ROW

    def begin_trial(self, size: int) -> bool:
        """Whether to try now, with an object of so many bytes. `tried` must follow; none begins before."""
        if self._trial is None or self._row < self._trial or size > LARGEST_TRIAL:
            return False
        self._trial = None
        return True

    def tried(self, *, settled: bool) -> None:
        """The trial came to its end. Unless it settled the matter there may be another, later and later."""
        if not settled:
            self._trial = 2 * max(self._row, TRIAL)


def _fresh(claim: Claim) -> bool:
    return claim.attempt == 1 and claim.handle is None and claim.replaces is None and not claim.completing
