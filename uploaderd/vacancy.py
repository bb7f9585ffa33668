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

LARGEST: Final = 4 * 2**20
"""Bytes; more are not sent on trust: a round trip is little beside them."""


class Vacancy:
    """What the uploads of one provider found at their keys."""

    def __init__(self) -> None:
        self._row = 0

    def found(self, *, free: bool) -> None:
        """What a look found at a key."""
        self._row = self._row + 1 if free else 0

    def likely(self, claim: Claim) -> bool:
        """Whether an upload may begin on the chance that its key is free. Nothing of its own is there yet."""
        fresh = claim.attempt == 1 and claim.handle is None and not claim.completing
        return fresh and claim.replaces is None and claim.identity.size <= LARGEST and self._row >= ROW
