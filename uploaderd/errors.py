"""What can go wrong, in the terms that the layers above act upon.

An error says what was tried, on what, why it failed and what a person can do. Messages and hints
never contain a secret: providers build them from codes, and whatever text of a library is kept goes
through `logs.mask` first.
"""

from __future__ import annotations

from uploaderd.model import FailureClass, ObjectInfo


class UploaderdError(Exception):
    """Root of every error that this program raises on purpose."""


class Fault(UploaderdError):
    """A failed step of an upload, classified once.

    Attributes:
        failure: what the layers above act on.
        code: the provider's or the kernel's own code ("NoSuchBucket", "ENOSPC").
        message: what failed, for people; no secrets.
        hint: what to do about it; empty where waiting is all there is to do.
        http_status, request_id: as the provider gave them, for its support.
        retry_after: seconds that the provider asked us to wait.
        recognised: False when nothing matched and `transient` is a guess (logged in full once).
    """

    failure: FailureClass = FailureClass.TRANSIENT

    def __init__(
        self,
        message: str,
        *,
        failure: FailureClass | None = None,
        code: str = "",
        hint: str = "",
        http_status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        recognised: bool = True,
    ) -> None:
        super().__init__(message)
        if failure is not None:
            self.failure = failure
        self.message = message
        self.code = code
        self.hint = hint
        self.http_status = http_status
        self.request_id = request_id
        self.retry_after = retry_after
        self.recognised = recognised


class Stopped(UploaderdError):
    """The daemon is ending: the attempt stops where it is, its session is kept."""


class SessionGone(Fault):
    """The provider no longer knows the session: a new one starts under the same token."""


class Corrupted(Fault):
    """The provider's checksum differs from ours: the bytes were damaged on their way."""


class CannotLook(Fault):
    """The credentials may write but not look (403 on stat): not a fault of the upload."""


class KeyTaken(Fault):
    """Another object is at the key, or appeared there while we were writing."""

    failure = FailureClass.CONFLICT

    def __init__(self, message: str, *, found: ObjectInfo | None = None, code: str = "") -> None:
        super().__init__(message, code=code)
        self.found = found


class FileFault(Fault):
    """The local file cannot be sent as it was queued."""

    failure = FailureClass.RECORDING


class FileVanished(FileFault):
    """No file is at the recording's path any more."""


class LocalFault(Fault):
    """The disk or mount of the recordings failed: transient, and no word against any provider."""


class SourceMissing(LocalFault):
    """The root of the source is not there: a mount that is gone, never a deleted recording."""


class KeyRefused(FileFault):
    """No legal key can be made for the recording: it is held until the template or name changes."""


class FileChanged(FileFault):
    """The file at the path is not the one that was queued, or changed while it was read."""


class LedgerError(UploaderdError):
    """The ledger cannot be used; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class LedgerFull(LedgerError):
    """Nothing can be written just now (disk full, locked by another): worth trying again."""


class LedgerBroken(LedgerError):
    """The storage under the ledger failed: the process must end, and recover at its next start."""


class LedgerHeld(LedgerError):
    """Another daemon holds the ledger."""


class LedgerTooNew(LedgerError):
    """The ledger was written by a newer version: it is left untouched."""


class NotHeld(LedgerError):
    """The recording cannot be released: nothing holds it, or what does would go on to."""


class StaleTransition(LedgerError):
    """A guarded transition matched no row: somebody else moved it first. A bug, if it is ours."""


class Refused(UploaderdError):
    """Something that a person asked for cannot be done; `hint` says what can.

    `kind` is what the exit code tells: `usage` (an unknown name, a contradiction), `problem`,
    `unavailable` (no provider answers) or `again` (worth another try).
    """

    def __init__(self, message: str, hint: str = "", *, kind: str = "problem") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind = kind
