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


@dataclass(frozen=True, slots=True)
class Ensure:
    """Bring to safety what is there now.

    Attributes:
        files: source and path (percent-encoded) of files and folders; None for everything.
        recordings: beside them, such as have no file any more.
        finished: the caller vouches that the files are finished.
        force: prove again what the ledger believes, and upload again what is gone.
        timeout: seconds.
    """

    files: tuple[tuple[str, str], ...] | None = None
    recordings: tuple[str, ...] = ()
    finished: bool = False
    force: bool = False
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Verify:
    """Ask the providers again for verified copies.

    Attributes:
        recordings: by their ids; None, and no `files`: all that there are.
        files: source and path (percent-encoded) of files and folders, whose recordings are meant, too.
        deep: read everything back, and compare.
        settle: read back what no look can tell of, being changed since it was verified.
        rate: bytes per second, at most, to read back with; None: no limit.
        repair: upload again what is not there as it was.
        resume: go on with a run over everything that was cut off.
    """

    recordings: tuple[str, ...] | None = None
    files: tuple[tuple[str, str], ...] = ()
    deep: bool = False
    settle: bool = False
    rate: int | None = None
    repair: bool = False
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """Let held recordings into the queue."""

    recordings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Backfill:
    """Old recordings to a provider. `required`: they need one copy more from now on."""

    provider: str
    source: str | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Retire:
    """End a provider. `force`: even if something needs it."""

    provider: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class Url:
    """A URL to read a recording with, by its id, or an object by its key; good for so many seconds."""

    expires: float
    recording: str | None = None
    key: str | None = None
    provider: str | None = None


Order = Pause | Resume | Retry | Acknowledge | Release | Ensure | Verify | Url | Backfill | Retire

ORDERS: Final[dict[str, type[Order]]] = {
    "pause": Pause,
    "resume": Resume,
    "retry": Retry,
    "acknowledge": Acknowledge,
    "release": Release,
    "ensure": Ensure,
    "verify": Verify,
    "url": Url,
    "backfill": Backfill,
    "retire": Retire,
}
"""By the name under which the control socket takes them."""
