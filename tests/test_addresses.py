"""The plain addresses of objects, made without a cloud library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from uploaderd.addresses import address, container
from uploaderd.config import Provider

KEY = "cam 1/ü+%#?.mp4"
QUOTED = "cam%201/%C3%BC%2B%25%23%3F.mp4"
S3: dict[str, Any] = {"type": "s3", "bucket": "rec"}
AZURE: dict[str, Any] = {"type": "azure", "container": "rec"}
GCS: dict[str, Any] = {"type": "gcs", "bucket": "rec"}


def config(**keys: Any) -> Provider:
    return TypeAdapter[Provider](Provider).validate_python(keys)


@pytest.mark.parametrize(
    ("keys", "base"),
    [
        ({**S3, "region": "eu-central-1"}, "https://rec.s3.eu-central-1.amazonaws.com"),
        ({**S3, "region": "cn-north-1"}, "https://rec.s3.cn-north-1.amazonaws.com.cn"),
        (S3, "https://rec.s3.amazonaws.com"),
        (
            {**S3, "bucket": "rec.example", "region": "eu-west-1"},
            "https://s3.eu-west-1.amazonaws.com/rec.example",
        ),
        ({**S3, "addressing": "path"}, "https://s3.amazonaws.com/rec"),
        ({**S3, "endpoint_url": "http://minio:9000"}, "http://minio:9000/rec"),
        ({**S3, "endpoint_url": "http://store/s3", "addressing": "virtual"}, "http://rec.store/s3"),
        ({**AZURE, "account": "acc"}, "https://acc.blob.core.windows.net/rec"),
        (
            {**AZURE, "account": "a", "endpoint_url": "http://127.0.0.1:10000/a"},
            "http://127.0.0.1:10000/a/rec",
        ),
        ({**AZURE, "container": "$web", "account": "acc"}, "https://acc.blob.core.windows.net/$web"),
        (GCS, "https://storage.googleapis.com/rec"),
        ({**GCS, "endpoint_url": "http://127.0.0.1:9023"}, "http://127.0.0.1:9023/rec"),
        ({"type": "directory", "path": Path("/mnt/n as")}, "file:///mnt/n%20as"),
        ({**S3, "public_url": "https://cdn.example/r/"}, "https://cdn.example/r"),
        ({**GCS, "public_url": "https://cdn.example"}, "https://cdn.example"),
    ],
)
def test_address(keys: dict[str, Any], base: str) -> None:
    assert address(config(**keys), KEY) == f"{base}/{QUOTED}"


@pytest.mark.parametrize(
    ("string", "base"),
    [
        ("AccountName=acc;AccountKey=not-a-real-key", "https://acc.blob.core.windows.net/rec"),
        (
            "DefaultEndpointsProtocol=http;AccountName=acc;AccountKey=not-a-real-key;EndpointSuffix=core.example",
            "http://acc.blob.core.example/rec",
        ),
        (
            "BlobEndpoint=https://acc.example/?sv=not-a-real-signature;SharedAccessSignature=sig=not-a-real-one",
            "https://acc.example/rec",
        ),
    ],
)
def test_address_by_connection_string_tells_no_secret(string: str, base: str) -> None:
    assert address(config(**AZURE, connection_string=string), KEY) == f"{base}/{QUOTED}"


def test_an_account_that_only_a_secret_names_is_unknown_without_it() -> None:
    assert address(config(**AZURE), KEY) is None


def test_a_login_may_know_the_region() -> None:
    assert address(config(**S3), "k", region="eu-west-1") == "https://rec.s3.eu-west-1.amazonaws.com/k"
    assert address(config(**S3, region="eu-north-1"), "k", region="eu-west-1") == (
        "https://rec.s3.eu-north-1.amazonaws.com/k"
    )


def test_container() -> None:
    assert [container(config(**keys)) for keys in (S3, AZURE, GCS)] == ["rec"] * 3
    assert container(config(type="directory", path=Path("/mnt/nas"))) == "/mnt/nas"
