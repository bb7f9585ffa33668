"""Azure Storage's SharedKey and SAS signatures, checked from their published descriptions ("Authorize with
Shared Key", "Create a service SAS", "Create an account SAS", "Create a user delegation SAS")."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote

from tests.strict.wire import RefusalError

MAX_SKEW: Final = 15 * 60
_STANDARD: Final = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


@dataclass
class StorageAccount:
    """An account with its base64 key. `tokens` are the bearer tokens that it takes; `denied` maps a principal
    ("key", "sas" or a token) to operations that it may not do."""

    name: str
    key: str
    tokens: set[str] = field(default_factory=set)
    denied: dict[str, set[str]] = field(default_factory=dict)
    delegation_keys: dict[str, str] = field(default_factory=dict)  # signed oid -> base64 key

    def sign(self, text: str, key: str = "") -> str:
        return base64.b64encode(
            hmac.digest(base64.b64decode(key or self.key), text.encode(), "sha256")
        ).decode()


def failed(detail: str) -> RefusalError:
    return RefusalError(
        403,
        "AuthenticationFailed",
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed "
        f"correctly including the signature.\n{detail}",
    )


def verify_shared_key(
    account: StorageAccount,
    *,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    now: float,
) -> None:
    """`path` as on the wire, `query` decoded, `headers` by lower-case name. Raises RefusalError 403."""
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    name, _, signature = credential.partition(":")
    if scheme != "SharedKey" or name != account.name:
        raise failed(f"This is not a SharedKey of the account {account.name}")
    date = headers.get("x-ms-date") or headers.get("date", "")
    try:
        at = parsedate_to_datetime(date).timestamp()
    except ValueError as error:
        raise failed(f"The Date header is missing or malformed: {date!r}") from error
    if abs(at - now) > MAX_SKEW:
        raise failed(f"Request date header too old: '{date}'")
    values = {name: headers.get(name, "") for name in _STANDARD}
    if values["content-length"] == "0":
        values["content-length"] = ""
    if "x-ms-date" in headers:
        values["date"] = ""
    ours = sorted((name for name in headers if name.startswith("x-ms-")), key=_collation)
    text = "\n".join(
        [
            method,
            *values.values(),
            *(f"{name}:{' '.join(headers[name].split())}" for name in ours),
            f"/{account.name}{path}",
            *(f"{name}:{value}" for name, value in sorted((n.lower(), v) for n, v in query.items())),
        ]
    )
    if not hmac.compare_digest(account.sign(text), signature):
        raise failed("The MAC signature found in the HTTP request is not the same as any computed signature.")


def _collation(name: str) -> tuple[str, str]:
    # The service sorts as .NET's invariant culture does: a hyphen weighs nothing until all else is equal
    # (then it comes last), "_" is before digits, digits before letters. The vendor's own client imitates it.
    return name.replace("-", "").replace("_", " "), name.replace("-", "~")


@dataclass(frozen=True)
class Wanted:
    """What a request needs: any of `permissions`; on a `level` of "service", "container" or "object"."""

    permissions: str
    level: str


def verify_sas(
    account: StorageAccount,
    query: Mapping[str, str],
    *,
    container: str,
    blob: str,
    wanted: Wanted,
    now: float,
) -> None:
    """Raises RefusalError: AuthenticationFailed, AuthorizationPermissionMismatch or -ResourceTypeMismatch."""
    if "ss" in query:
        text, key = _account_sas_text(account, query, wanted), account.key
    elif "skoid" in query:
        key = account.delegation_keys.get(query["skoid"], "")
        if not key:
            raise failed("The user delegation key is not known")
        text = _service_sas_text(account, query, container, blob)
    else:
        text, key = _service_sas_text(account, query, container, blob), account.key
    if not hmac.compare_digest(account.sign(text, key), query.get("sig", "")):
        raise failed("Signature did not match.")
    start, expiry = query.get("st"), query.get("se")
    if expiry is None or _instant(expiry) <= now:
        raise failed(f"Signature not valid in the specified time frame: expiry {expiry}")
    if start is not None and _instant(start) > now:
        raise failed(f"Signature not valid in the specified time frame: start {start}")
    if not set(wanted.permissions) & set(query.get("sp", "")):
        raise RefusalError(
            403, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation"
        )


def _account_sas_text(account: StorageAccount, query: Mapping[str, str], wanted: Wanted) -> str:
    if "b" not in query["ss"] or wanted.level[0] not in query.get("srt", ""):
        raise RefusalError(
            403, "AuthorizationResourceTypeMismatch", "This request is not authorized for this resource"
        )
    names = ("sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses")
    return "\n".join([account.name, *(query.get(name, "") for name in names), ""])


def _service_sas_text(account: StorageAccount, query: Mapping[str, str], container: str, blob: str) -> str:
    kind = query.get("sr")
    if kind not in ("b", "c") or (kind == "b" and not blob):
        raise failed(f"sr={kind} does not cover this resource")
    resource = f"/blob/{account.name}/{container}" + (f"/{blob}" if kind == "b" else "")
    delegated = "skoid" in query
    names = ["sp", "st", "se"]
    values = [query.get(name, "") for name in names] + [resource]
    if delegated:
        names = ["skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid", "skdutid", "sduoid"]
    else:
        names = ["si"]
    names += ["sip", "spr", "sv", "sr", "snapshot", "ses"]
    values += [query.get(name, "") for name in names]
    if delegated:
        values += ["", ""]  # signed request headers and query parameters: none
    values += [query.get(name, "") for name in ("rscc", "rscd", "rsce", "rscl", "rsct")]
    # One newline is taken off the end, so an empty last value leaves the one before it in place.
    return "\n".join(values)


def _instant(text: str) -> float:
    try:
        at = datetime.fromisoformat(unquote(text))
    except ValueError as error:
        raise failed(f"not a time: {text}") from error
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
