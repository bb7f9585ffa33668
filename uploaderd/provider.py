"""What a provider must be able to do, and the limits that its callers must obey.

A provider is one file under `providers/`. It knows its protocol and its errors, nothing of the
ledger, of retries or of other providers: each call is tried once and either returns or raises a
classified `errors.Fault`. Every call may be cancelled at any await.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from uploaderd.model import Checksum, HeldPart, ObjectInfo, ObjectSpec, Part, Session


@dataclass(frozen=True, slots=True)
class Limits:
    """What the provider's protocol allows; sizes in bytes.

    `part_multiple`: every part but the last is a multiple of it (GCS: 256 KiB).
    `ordered`: parts go one after another, each starting where the provider's content ends.
    `proves_whole`: completion is refused unless the provider's checksum over the whole content is
    ours, so a held part whose receipt was lost need not be sent again.
    `expires_days`: sessions cannot be aborted, and end by themselves after so many days; 0: they can be.
    `wants_md5`: nothing better than an MD5 can be compared, so the reader computes it too.
    `guards_keys`: a write that has to be the first at its key is refused where an object is, as the
    service promises or was seen to do; nobody need look before. Some stores ignore that condition.
    """

    max_single: int
    min_part: int
    max_part: int
    max_parts: int
    max_object: int
    part_multiple: int = 1
    ordered: bool = False
    proves_whole: bool = False
    wants_md5: bool = False
    guards_keys: bool = False
    expires_days: int = 0
    max_key_bytes: int = 1024
    max_key_component_bytes: int | None = None


class Body(Protocol):
    """A byte range of a file, read in windows while it is sent (`reader.Body`).

    Iterating yields windows of bytes from the start of the range; iterating again starts again. The
    checksum is known once an iteration has come to its end.
    """

    @property
    def offset(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def checksum(self) -> Checksum: ...

    def __len__(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[bytes | bytearray]: ...

    async def digest(self) -> Checksum:
        """Checksum of the range, read once without sending it."""
        ...


class Provider(Protocol):
    """One configured destination. Made by `providers.open_provider`, lives as long as the daemon."""

    @property
    def name(self) -> str: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def login(self) -> str:
        """Which login is used, for people ("connection string", "instance role"); no value."""
        ...

    @property
    def target(self) -> str:
        """What the name stands for ("s3://bucket", with the endpoint): the provider's identity."""
        ...

    def address(self, key: str) -> str:
        """The plain, unsigned address of an object."""
        ...

    async def open(self, spec: ObjectSpec, part_size: int) -> Session:
        """Begin an upload in parts. Nothing becomes visible.

        Raises:
            KeyTaken: where the provider already refuses here.
        """
        ...

    async def parts(self, session: Session) -> Sequence[HeldPart]:
        """What the provider holds of the session, by offset; nothing held is an empty sequence.

        An ordered provider answers with at most one part, from offset 0.

        Raises:
            SessionGone: the provider does not know the session.
        """
        ...

    async def put_part(self, session: Session, number: int, body: Body) -> Part:
        """Send one part; numbers count from 1. Sending a part again replaces it.

        Raises:
            Corrupted: the reply's checksum is not that of the bytes read from the file.
            SessionGone: the provider does not know the session.
        """
        ...

    async def complete(self, session: Session, parts: Sequence[Part], content: Checksum) -> ObjectInfo:
        """Make the object visible, from exactly these parts, in order.

        Raises:
            KeyTaken: an object appeared at the key, and is not the one that may be replaced.
            Corrupted: the provider's checksum over the content is not `content`.
            SessionGone: the session is gone; perhaps because a lost reply had completed it.
        """
        ...

    async def put(self, spec: ObjectSpec, body: Body) -> ObjectInfo:
        """Write a whole object of at most `limits.max_single` bytes in one request.

        Raises:
            KeyTaken, Corrupted: as `complete`.
        """
        ...

    async def abort(self, session: Session) -> bool:
        """Discard a session; True once nothing is left of it. Fine if it is already gone."""
        ...

    async def stat(self, key: str) -> ObjectInfo | None:
        """The object at the key, with the strongest checksum that the provider tells; or None.

        Raises:
            CannotLook: the credentials may not look.
        """
        ...

    def read(self, key: str, version_id: str | None = None) -> AsyncIterator[bytes]:
        """The object's content, in windows; for a directory, past the page cache."""
        ...

    async def probe(self) -> None:
        """Cheapest call that shows that uploads can work again; raises the fault if not."""
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class Signs(Protocol):
    """A provider that can sign a URL to read an object with."""

    async def sign(self, key: str, expires: float) -> tuple[str, float]:
        """A URL and the seconds for which it is good: `expires`, or less if the login ends sooner."""
        ...


@runtime_checkable
class Strays(Protocol):
    """A provider that can find a session whose opening reply was lost, so that it can be aborted."""

    async def strays(self, spec: ObjectSpec, seconds: float, but: Session | None = None) -> Sequence[Session]:
        """Sessions of this very upload that were begun in the last `seconds`, other than `but`.

        Only ever our own: of the exact key, and begun by our login where the provider says by whom.
        May begin one to see that, which is among those returned then.

        Raises:
            CannotLook: the credentials may not list them.
        """
        ...


@runtime_checkable
class Guards(Protocol):
    """A provider that may guard its keys (`Limits.guards_keys`), which has to be seen."""

    @property
    def may_be_tried(self) -> bool:
        """Whether a trial could show it, and could do no harm."""
        ...

    async def write_over(self, spec: ObjectSpec, content: bytes) -> None:
        """Write the object that is there once more, in a way that no store should carry out.

        `limits` learns from it.

        Raises:
            Fault: there was no answer to the question; another time there may be.
        """
        ...


@runtime_checkable
class Deletes(Protocol):
    """A provider that can delete an object; used for `doctor`'s own probe objects only."""

    async def delete(self, key: str, version_id: str | None = None) -> None:
        """Delete the object, and for good where a version is named and the provider keeps versions."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What a place does with its objects by itself, as far as it tells the login; None: it does not.

    `unfinished_end`: half-done uploads that nobody discards are dropped after some days, by a rule or by
    the service itself. `kept`: what keeps objects from being deleted, for people ("compliance lock for
    365 days"); empty if nothing does.
    """

    unfinished_end: bool | None = None
    kept: str | None = None


@runtime_checkable
class Tells(Protocol):
    """A provider that tells of itself; used by `doctor`."""

    async def time(self) -> datetime | None:
        """Its clock, to the second, as the `Date` of a reply has it; a refusal is a reply, too."""
        ...

    async def rules(self) -> Rules:
        """What the place does with objects by itself. What may not be asked is not known."""
        ...
