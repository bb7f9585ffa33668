"""V4 signed URLs ("Signatures" and "Canonical requests" of the Cloud Storage documentation).

gcloud-aio-storage's own `get_signed_url` builds the address from its idea of the host, never from
`endpoint_url`; only its RSA signature is used.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from yarl import URL

LONGEST: Final = 7 * 24 * 3600
"""Seconds that a V4 signature may be good for."""

LONGEST_BY_IAM: Final = 12 * 3600
"""Seconds for which Google promises to keep a key of its own with which IAM signed."""

_ALGORITHM: Final = "GOOG4-RSA-SHA256"


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A URL that lacks its signature, and the text to sign."""

    url: str
    text: bytes

    def signed(self, signature: bytes) -> str:
        return f"{self.url}&X-Goog-Signature={signature.hex()}"


def unsigned(root: str, bucket: str, key: str, email: str, expires: int, now: datetime) -> Unsigned:
    """What has to be signed so that anyone may GET the object for `expires` seconds.

    `root` is the service's address; a path in it is not signed: the service behind a reverse proxy
    does not see it.
    """
    moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/auto/storage/goog4_request"
    path = object_path(bucket, key)
    query = "&".join(
        f"{name}={quote(value, safe='')}"
        for name, value in (  # in the order of their names
            ("X-Goog-Algorithm", _ALGORITHM),
            ("X-Goog-Credential", f"{email}/{scope}"),
            ("X-Goog-Date", moment),
            ("X-Goog-Expires", str(expires)),
            ("X-Goog-SignedHeaders", "host"),
        )
    )
    host = URL(root).host_port_subcomponent
    request = "\n".join(["GET", path, query, f"host:{host}", "", "host", "UNSIGNED-PAYLOAD"])
    digest = hashlib.sha256(request.encode()).hexdigest()
    return Unsigned(f"{root}{path}?{query}", f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}".encode())


def object_path(bucket: str, key: str) -> str:
    """Path of an object as the XML API and browsers know it."""
    return f"/{quote(bucket)}/{quote(key, safe='/~')}"
