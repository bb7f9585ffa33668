"""What can be asked for. Plain values, as they go through the control socket as JSON.

A recording is named by its public id. What a person types is resolved by whoever asked, since it may
be relative to a folder that only they are in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from uploaderd.ledger.acts import Kind


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing to a provider, or take nothing of a source, until it is resumed."""

    kind: Kind
    name: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resume:
    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again now what failed or waits. `recordings`: None for all of them."""

    recordings: tuple[str, ...] | None = None
    provider: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Take failed, lost or held recordings out of the alarm."""

    recordings: tuple[str, ...]
    reason: str


Order = Pause | Resume | Retry | Acknowledge

ORDERS: Final[dict[str, type[Order]]] = {
    "pause": Pause,
    "resume": Resume,
    "retry": Retry,
    "acknowledge": Acknowledge,
}
"""By the name under which the control socket takes them."""
