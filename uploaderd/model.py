"""The words of uploaderd: states, classes and the small values that every layer speaks in.

Nothing here touches a disk, a socket or a clock. Times are integer milliseconds since the epoch
(UTC) unless a name ends in ``_ns``; sizes and offsets are bytes; paths are bytes, because that is
what the kernel keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, NewType, get_args

Milliseconds = NewType("Milliseconds", int)
Token = NewType("Token", str)
"""128 random bits as 32 lower-case hex digits; in the object's metadata under `TOKEN_METADATA`."""

TOKEN_METADATA = "uploaderdtoken"
"""Metadata name of the token. No hyphen: Azure allows only C# identifiers. No underscore: nginx in front
of an S3 store drops headers that have one (`underscores_in_headers`, off by default)."""


class UploadState(StrEnum):
    """Where one upload (one recording x one provider) stands."""

    QUEUED = "queued"
    UPLOADING = "uploading"
    COMPLETING = "completing"
    VERIFIED = "verified"
    RETRYING = "retrying"
    FAILED = "failed"


class RecordingState(StrEnum):
    """Derived by the ledger from the recording's uploads and facts; never stored on its own."""

    WAITING = "waiting"
    SAFE = "safe"
    FAILED = "failed"
    LOST = "lost"
    HELD = "held"
    SKIPPED = "skipped"
    SUPERSEDED = "superseded"


class Word(StrEnum):
    """The one word that answers "is everything safe?"."""

    SAFE = "SAFE"
    BEHIND = "BEHIND"
    FAILING = "FAILING"
    STOPPED = "STOPPED"


class FailureClass(StrEnum):
    """How a failure is treated; decided once, at the provider's edge, by code."""

    TRANSIENT = "transient"
    PROVIDER = "provider"
    RECORDING = "recording"
    CONFLICT = "conflict"


class ProviderState(StrEnum):
    OK = "ok"
    RETRYING = "retrying"
    PAUSED = "paused"
    DISABLED = "disabled"
    RETIRED = "retired"


class SourceState(StrEnum):
    OK = "ok"
    MISSING = "missing"
    PAUSED = "paused"


class LocalState(StrEnum):
    """What became of the local file."""

    PRESENT = "present"
    REMOVED = "removed"
    """Removed: by cleanup after the proof, or unlinked by somebody while it was being sent."""
    REPLACED = "replaced"
    """Another content took its path."""


class FoundBy(StrEnum):
    EVENT = "event"
    SWEEP = "sweep"
    ENSURE = "ensure"


class FinishedBy(StrEnum):
    """What made us believe that the recorder is done with the file."""

    LEASE = "lease"
    QUIET = "quiet"
    RENAME = "rename"
    MARKER = "marker"
    VOUCHED = "vouched"


Order = Literal["oldest", "newest", "smallest"]
"""What goes first among the recordings that wait."""


Occasion = Literal[
    "recording.safe",
    "recording.failed",
    "recording.lost",
    "recording.held",
    "provider.paused",
    "provider.resumed",
    "source.silent",
    "source.heard",
]
"""What a webhook may be told."""

OCCASIONS: Final[tuple[Occasion, ...]] = get_args(Occasion)


class OnConflict(StrEnum):
    SUFFIX = "suffix"
    FAIL = "fail"
    OVERWRITE = "overwrite"


class OnNewVersion(StrEnum):
    KEEP_BOTH = "keep-both"
    REPLACE = "replace"


class Gate(StrEnum):
    """What keeps a recording out of the queue and may be opened by a person (`release`)."""

    CONTAINER = "container"
    """It looks truncated, and `container_check = "require"`."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells one file from another without reading all of it.

    `fingerprint` covers size, head and tail of the content (see `beneath.fingerprint`); it is empty
    until somebody read the file.
    """

    size: int
    mtime_ns: int
    inode: int
    device: int
    fingerprint: bytes = b""

    def same_stat(self, other: FileIdentity) -> bool:
        """Whether size, mtime and inode agree: the file was not touched in between."""
        return (self.size, self.mtime_ns, self.inode) == (other.size, other.mtime_ns, other.inode)


@dataclass(frozen=True, slots=True)
class Checksum:
    """CRC-32C and CRC-64/NVME of `size` bytes, and MD5 where a provider has nothing better."""

    size: int
    crc32c: int
    crc64nvme: int
    md5: bytes | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person may have to act on, as `status` shows it."""

    failure: FailureClass
    message: str
    hint: str
    since: Milliseconds


@dataclass(frozen=True, slots=True)
class Proof:
    """What made us believe that a copy is intact: a kind for people, a value to compare."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class ObjectSpec:
    """The object to be made: everything that is decided before its first byte is sent.

    `replaces` is the ETag (S3, Azure) or generation (GCS) of the object that may be overwritten;
    None means that nothing may be there.
    """

    key: str
    size: int
    token: Token
    content_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as its provider describes it, after a write or when asked.

    `crc32c`, `crc64nvme` and `md5` are of the whole content and were computed by the provider; a
    value that the provider merely stores for its client (Azure's Content-MD5) is never put here.
    """

    key: str
    size: int
    etag: str | None = None
    version_id: str | None = None
    token: Token | None = None
    crc32c: int | None = None
    crc64nvme: int | None = None
    md5: bytes | None = None
    generation: str | None = None
    archived: bool = False
    """It must be brought back from an archive tier before it can be read."""
    read_back: bool = False
    """The checksum is of what was read back after the write, past every cache (a directory's)."""
    unmet: str = ""
    """What it lacks of all that it was to have besides its content: the retention that was configured."""

    @property
    def revision(self) -> str | None:
        """What `ObjectSpec.replaces` takes: the generation where there is one (GCS), else the ETag."""
        return self.generation if self.generation is not None else self.etag


@dataclass(frozen=True, slots=True)
class Session:
    """A half-done upload at its provider. `handle` may be a bearer secret: it is never printed."""

    spec: ObjectSpec
    part_size: int
    handle: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Part:
    """One part that was sent, with its checksum over what was sent.

    `etag` is whatever the provider wants back on completion (ETag, block id, nothing).
    `checked` names the checksum in the provider's reply that equalled ours, or is None where the
    reply proved nothing about the content.
    """

    number: int
    offset: int
    checksum: Checksum
    etag: str
    checked: str | None

    @property
    def size(self) -> int:
        return self.checksum.size


@dataclass(frozen=True, slots=True)
class HeldPart:
    """One part that the provider says it holds. Checksums only where the provider tells them."""

    number: int
    offset: int
    size: int
    etag: str
    crc32c: int | None = None
    crc64nvme: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """An upload that is a worker's to carry out, with all that it has to know.

    `completing`: the object may already be visible (the reply was lost, or the daemon died).
    `content`: the checksum that an earlier pass over the same file found. `parts`: receipts so far.
    """

    upload_id: int
    recording_id: int
    source: str
    root: bytes
    path: bytes
    identity: FileIdentity
    content: Checksum | None
    key: str
    token: Token
    replaces: str | None
    handle: str | None
    part_size: int | None
    completing: bool
    attempt: int
    failures: int
    found_at: Milliseconds
    finished_at: Milliseconds
    parts: tuple[Part, ...]
    present: bool = True
    """False once another content took the path."""


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def recording_id_of(row: int, found_at: int) -> str:
    """The public id of a recording: a ULID of when it was found and of its row in the ledger.

    It sorts by time, as ULIDs do, and leads back to the row without an index of its own.
    """
    number = (found_at & (1 << 48) - 1) << 80 | row
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def recording_row_of(public_id: str) -> int | None:
    """The row that a public id leads to; None if it is no such id."""
    if len(public_id) != 26 or any(char not in _CROCKFORD for char in public_id.upper()):
        return None
    number = 0
    for char in public_id.upper():
        number = number << 5 | _CROCKFORD.index(char)
    return number & (1 << 63) - 1
