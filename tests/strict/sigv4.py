"""AWS Signature Version 4, checked as S3 does: header and query signatures, clock, scope, payload hash.

Written from the description of the algorithm (AWS General Reference, "Create a signed AWS API request"; S3
differs from the other services in that the path is encoded once and never normalised).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from tests.strict.wire import RefusalError

MAX_SKEW = 15 * 60
"""Seconds by which a client's clock may differ (S3: RequestTimeTooSkewed)."""
MAX_EXPIRES = 7 * 24 * 3600


@dataclass
class Account:
    """A pair of keys, temporary with a `session_token`. `denied` holds actions such as s3:ListBucket."""

    access_key: str
    secret_key: str
    session_token: str | None = None
    expired: bool = False
    denied: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class SignedRequest:
    """What the signature covers. `headers` has lower-case names; `query` is as it stood on the wire."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class _Claim:
    credential: str
    signed_headers: list[str]
    signature: str
    timestamp: str
    payload: str
    token: str | None


def verify(
    request: SignedRequest, accounts: Mapping[str, Account], region: str, now: float
) -> tuple[Account, str]:
    """The account that signed, and the payload hash that it signed (a hex digest or one of AWS's words).

    Raises RefusalError with S3's status and code for everything that S3 refuses.
    """
    pairs = parse_qsl(request.query, keep_blank_values=True)
    presigned = dict(pairs).get("X-Amz-Algorithm")
    if presigned is not None:
        claim = _from_query(dict(pairs), presigned, now)
    else:
        claim = _from_headers(request.headers)
    account = _account(claim, accounts)
    scope = claim.credential.split("/")[1:]
    if scope[0] != claim.timestamp[:8] or scope[2:] != ["s3", "aws4_request"]:
        raise RefusalError(
            400, "AuthorizationHeaderMalformed", "The credential's scope does not fit the request"
        )
    if scope[1] != region:
        raise RefusalError(
            400,
            "AuthorizationHeaderMalformed",
            f"The authorization header is malformed; the region '{scope[1]}' is wrong; expecting '{region}'",
            Region=region,
        )
    if presigned is None and abs(_seconds(claim.timestamp) - now) > MAX_SKEW:
        raise RefusalError(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
            ServerTime=datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
    _all_signed(request.headers, claim.signed_headers)
    expected = _signature(request, pairs, claim, account.secret_key, scope)
    if not hmac.compare_digest(expected, claim.signature):
        raise RefusalError(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        )
    return account, claim.payload


def _from_headers(headers: Mapping[str, str]) -> _Claim:
    words = headers.get("authorization", "")
    if not words:
        raise RefusalError(403, "AccessDenied", "Anonymous access is not allowed")
    if not words.startswith("AWS4-HMAC-SHA256 "):
        raise RefusalError(
            400, "InvalidRequest", "The authorization mechanism you have provided is not supported."
        )
    fields = dict(
        item.strip().partition("=")[::2] for item in words.removeprefix("AWS4-HMAC-SHA256 ").split(",")
    )
    payload = headers.get("x-amz-content-sha256")
    if payload is None:
        raise RefusalError(
            400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
        )
    if "x-amz-date" not in headers:
        raise RefusalError(
            403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
        )
    try:
        return _Claim(
            fields["Credential"],
            fields["SignedHeaders"].split(";"),
            fields["Signature"],
            headers["x-amz-date"],
            payload,
            headers.get("x-amz-security-token"),
        )
    except KeyError as error:
        raise RefusalError(400, "AuthorizationHeaderMalformed", f"{error} is missing") from error


def _from_query(query: Mapping[str, str], algorithm: str, now: float) -> _Claim:
    try:
        claim = _Claim(
            query["X-Amz-Credential"],
            query["X-Amz-SignedHeaders"].split(";"),
            query["X-Amz-Signature"],
            query["X-Amz-Date"],
            "UNSIGNED-PAYLOAD",
            query.get("X-Amz-Security-Token"),
        )
        expires = int(query["X-Amz-Expires"])
    except (KeyError, ValueError) as error:
        raise RefusalError(
            400, "AuthorizationQueryParametersError", f"bad or missing parameter: {error}"
        ) from error
    if algorithm != "AWS4-HMAC-SHA256" or not 0 < expires <= MAX_EXPIRES:
        raise RefusalError(400, "AuthorizationQueryParametersError", "X-Amz-Expires must be less than a week")
    signed_at = _seconds(claim.timestamp)
    if signed_at - now > MAX_SKEW:
        raise RefusalError(403, "AccessDenied", "Request is not valid yet")
    if now > signed_at + expires:
        raise RefusalError(403, "AccessDenied", "Request has expired")
    return claim


def _account(claim: _Claim, accounts: Mapping[str, Account]) -> Account:
    if len(claim.credential.split("/")) != 5:
        raise RefusalError(400, "AuthorizationHeaderMalformed", "The credential is malformed")
    account = accounts.get(claim.credential.split("/")[0])
    if account is None:
        raise RefusalError(
            403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
        )
    if account.expired:
        raise RefusalError(400, "ExpiredToken", "The provided token has expired.")
    if claim.token != account.session_token:
        raise RefusalError(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
    return account


def _all_signed(headers: Mapping[str, str], signed: list[str]) -> None:
    unsigned = [name for name in headers if name.startswith("x-amz-") and name not in signed]
    if unsigned or "host" not in signed:
        raise RefusalError(
            403,
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(unsigned),
        )


def _signature(
    request: SignedRequest, pairs: list[tuple[str, str]], claim: _Claim, secret: str, scope: list[str]
) -> str:
    path = quote(unquote_to_bytes(request.path), safe="/-_.~")
    query = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in pairs
        if name != "X-Amz-Signature"
    )
    canonical = "\n".join(
        [
            request.method,
            path,
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in claim.signed_headers),
            "",
            ";".join(claim.signed_headers),
            claim.payload,
        ]
    )
    to_sign = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            claim.timestamp,
            "/".join(scope),
            hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest(),
        ]
    )
    key = b"AWS4" + secret.encode()
    for word in scope:
        key = hmac.digest(key, word.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def _seconds(timestamp: str) -> float:
    try:
        return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise RefusalError(
            403, "AccessDenied", "x-amz-date is not a date of the form 20130524T000000Z"
        ) from error
