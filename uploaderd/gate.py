"""Whether a provider takes work: open, closed while it is in trouble, or open by one to try it.

Pure state; times are seconds of a monotonic clock that the caller reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from uploaderd.errors import Fault
from uploaderd.model import FailureClass
from uploaderd.retry import PROBES

FAILURES_IN_A_ROW: Final = 3
"""Transient failures without a success between, after which the provider itself is taken for down."""


class Position(Enum):
    OPEN = "open"
    TRIAL = "trial"
    """A probe succeeded: one upload may show whether uploads succeed as well."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Closed:
    """Why the gate closed, and in how many seconds to probe."""

    fault: Fault
    probe_in: float


class Gate:
    """One provider's gate. The backoff between probes starts anew only once an upload succeeded."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._row = 0
        self._closings = 0
        self.position = Position.OPEN

    def succeeded(self) -> None:
        """An upload was verified, or a part of one was taken, or nothing is there to try."""
        self.position = Position.OPEN
        self._row = self._closings = 0

    def failed(self, fault: Fault) -> Closed | None:
        """An upload failed. What to do if that closes the gate, or keeps it closed."""
        if fault.failure is FailureClass.TRANSIENT:
            self._row += 1
            if self.position is Position.OPEN and self._row < FAILURES_IN_A_ROW:
                return None
        elif fault.failure is not FailureClass.PROVIDER:
            return None  # the recording's own fault
        return self._close(fault)

    def probed(self) -> None:
        """A probe succeeded."""
        if self.position is Position.CLOSED:
            self.position = Position.TRIAL

    def probe_failed(self, fault: Fault) -> Closed:
        return self._close(fault)

    def at(self, position: Position) -> bool:
        return self.position is position

    def room(self, working: int, slots: int) -> int:
        """How many more uploads may begin beside `working` others."""
        match self.position:
            case Position.OPEN:
                return max(0, slots - working)
            case Position.TRIAL:
                return int(working == 0)
            case Position.CLOSED:
                return 0

    def _close(self, fault: Fault) -> Closed:
        self.position = Position.CLOSED
        self._closings += 1
        # At least a second: a jitter of nothing would turn waiting into hammering.
        delay = max(1.0, PROBES.delay(self._closings, self._random, fault.retry_after))
        return Closed(fault, delay)
