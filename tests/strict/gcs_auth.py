"""Who asks at GCS: bearer tokens, the token endpoint of service accounts, V4 signed URLs."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.strict.wire import Clock, RefusalError

SCOPES = frozenset(
    f"https://www.googleapis.com/auth/{name}"
    for name in ("devstorage.read_write", "devstorage.full_control", "cloud-platform")
)


@dataclass
class ServiceAccount:
    """A registered identity. `denied` holds permissions such as "storage.objects.get"."""

    email: str
    key: rsa.RSAPrivateKey
    key_id: str
    denied: set[str] = field(default_factory=set)


@dataclass
class Token:
    account: ServiceAccount
    expires: float


class GcsAuth:
    """Service accounts and the tokens that were given to them. `token_life` is in seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.accounts: dict[str, ServiceAccount] = {}
        self.tokens: dict[str, Token] = {}
        self.token_life = 3600

    def add_account(self, email: str = "recorder@strict.iam.gserviceaccount.com") -> ServiceAccount:
        """Registers a service account with a fresh key (once per address)."""
        if email not in self.accounts:
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            self.accounts[email] = ServiceAccount(email, key, secrets.token_hex(20))
        return self.accounts[email]

    def credentials(self, token_uri: str, account: ServiceAccount | None = None) -> dict[str, Any]:
        """A key file's content, as `gcloud iam service-accounts keys create` writes it."""
        account = account or self.add_account()
        pem = account.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        return {
            "type": "service_account",
            "project_id": "strict",
            "private_key_id": account.key_id,
            "private_key": pem,
            "client_email": account.email,
            "client_id": "100000000000000000001",
            "token_uri": token_uri,
        }

    def write_credentials(self, path: Path, token_uri: str) -> Path:
        path.write_text(json.dumps(self.credentials(token_uri)))
        path.chmod(0o600)
        return path

    def issue(self, account: ServiceAccount | None = None) -> str:
        """A bearer token without the detour over the token endpoint."""
        token = f"strict.{secrets.token_urlsafe(32)}"
        self.tokens[token] = Token(account or self.add_account(), self._clock.now() + self.token_life)
        return token

    def revoke_all(self) -> None:
        self.tokens.clear()

    def grant(self, form: Mapping[str, str], audience: str) -> dict[str, Any]:
        """The token endpoint: RFC 7523. Raises RefusalError 400 invalid_grant."""
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            raise RefusalError(400, "unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}")
        assertion = form.get("assertion", "")
        try:
            email = str(jwt.decode(assertion, options={"verify_signature": False}).get("iss"))
            account = self.accounts.get(email)
            if account is None:
                raise RefusalError(400, "invalid_grant", f"Invalid grant: account not found: {email}")
            claims = jwt.decode(
                assertion,
                account.key.public_key(),
                algorithms=["RS256"],
                audience=audience,
                options={"require": ["exp", "iat", "iss", "aud"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError as error:
            raise RefusalError(400, "invalid_grant", f"Invalid JWT Signature or claims: {error}") from error
        now = self._clock.now()
        if not int(claims["iat"]) - 300 <= now <= int(claims["exp"]) or claims["exp"] - claims["iat"] > 3600:
            raise RefusalError(
                400, "invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)"
            )
        if not SCOPES & set(str(claims.get("scope", "")).split()):
            raise RefusalError(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return {"access_token": self.issue(account), "expires_in": self.token_life, "token_type": "Bearer"}

    def bearer(self, authorization: str) -> ServiceAccount:
        """The account behind an Authorization header. Raises RefusalError 401."""
        if not authorization.startswith("Bearer "):
            raise RefusalError(401, "required", "Anonymous caller does not have storage access.")
        token = self.tokens.get(authorization.removeprefix("Bearer "))
        if token is None or token.expires <= self._clock.now():
            raise RefusalError(
                401,
                "authError",
                "Invalid Credentials",
                headers={"www-authenticate": 'Bearer realm="https://accounts.google.com/"'},
            )
        return token.account

    def signed_url(
        self, method: str, path: str, raw_query: str, headers: Mapping[str, str]
    ) -> ServiceAccount:
        """The account that signed a V4 URL; `path` begins with the bucket.

        The signature may be over this endpoint's host or over the real one, whose name clients build in.
        Raises RefusalError 400 or 403 with GCS' code.
        """
        pairs = parse_qsl(raw_query, keep_blank_values=True)
        query = dict(pairs)
        try:
            credential, date = query["X-Goog-Credential"], query["X-Goog-Date"]
            signed, expires = query["X-Goog-SignedHeaders"].split(";"), int(query["X-Goog-Expires"])
            signature = bytes.fromhex(query["X-Goog-Signature"])
            at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except (KeyError, ValueError) as error:
            raise RefusalError(400, "InvalidArgument", f"Bad signed URL: {error}") from error
        email, _, scope = credential.partition("/")
        account = self.accounts.get(email)
        if account is None or query.get("X-Goog-Algorithm") != "GOOG4-RSA-SHA256" or "host" not in signed:
            raise RefusalError(403, "SignatureDoesNotMatch", "Access denied.")
        if not at - 900 <= self._clock.now() <= at + min(expires, 604800):
            raise RefusalError(400, "ExpiredToken", "The provided token has expired.")
        encoded = sorted(
            (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
            for name, value in pairs
            if name != "X-Goog-Signature"
        )
        canonical_query = "&".join(f"{name}={value}" for name, value in encoded)
        for host in (headers.get("host", ""), "storage.googleapis.com"):
            values = dict(headers) | {"host": host}
            canonical = "\n".join(
                [
                    method,
                    quote(unquote_to_bytes(path), safe="/-_.~"),
                    canonical_query,
                    *(f"{name}:{values.get(name, '').strip()}" for name in signed),
                    "",
                    ";".join(signed),
                    headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD"),
                ]
            )
            digest = hashlib.sha256(canonical.encode()).hexdigest()
            text = f"GOOG4-RSA-SHA256\n{date}\n{scope}\n{digest}".encode()
            try:
                account.key.public_key().verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
            except InvalidSignature:
                continue
            return account
        raise RefusalError(403, "SignatureDoesNotMatch", "Access denied.")
