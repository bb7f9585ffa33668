"""What Google Cloud Storage and the way to it answer when something is wrong, in this program's terms.

Decided by HTTP status and by `error.errors[0].reason` of the reply ("HTTP status and error codes for
JSON" of the reference), never by message text. The text of aiohttp's exceptions is never used: it can
hold the address of a request, and a session's address is a bearer secret.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import aiohttp

from uploaderd.errors import Fault, FileFault, KeyTaken, SessionGone
from uploaderd.logs import mask
from uploaderd.model import FailureClass
from uploaderd.providers import remedies
from uploaderd.retry import asked_for

SPOKEN: Final = (aiohttp.ClientError, OSError, TimeoutError)
"""What aiohttp and what lies below it may raise; anything else is a bug and passes unclassified."""

_LOGIN: Final = "check the login of {table} ({login}), and this machine's clock; it is tried again by itself"
_ALLOW: Final = (
    "grant this login ({login}) roles/storage.objectUser on the bucket {bucket!r}; where it may neither look"
    " nor replace, roles/storage.objectCreator"
)
_ALLOW_KEY: Final = (
    "; and the project's Cloud Storage service agent, not this login,"
    " roles/cloudkms.cryptoKeyEncrypterDecrypter on {table} kms_key_name"
)
_SETTINGS: Final = (
    "correct {table} storage_class or kms_key_name, or shorten the source's metadata (8 KiB in all)"
)
_QUOTA: Final = "raise the quota of the project that owns the bucket {bucket!r}"
_PROJECT: Final = "turn billing on for the project that owns the bucket {bucket!r}"

_REASONS: Final[Mapping[str, str]] = {
    "accessNotConfigured": "enable the Cloud Storage JSON API in the project that owns the bucket {bucket!r}",
    "accountDisabled": _PROJECT,
    "billingNotEnabled": _PROJECT,
    "dailyLimitExceeded": _QUOTA,
    "quotaExceeded": _QUOTA,
    "userProjectMissing": "turn requester-pays off for the bucket {bucket!r}",
}
"""A person must act; the hint says how."""

_STATUSES: Final[Mapping[int, str]] = {
    400: _SETTINGS,
    401: _LOGIN,
    403: _ALLOW,
    404: "create the bucket {bucket!r} or correct {table} bucket",
    407: "correct the login in {table} proxy",
}

_CAUSES: Final = ("certificate_error", "os_error", "__cause__", "__context__")
"""Where an exception keeps what led to it; the first two are aiohttp's."""

_PASSING: Final = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "backendError", "internalError"})
_PROTECTED: Final = frozenset({"retentionPolicyNotMet", "objectUnderActiveHold"})
"""The object at the key may not be replaced yet: as good as another object at the key."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the calls go, for messages and hints. Nothing in it is a secret.

    `encrypts`: objects are written with a key of the customer's, whose refusal is a 403 like any other.
    """

    name: str
    bucket: str
    target: str
    encrypts: bool = False

    @property
    def table(self) -> str:
        return f"[providers.{self.name}]"


@dataclass(frozen=True)
class Answer:
    """A reply, whole. `in_session`: its request went to a session's address."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    in_session: bool = False

    @cached_property
    def json(self) -> Mapping[str, Any]:
        """The body's JSON object; empty where there is none (emulators send errors without one)."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def reason(self) -> str:
        error = self.json.get("error")
        errors = error.get("errors") if isinstance(error, dict) else None
        first = errors[0] if isinstance(errors, list) and errors else None
        return str(first.get("reason", "")) if isinstance(first, dict) else ""

    @property
    def message(self) -> str:
        error = self.json.get("error")
        return mask(str(error.get("message", ""))) if isinstance(error, dict) else ""

    def told(self) -> dict[str, Any]:
        """What every fault made of this reply carries."""
        # Of a resumable upload this header repeats the session's id: who has it can write there.
        request_id = None if self.in_session else self.headers.get("x-guploader-uploadid")
        return {
            "code": self.reason,
            "http_status": self.status,
            "request_id": request_id,
            "retry_after": asked_for(self.headers.get("retry-after")),
        }


def answered(answer: Answer, place: Place, login: str, act: str) -> Fault:
    """The fault that a reply means. `act`: what was tried ("sending part 3 of 'cam1/a.mp4'")."""
    status, reason, told = answer.status, answer.reason, answer.told()
    where = "" if answer.in_session else f" in {place.target}"
    message = f"{act}{where}: HTTP {status}" + "".join(
        f", {text}" for text in (reason, answer.message) if text
    )
    if answer.in_session and status in (404, 410):
        return SessionGone(message, **told)
    if status == 412 or reason in _PROTECTED:
        return KeyTaken(f"{act}: another object is at the key", code=reason or "412")
    if status == 413:
        return FileFault(message, hint="Cloud Storage takes no object of that size", **told)
    if reason in _PASSING or (answer.in_session and status == 400):
        # 400 at a session: offset or size are not what it expects. What it holds is asked for again.
        return Fault(message, **told)
    hint = _REASONS.get(reason) or _STATUSES.get(status)
    if hint is not None:
        if hint is _ALLOW and place.encrypts:
            hint += _ALLOW_KEY
        shown = hint.format(table=place.table, bucket=place.bucket, login=login)
        return Fault(message, failure=FailureClass.PROVIDER, hint=shown, **told)
    return Fault(message, recognised=status >= 500 or status in (408, 409, 429), **told)


def unanswered(error: BaseException, place: Place, act: str) -> Fault:
    """The fault that an exception means, one of `SPOKEN`: no reply came, or not the whole of it."""
    kind = type(error).__name__
    for cause in _chain(error):
        # aiohttp's own error of that kind has no `verify_message`; it leads to the one that has.
        if isinstance(cause, ssl.SSLCertVerificationError) and not isinstance(cause, aiohttp.ClientError):
            return Fault(
                f"{act}: the server's certificate is not trusted ({cause.verify_message})",
                failure=FailureClass.PROVIDER,
                code="CERTIFICATE_VERIFY_FAILED",
                hint=f"renew the server's certificate, or name its authority in {place.table} ca_file",
            )
        if isinstance(cause, aiohttp.ClientHttpProxyError):
            refused = cause.status in (401, 403, 407)
            return Fault(
                f"{act}: the proxy answered HTTP {cause.status}",
                failure=FailureClass.PROVIDER if refused else FailureClass.TRANSIENT,
                code="ProxyRefused",
                hint=_STATUSES[407].format(table=place.table) if refused else "",
                http_status=cause.status,
            )
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Fault(
            f"{act}: no TLS connection could be made ({kind})",
            failure=FailureClass.PROVIDER,
            code=kind,
            hint=f"check {place.table} endpoint_url: does the server speak https at that port?",
        )
    broken = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError, TimeoutError)
    hint = remedies.network(_chain(error), place.table)
    return Fault(f"{act}: {_why(error)} ({kind})", code=kind, hint=hint, recognised=isinstance(error, broken))


def _why(error: BaseException) -> str:
    """The system's words for the innermost cause, or what the exception's type says."""
    if isinstance(error, TimeoutError):
        return "no reply in time"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return "the server closed the connection"
    # aiohttp's own OSErrors bring the request's address along; those of the system do not.
    texts = [
        cause.strerror
        for cause in _chain(error)
        if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, aiohttp.ClientError)
    ]
    return texts[-1] if texts else "the connection failed"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, outermost first."""
    seen: set[int] = set()
    pending: list[BaseException] = [error]
    while pending:
        current = pending.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        causes = (getattr(current, name, None) for name in _CAUSES)
        pending += [cause for cause in causes if isinstance(cause, BaseException)]
