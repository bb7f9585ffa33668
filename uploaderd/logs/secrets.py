"""Which text is secret, and how it is taken out.

Two nets. The first knows values: each secret of the configuration is registered as it is read, and is
found again in the spellings that URLs, JSON and `repr` give it. The second knows shapes: credentials
that a library made or fetched itself, which nobody can register (temporary keys, signatures, session
URIs), are recognised by the name they stand under or by their form.

The sources of the names: AWS SigV4 headers and query parameters, and the STS and metadata replies that
botocore prints when it debugs; Azure's SharedKey, SAS and connection strings; OAuth 2 (RFC 6749, 7523);
GCS's signed URLs and resumable session URIs, which are bearer secrets for a week.
"""

from __future__ import annotations

import base64
import json
import re
from functools import lru_cache
from threading import Lock
from urllib.parse import quote, quote_plus

MASK = "***"

SHORTEST = 4
"""Characters. A shorter value is not registered: masking it would garble every line, and would tell more
by what it garbles than by what it hides."""

_REMEMBERED = 64
"""Characters. What is no longer, a field's name, a provider, a proof, stands in line after line: it is looked
through once."""

# Names whose value is secret wherever it is written down: headers, query parameters, XML elements, settings.
# A hyphen stands for `-`, `_`, a blank or nothing, and case does not count: one entry, every spelling.
_NAMES = """
    access-token account-key api-key assertion auth-token authorization client-assertion client-secret
    connection-string cookie id-token password private-key refresh-token sas-token secret secret-access-key
    secret-key security-token session-token session-uri set-cookie shared-access-key shared-access-signature
    x-amz-credential x-amz-server-side-encryption-customer-key x-amz-signature x-aws-ec2-metadata-token
    x-copy-source-server-side-encryption-customer-key x-goog-credential x-goog-encryption-key x-goog-signature
    x-guploader-uploadid x-identity-header x-ms-encryption-key
"""


# Where a name begins: also behind the `?` and `&` of a URL that is itself a parameter.
_WORD = r"(?:(?<![A-Za-z0-9])|(?<=%3[Ff])|(?<=%26))"


def _any_of(names: str) -> str:
    # Longest first, or `secret` would match the beginning of `secret-key` and look for its value there.
    ordered = sorted(names.split(), key=len, reverse=True)
    return f"{_WORD}(?:" + "|".join(each.replace("-", "[-_ ]?") for each in ordered) + ")"


_SECRET_NAME = re.compile(".*" + _any_of(_NAMES), re.IGNORECASE | re.DOTALL)

# Their values have blanks and separators of their own.
_LONG_NAMES = "authorization connection-string cookie set-cookie"

# What may stand between a name and its value: `=`, `: `, `": "`, `': b'`, `', '`, `>` of XML, `%3D` of a
# URL within a URL. Backslashes are those of JSON within JSON.
_BETWEEN = r"""[\\"']*(?:\s*[=:>]\s*|\s*,\s*(?=b?\\*["'])|%3[Dd])b?[\\"']*"""
_VALUE = r"""[^\s"'\\&;,<>{}()\[\]]+"""

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A private key in PEM, also where its line breaks are written \n, also when its end is cut off.
    (
        re.compile(
            r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----)(?:.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----)|.*)",
            re.DOTALL,
        ),
        rf"\1{MASK}\2",
    ),
    # Headers and settings whose value has blanks or separators of its own: up to the end of quote or line.
    (
        re.compile(
            rf"""({_any_of(_LONG_NAMES)}{_BETWEEN})[^"'\\\r\n]+""",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(rf"({_any_of(_NAMES)}{_BETWEEN}){_VALUE}", re.IGNORECASE), rf"\1{MASK}"),
    # The short names of Azure's SAS and GCS's sessions are words of their own elsewhere: only as parameters.
    (
        re.compile(
            rf"({_WORD}(?:sig|upload_id)(?:=|%3[Dd]))[^\s\"'\\&;,<>%]+(?:%[0-9A-Fa-f]{{2}}[^\s\"'\\&;,<>%]*)*",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # Metadata services answer {"Token": "..."} beside the key that it belongs to.
    (re.compile(r"""(["']Token\\*["']\s*:\s*\\*["'])[^"'\\]+"""), rf"\1{MASK}"),
    # Authorization without its name: what follows the scheme.
    (re.compile(r"\b((?:Bearer|Basic|Negotiate)\s+)[A-Za-z0-9._~+/=:-]{12,}"), rf"\1{MASK}"),
    (re.compile(r"\b(SharedKey(?:Lite)?\s+[a-z0-9-]+:)[A-Za-z0-9+/=]+"), rf"\1{MASK}"),
    (re.compile(r"\b(Credential=)[^\s,\"'&]+"), rf"\1{MASK}"),
    (re.compile(r"\b(Signature[=:]\s*)[A-Za-z0-9+/=]{16,}"), rf"\1{MASK}"),
    # JSON Web Tokens: a base64url object, twice, and perhaps a signature.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?"), MASK),
    # The password of a URL: that of a proxy, mostly.
    (re.compile(r"(://[^\s/:@\"']*:)[^\s/@\"']+(@)"), rf"\1{MASK}\2"),
)

# Without one of these no rule can match: each needs a separator, a scheme, or the beginning of a key or
# token. Most values of a log line (names, paths, numbers) have none, and are spared eleven searches.
_SUSPECT = re.compile(r"[=:>,%]|eyJ|Bearer|Basic|Negotiate|-----BEGIN")


class _Registered:
    """The values that were registered, and one expression that finds any spelling of any of them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._spellings: set[str] = set()
        self.pattern: re.Pattern[str] | None = None

    def add(self, spellings: set[str]) -> None:
        with self._lock:
            self._spellings |= spellings
            # Longest first: where one secret begins another, the whole of the longer one goes.
            ordered = sorted(self._spellings, key=len, reverse=True)
            self.pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def take_out(self, text: str) -> str:
        pattern = self.pattern
        if pattern is None:
            return text
        # Again until nothing is found: what stands left and right of a masked value may, together with
        # the mask, spell another secret. It ends, for the mask is shorter than any secret.
        while True:
            masked = pattern.sub(MASK, text)
            if masked == text:
                return masked
            text = masked


_registered = _Registered()


def register_secret(value: str | bytes) -> None:
    """Never show this value again, in any of its usual spellings.

    Values shorter than `SHORTEST` characters are left alone. Of a value with several lines (a key file)
    each longer line is a secret too.
    """
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    spellings: set[str] = set()
    for secret in {text, text.strip(), *(line.strip() for line in text.splitlines() if len(line) >= 16)}:
        if len(secret) >= SHORTEST and not secret.startswith("-----"):
            spellings |= _spellings(secret)
    _registered.add(spellings)


def mask(text: str) -> str:
    """The text without its secrets, each replaced by `***`. Masking twice changes nothing more."""
    return _masked(text) if len(text) > _REMEMBERED else _masked_once(text, _registered.pattern)


def mask_name(name: str) -> tuple[str, bool]:
    """The name of a field without secrets, and whether a value under it is one, whatever it looks like."""
    return _named_once(name, _registered.pattern)


@lru_cache(256)
def _named_once(name: str, _registered: re.Pattern[str] | None) -> tuple[str, bool]:
    return _masked(name), is_secret_name(name)


@lru_cache(1024)
def _masked_once(text: str, _registered: re.Pattern[str] | None) -> str:
    # With another value registered it is another question.
    return _masked(text)


def _masked(text: str) -> str:
    known = mask_registered(text)
    if _SUSPECT.search(known) is None:
        return known
    masked = known
    for pattern, replacement in _RULES:
        masked = pattern.sub(replacement, masked)
    return masked if masked == known else mask_registered(masked)


def mask_registered(text: str) -> str:
    """The text without the values that were registered; shapes are not looked at."""
    return _registered.take_out(text)


@lru_cache(256)
def is_secret_name(name: str) -> bool:
    """Whether a value under this name (header, parameter, setting) is secret, whatever it looks like."""
    return _SECRET_NAME.fullmatch(name) is not None


def _spellings(secret: str) -> set[str]:
    """The secret as it stands in plain text, URLs, JSON, `repr` and base64."""
    raw = secret.encode("utf-8", "surrogatepass")
    spelled = {
        secret,
        quote(raw),
        quote(raw, safe=""),
        quote_plus(raw),
        quote(raw, safe="").lower() if "%" in quote(raw, safe="") else secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        repr(raw)[2:-1],
        base64.b64encode(raw).decode(),
    }
    return {each for each in spelled if len(each) >= SHORTEST}
