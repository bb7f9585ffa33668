"""Our signature is the library's, for whatever a key, a query or a header may hold."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from uploaderd.providers.s3_signature import Signer, encoded

NOW = datetime(2026, 11, 20, 18, 0, 2, tzinfo=UTC)
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)


@given(
    method=st.sampled_from(["PUT", "HEAD"]),
    key=KEYS,
    query=st.dictionaries(st.sampled_from(["partNumber", "uploadId", "versionId"]), KEYS),
    meta=PRINTABLE,
    token=st.sampled_from([None, "not-a-real-token"]),
)
@settings(max_examples=100, deadline=None)
def test_it_is_the_librarys_own(
    method: str, key: str, query: dict[str, str], meta: str, token: str | None
) -> None:
    url = f"https://recordings.s3.example:9000/{quote(key, safe='/~')}"
    headers = {"host": "recordings.s3.example:9000", "x-amz-meta-site": meta, "content-type": "video/mp4"}
    path = urlsplit(url).path
    signer = Signer("eu-central-1")
    ours = signer.signed(method, path, query, headers, "not-a-real-key", "not-a-real-secret", token, NOW)

    request = AWSRequest(method, f"{url}?{encoded(query)}" if query else url, headers=headers)
    request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
    credentials = Credentials("not-a-real-key", "not-a-real-secret", token)
    with patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        S3SigV4Auth(credentials, "s3", "eu-central-1").add_auth(request)
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours["x-amz-content-sha256"] == request.headers["X-Amz-Content-SHA256"]


def test_a_key_is_derived_anew_for_another_day_and_another_secret() -> None:
    signer = Signer("eu-central-1")
    days = (NOW, NOW.replace(day=21), NOW)
    for day, secret in zip(days, ("not-a-real-1", "not-a-real-1", "not-a-real-2"), strict=True):
        one = signer.signed("PUT", "/k", {}, {"host": "s3.example"}, "not-a-real-key", secret, None, day)
        other = Signer("eu-central-1").signed(
            "PUT", "/k", {}, {"host": "s3.example"}, "not-a-real-key", secret, None, day
        )
        assert one == other
