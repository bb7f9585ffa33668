"""Failures of Azure Blob Storage, classified once: by `x-ms-error-code` and status, never by text.

Codes are those of "Common REST API error codes" and "Blob Storage error codes" in its reference.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestTimeoutError,
    ServiceResponseTimeoutError,
)

from uploaderd.errors import CannotLook, Corrupted, Fault, FileFault, KeyRefused, KeyTaken, SessionGone
from uploaderd.model import FailureClass
from uploaderd.providers import remedies
from uploaderd.retry import asked_for

BLOB_NOT_FOUND: Final = "BlobNotFound"

RAISED: Final = (aiohttp.ClientError, OSError)
"""What comes out of the library beside its own AzureError; timeouts are OSErrors."""

_NO_CONTAINER: Final = {"ContainerNotFound", "ResourceNotFound", "ContainerBeingDeleted", "ContainerDisabled"}
_TAKEN: Final = {
    "BlobAlreadyExists",
    "BlobImmutableDueToPolicy",
    "ConditionNotMet",
    "InvalidBlobType",
    "LeaseIdMissing",
    "TargetConditionNotMet",
    "UnauthorizedBlobOverwrite",  # a SAS that may create but not write met an existing blob
}
_DAMAGED: Final = {
    "Crc64Mismatch",
    "Md5Mismatch",
    "InvalidOperation",  # Azurite's word for Md5Mismatch; Azure's for a write to a snapshot: never ours
}
_BAD_KEY: Final = {"InvalidResourceName", "InvalidUri", "OutOfRangeInput", "RequestUrlFailedToParse"}
_BAD_METADATA: Final = {"EmptyMetadataKey", "InvalidMetadata", "MetadataTooLarge"}
_BAD_TIER: Final = {
    "BlobAccessTierNotSupportedForAccountType",
    "BlobTierInadequateForContentLength",
    "InvalidBlobTier",
}
_BUSY: Final = {
    "AccountBeingCreated",
    "InternalError",
    "OperationTimedOut",
    "PendingCopyOperation",
    "ServerBusy",
    "SystemInUse",
}
_NO_LOGIN: Final = {
    "AccountIsDisabled",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
    "KeyBasedAuthenticationNotPermitted",
    "NoAuthenticationInformation",
}
"""The login is good for nothing, whatever was asked."""
_OTHER_REFUSALS: Final = {"AccountRequiresHttps", "InvalidAuthenticationInfo", "PublicAccessNotPermitted"}
"""Refusals whose status is neither 401 nor 403."""


_FIREWALL: Final = {"AuthorizationFailure", "AuthorizationSourceIPMismatch", "PublicAccessNotPermitted"}
_READING: Final = "grant the role Storage Blob Data Contributor, or the SAS permission r"
_NEEDED: Final = {
    "deleting": "grant the role Storage Blob Data Contributor, or the SAS permission d",
    "signing": "grant the role Storage Blob Delegator on the account (an account key needs none)",
    "looking": _READING,
    "reading": _READING,
}
"""What a refused act needs, by its first word."""
_WRITING: Final = "grant the role Storage Blob Data Contributor, or the SAS permissions r, c and w"
_TAGGING: Final = (
    "grant the role Storage Blob Data Owner, or the SAS permissions r, c, w and t (tags need more)"
)


@dataclass(frozen=True, slots=True)
class Where:
    """What people need to find the place again: the provider's name, and what its table says.

    `sas_expiry` is the end of a configured SAS, where it tells one. `tags`: blobs are written with index
    tags, which the usual role does not permit.
    """

    provider: str
    account: str
    container: str
    login: str
    sas_expiry: datetime | None = None
    tags: bool = False


def fault_of(error: BaseException, doing: str, where: Where) -> Fault:
    """The fault that an exception of azure-core, azure-identity or aiohttp stands for.

    `doing` is what was tried, with its object ("storing 'cam1/a.mp4'").
    """
    if isinstance(error, ClientAuthenticationError) and not _is_reply_of_storage(error):
        return _no_token(error, doing, where)
    if isinstance(error, HttpResponseError) and error.response is not None:
        return _refusal(error, doing, where)
    return _unreachable(error, doing, where)


def cannot_look(fault: Fault) -> bool:
    """Whether a refused read says only that these credentials may not read."""
    return fault.http_status == 403 and fault.code not in _NO_LOGIN


def as_cannot_look(fault: Fault) -> CannotLook:
    return CannotLook(
        fault.message,
        code=fault.code,
        hint="let the login read blobs too (SAS permission r, role Storage Blob Data Contributor)",
        http_status=fault.http_status,
        request_id=fault.request_id,
    )


def _is_reply_of_storage(error: ClientAuthenticationError) -> bool:
    headers = _headers_of(error)
    return "x-ms-error-code" in headers or "x-ms-version" in headers


def _headers_of(error: HttpResponseError) -> Mapping[str, str]:
    response: Any = error.response  # the library's type of it names no headers, though all have them
    return {} if response is None else response.headers


def _refusal(error: HttpResponseError, doing: str, where: Where) -> Fault:
    """A reply of the service that is not a success."""
    headers = _headers_of(error)
    status = error.status_code or 0
    code = headers.get("x-ms-error-code") or f"HTTP {status}"
    message = f"{doing} failed: {code}" + ("" if code.startswith("HTTP") else f" (HTTP {status})")
    more: dict[str, Any] = {
        "code": code,
        "http_status": status,
        "request_id": headers.get("x-ms-request-id"),
        "retry_after": asked_for(headers.get("Retry-After")),
    }
    table = f"[providers.{where.provider}]"
    if code in _TAKEN or (status in (409, 412) and code.startswith("HTTP")):
        taken = KeyTaken(message, code=code)
        taken.http_status, taken.request_id = status, more["request_id"]
        return taken
    if code in _DAMAGED:
        return Corrupted(message, **more)
    if code == "InvalidBlockList":
        return SessionGone(message, **more)
    if code == BLOB_NOT_FOUND:
        return Fault(message, **more)
    if code in _NO_CONTAINER:
        hint = (
            f"create the container {where.container!r} in the account {where.account!r},"
            f" or correct {table} container"
        )
        return _paused(message, hint, more)
    if code in _BAD_KEY:
        return KeyRefused(message, hint="change the source's `key` or the provider's `prefix`", **more)
    if code in _BAD_METADATA:
        return FileFault(message, hint="change the source's `metadata` (8 KiB in all)", **more)
    if code in _BAD_TIER:
        return _paused(message, f"correct {table} tier: the account does not take it", more)
    if code == "InvalidBlobOrBlock":
        hint = "blocks that another tool staged at this key are in the way; they expire within a week"
        return Fault(message, hint=hint, **more)
    if status in (401, 403) or code in _OTHER_REFUSALS or code in _NO_LOGIN:
        return _paused(message, _login_hint(code, doing, headers, where), more)
    known = code in _BUSY or status in (408, 429) or status >= 500
    return Fault(message, recognised=known, **more)


def _paused(message: str, hint: str, more: dict[str, Any]) -> Fault:
    return Fault(message, failure=FailureClass.PROVIDER, hint=hint, **more)


def _login_hint(code: str, doing: str, headers: Mapping[str, str], where: Where) -> str:
    now = datetime.now(UTC)
    table = f"[providers.{where.provider}]"
    if where.sas_expiry is not None and where.sas_expiry <= now:
        return f"the SAS expired at {where.sas_expiry:%Y-%m-%d %H:%M} UTC; put a new one into {table}"
    if off := remedies.clock(headers.get("Date")):
        return off
    if code in _NO_LOGIN:
        return f"the {where.login} is not accepted by the account {where.account!r}; correct {table}"
    if code in _FIREWALL:
        return (
            f"let this machine's address through the firewall of the account {where.account!r} (Networking),"
            f" and the {where.login} into the container {where.container!r}"
        )
    needed = _NEEDED.get(doing.partition(" ")[0], _TAGGING if where.tags else _WRITING)
    return f"let the {where.login} do that in the container {where.container!r}: {needed}"


def _no_token(error: ClientAuthenticationError, doing: str, where: Where) -> Fault:
    """The login itself failed: no token could be had, or the key could not sign."""
    status = error.response.status_code if error.response is not None else None
    code = type(error).__name__
    message = f"{doing} failed: no login by {where.login} ({code})"
    if status is not None and (status == 429 or status >= 500):
        retry_after = asked_for(_headers_of(error).get("Retry-After"))
        return Fault(message, code=code, http_status=status, retry_after=retry_after)
    table = f"[providers.{where.provider}]"
    hint = f"check the {where.login} in {table}"
    if "identity" in where.login:
        hint = f"give this machine or pod a {where.login}, or put another login into {table}"
    return Fault(message, failure=FailureClass.PROVIDER, code=code, hint=hint, http_status=status)


def _unreachable(error: BaseException, doing: str, where: Where) -> Fault:
    """No reply, or none that is one."""
    table = f"[providers.{where.provider}]"
    for cause in _causes(error):
        if isinstance(cause, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
            return Fault(
                f"{doing} failed: the TLS certificate or handshake was refused ({_said_of_tls(cause)})",
                failure=FailureClass.PROVIDER,
                code="TLS",
                hint=f"check endpoint_url and ca_file in {table}, and the clock",
            )
        if isinstance(cause, aiohttp.ClientHttpProxyError) and cause.status == 407:
            return Fault(
                f"{doing} failed: the proxy wants a login",
                failure=FailureClass.PROVIDER,
                code="ProxyAuthenticationRequired",
                hint=f"put user and password into {table} proxy",
                http_status=407,
            )
        if isinstance(cause, aiohttp.ClientConnectorDNSError):
            hint = remedies.network((cause,), table, "account or endpoint_url")
            return Fault(
                f"{doing} failed: the host's name is not known ({cause.host})", code="DNS", hint=hint
            )
        if isinstance(cause, ServiceRequestTimeoutError | ServiceResponseTimeoutError | TimeoutError):
            return Fault(f"{doing} failed: no answer in time", code="Timeout")
        if isinstance(cause, OSError) and (code := errno.errorcode.get(cause.errno or 0, "")):
            hint = remedies.network((cause,), table)
            return Fault(f"{doing} failed: the connection failed ({code})", code=code, hint=hint)
        if isinstance(cause, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
            return Fault(f"{doing} failed: the connection broke", code=type(cause).__name__)
    code = type(error).__name__
    return Fault(f"{doing} failed: {code}", code=code, recognised=False)


def _said_of_tls(error: BaseException) -> str:
    """OpenSSL's own words; aiohttp's would bring the address along."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, aiohttp.ClientError):
            return getattr(cause, "verify_message", "") or cause.reason or type(cause).__name__
    return type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
