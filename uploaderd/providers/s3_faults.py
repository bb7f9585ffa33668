"""What S3 and the way to it answer when something is wrong, in this program's terms.

Decided by error code, else by HTTP status, never by message text. Codes: "Error responses" of the S3
API reference; those with an X are compatible stores' own. HEAD has no body: its code is its status.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from botocore import exceptions as boto

from uploaderd.errors import Corrupted, Fault, FileFault, KeyRefused, KeyTaken, SessionGone
from uploaderd.logs import mask
from uploaderd.model import FailureClass
from uploaderd.providers import remedies
from uploaderd.providers.s3_body import Sending
from uploaderd.retry import asked_for

SPOKEN: Final = (boto.ClientError, boto.BotoCoreError, aiohttp.ClientError, OSError, TimeoutError)
"""What aiobotocore and what lies below it may raise; anything else is a bug and passes unclassified."""

UNKNOWN_HEADER: Final = frozenset(
    {
        "NotImplemented",
        "XNotImplemented",
        "InvalidRequest",
        "InvalidArgument",
        "InvalidHeader",
        "MalformedHeader",
    }
)
"""How stores refuse a request for a header that they do not know (R2, B2, Ceph, MinIO, Swift: 400 or 501)."""

_LOGIN: Final = "check the login of {table}, {login}; it is tried again by itself"
_NO_KEYS: Final = (
    "give {table} access_key_id and secret_access_key, or profile; or the daemon AWS_ACCESS_KEY_ID and"
    " AWS_SECRET_ACCESS_KEY, or this machine a role"
)
_ALLOW: Final = (
    "let this login ({login}) do {action} in the bucket {bucket!r}, in its own policy and the bucket's"
    " (docs/providers.md has the smallest)"
)
_CLOCK: Final = "set this machine's clock (NTP); S3 allows 15 minutes"
_FULL: Final = "free space, or raise the quota of the bucket {bucket!r}"
_KMS: Final = "check {table} kms_key_id, the key's state, and that its policy lets this login use it"

_PROVIDER: Final[Mapping[str, str]] = {
    "NoSuchBucket": "create the bucket {bucket!r} or correct {table} bucket",
    "InvalidBucketName": "correct {table} bucket",
    "AccessDenied": _ALLOW,
    "AllAccessDisabled": "ask the bucket's owner: S3 has disabled access to it",
    "AccountProblem": "the account behind this login has a problem: see its console or its support",
    "NotSignedUp": "sign the account up for S3",
    "InvalidAccessKeyId": "no such key id (any more): renew the login of {table}, {login}",
    "SignatureDoesNotMatch": "the secret does not fit the key id: correct the login of {table}, {login}",
    "InvalidToken": _LOGIN,
    "InvalidSecurity": _LOGIN,
    "InvalidClientTokenId": _LOGIN,
    "UnrecognizedClientException": _LOGIN,
    "ExpiredToken": "the temporary login ended: renew it, or let {table} use one that renews itself (a role)",
    "ExpiredTokenException": "the temporary login ended: renew it",
    "TokenRefreshRequired": "the temporary login ended: renew it",
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "AuthorizationHeaderMalformed": "set {table} region to the bucket's region{there}",
    "PermanentRedirect": "set {table} region to the bucket's region{there}",
    "IllegalLocationConstraintException": "set {table} region to the bucket's region{there}",
    "QuotaExceeded": _FULL,
    "XMinioAdminBucketQuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "InsufficientStorage": _FULL,
    "InvalidStorageClass": "correct {table} storage_class",
    "InvalidTag": "correct {table} tags: at most 10, names of 128 and values of 256 characters",
    "MetadataTooLarge": "shorten the source's metadata: S3 takes 2 KB in all",
    "InvalidEncryptionAlgorithmError": "correct {table} sse",
    "ServerSideEncryptionConfigurationNotFoundError": "correct {table} sse",
    "EntityTooSmall": "raise {table} part_size: this store wants larger parts",
    "BucketMissingObjectLockConfiguration": "turn object lock on for the bucket {bucket!r}",
}
"""A person must act; the hint says how."""

_ACTIONS: Final[Mapping[str, str]] = {
    "HeadObject": "s3:GetObject and s3:ListBucket",
    "GetObject": "s3:GetObject",
    "HeadBucket": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject",
    "ListParts": "s3:ListMultipartUploadParts",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
}
"""What an operation needs, as policies call it; every other one: `Place.writing`."""

_BY_STATUS: Final[Mapping[int, str]] = {
    301: _PROVIDER["PermanentRedirect"],
    307: _PROVIDER["PermanentRedirect"],
    401: _LOGIN,
    403: _PROVIDER["AccessDenied"],
    407: "correct the login in {table} proxy",
    507: _FULL,
}

_MAKING: Final = ("PutObject", "CreateMultipartUpload")
_PASSING: Final = frozenset(
    {
        "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling",
        "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "OperationAborted",
        "BandwidthLimitExceeded", "IncompleteBody", "KMS.ThrottlingException",
        "ConditionalRequestConflict", "InvalidPart", "InvalidPartOrder", "NoSuchKey",
    }
)  # fmt: skip
"""Gone by the next try. InvalidPart: what the session holds is asked for again then."""

_DAMAGED: Final = frozenset(
    {"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "InvalidDigest"}
)
_KEY: Final = frozenset(
    {"KeyTooLongError", "KeyTooLong", "InvalidURI", "InvalidObjectName", "XMinioInvalidObjectName"}
)

_NO_LOGIN: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    boto.ProfileNotFound,
    boto.ConfigParseError,
    boto.ConfigNotFound,
    boto.TokenRetrievalError,
    boto.NoAuthTokenError,
    boto.SSOError,
    boto.LoginError,
    boto.RefreshWithMFAUnsupportedError,
    boto.UnknownCredentialError,
    boto.InfiniteLoopConfigError,
)
_MISCONFIGURED: Final = (
    boto.ParamValidationError,
    boto.ValidationError,
    boto.NoRegionError,
    boto.InvalidRegionError,
    boto.InvalidProxiesConfigError,
    boto.EndpointProviderError,
    boto.UnsupportedS3ConfigurationError,
)
_BROKEN: Final = (
    boto.IncompleteReadError,
    boto.HTTPClientError,
    boto.ConnectionError,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
)

_LONG: Final = 600.0
"""Seconds after which RequestTimeTooSkewed means a slow part, not a wrong clock (S3 allows 900)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the calls go, for messages and hints. Nothing in it is a secret.

    `locks`: objects are made with an object lock. `writing`: what a write needs with these settings, as
    policies call it; S3 refuses each of them with one and the same AccessDenied.
    """

    name: str
    bucket: str
    target: str
    region: str
    locks: bool = False
    writing: str = "s3:PutObject"

    @property
    def table(self) -> str:
        return f"[providers.{self.name}]"


@contextmanager
def classified(place: Place, login: object, act: str, sending: Sending | None = None) -> Iterator[None]:
    """Faults instead of the library's exceptions; what reading the file raised goes before both.

    Args:
        place: where.
        login: which login; `str` of it is for people.
        act: what is tried and where ("sending part 3 of 'cam1/a.mp4' to s3://recordings").
        sending: the body that is sent meanwhile.
    """
    started = time.monotonic()
    try:
        yield
    except SPOKEN as error:
        if sending is not None and sending.failure is not None:
            raise sending.failure from None
        raise fault_of(error, place, str(login), act, time.monotonic() - started) from error


def fault_of(error: Exception, place: Place, login: str, act: str, seconds: float = 0.0) -> Fault:
    """The fault that an exception of the library means.

    Args:
        error: one of `SPOKEN`.
        place: where.
        login: which login, for people.
        act: what was tried and where ("sending part 3 of 'cam1/a.mp4' to s3://recordings").
        seconds: for how long.
    """
    if isinstance(error, boto.ClientError):
        return _answered(error, place, login, act, seconds)
    return _unanswered(error, place, login, act)


def code_of(error: boto.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: boto.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def unknown_header(error: boto.ClientError) -> bool:
    """Whether the store may have refused because it does not know a header of the request."""
    return status_of(error) == 501 or (status_of(error) == 400 and code_of(error) in UNKNOWN_HEADER)


def _answered(error: boto.ClientError, place: Place, login: str, act: str, seconds: float) -> Fault:
    code, status = code_of(error), status_of(error)
    about = error.response.get("ResponseMetadata", {})
    headers = about.get("HTTPHeaders", {})
    told: dict[str, Any] = {
        "code": code,
        "http_status": status or None,
        "request_id": about.get("RequestId") or headers.get("x-amz-request-id") or about.get("HostId"),
        "retry_after": asked_for(headers.get("retry-after")),
    }
    reason = mask(str(error.response.get("Error", {}).get("Message", "")))
    message = f"{act}: {code or 'an error'} (HTTP {status})" + (f", {reason}" if reason else "")

    if str(error.operation_name).startswith("AssumeRole") and status < 500 and code not in _PASSING:
        hint = f"let the login assume the role: {place.table} assume_role_arn, the role's trust policy"
        return Fault(message, failure=FailureClass.PROVIDER, hint=hint, **told)
    if place.locks and code == "InvalidRequest" and error.operation_name in _MAKING:
        # S3 has no code of its own for it ("Bucket is missing Object Lock Configuration").
        hint = f"turn object lock on for the bucket {place.bucket!r}, or take it out of {place.table}"
        return Fault(message, failure=FailureClass.PROVIDER, hint=hint, **told)
    if code == "NoSuchUpload":
        return SessionGone(message, **told)
    if code in _DAMAGED:
        return Corrupted(message, **told)
    if code == "PreconditionFailed" or status == 412:
        return KeyTaken(f"{act}: another object is at the key", code=code)
    if code in _KEY:
        return KeyRefused(message, hint="change the source's `key` template or the file's name", **told)
    if code == "EntityTooLarge":
        return FileFault(message, hint="this store takes no object of that size", **told)
    if code == "RequestTimeTooSkewed" and seconds > _LONG:
        return Fault(message, hint="the part took too long to send; smaller parts will follow", **told)
    if code in _PASSING:
        return Fault(message, **told)
    known = _PROVIDER.get(code) or (_KMS if code.startswith("KMS.") else None) or _BY_STATUS.get(status)
    if known is not None:
        if code in ("RequestTimeTooSkewed", "RequestExpired"):
            known = remedies.clock(headers.get("date")) or known
        region = error.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region")
        hint = known.format(
            table=place.table,
            bucket=place.bucket,
            login=login,
            action=_ACTIONS.get(error.operation_name, place.writing),
            there=f", {region!r}" if region else "",
        )
        return Fault(message, failure=FailureClass.PROVIDER, hint=hint, **told)
    return Fault(message, recognised=status >= 500 or status in (408, 409, 429), **told)


def _unanswered(error: Exception, place: Place, login: str, act: str) -> Fault:
    kind = type(error).__name__
    if isinstance(error, _NO_LOGIN):
        return Fault(
            f"{act}: no usable login ({kind}: {mask(str(error))})",
            failure=FailureClass.PROVIDER,
            code=kind,
            hint=(_NO_KEYS if isinstance(error, boto.NoCredentialsError) else _LOGIN).format(
                table=place.table, login=login
            ),
        )
    if isinstance(error, _MISCONFIGURED):
        return Fault(
            f"{act}: {mask(' '.join(str(error).split()))}",
            failure=FailureClass.PROVIDER,
            code=kind,
            hint=f"correct {place.table}",
        )
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Fault(
                f"{act}: the server's certificate is not trusted{_why(cause)}",
                failure=FailureClass.PROVIDER,
                code="CERTIFICATE_VERIFY_FAILED",
                hint=f"renew the server's certificate, or name its authority in {place.table} ca_file",
            )
        if isinstance(cause, FileNotFoundError | PermissionError | IsADirectoryError):
            # OpenSSL does not name the file that it was given, and it is given the one.
            of_login = cause.filename is not None
            which = f"the login's file {os.fsdecode(cause.filename)}" if of_login else "ca_file"
            correct = f"the login of {place.table}, {login}," if of_login else f"{place.table} ca_file"
            return Fault(
                f"{act}: {which} cannot be read ({cause.strerror})",
                failure=FailureClass.PROVIDER,
                code=kind,
                hint=f"correct {correct} or that file's permissions",
            )
        if isinstance(cause, aiohttp.ClientHttpProxyError) and cause.status in (401, 403, 407):
            return Fault(
                f"{act}: the proxy refused (HTTP {cause.status})",
                failure=FailureClass.PROVIDER,
                code="ProxyRefused",
                hint=_BY_STATUS[407].format(table=place.table),
                http_status=cause.status,
            )
    causes = [cause for cause in _chain(error) if isinstance(cause, OSError) and cause.strerror]
    why = causes[-1].strerror if causes else kind
    hint = remedies.network(_chain(error), place.table)
    return Fault(f"{act}: {why} ({kind})", code=kind, hint=hint, recognised=isinstance(error, _BROKEN))


def _why(error: ssl.SSLCertVerificationError) -> str:
    # aiohttp's own error is one of these too, and lacks what OpenSSL said.
    said = [cause.verify_message for cause in _chain(error) if hasattr(cause, "verify_message")]
    return f" ({said[-1]})" if said else ""


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
        # botocore keeps the library's error in its arguments, aiohttp the system's in `os_error`.
        inner = getattr(current, "kwargs", {}).get("error")
        causes = (inner, getattr(current, "os_error", None), current.__cause__, current.__context__)
        pending += [cause for cause in causes if isinstance(cause, BaseException)]
