"""Logins at S3: found, refused, mended, and never redirected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio

from tests.contract import acts
from tests.servers.moto import Moto
from tests.strict import StrictServer
from uploaderd.config import S3Provider
from uploaderd.errors import Fault
from uploaderd.model import FailureClass
from uploaderd.provider import Provider, Signs
from uploaderd.providers.s3 import S3
from uploaderd.providers.s3_login import Login, is_amazon

BUCKET = "recordings"
KEY = "cam1/a.mp4"

Open = Callable[..., Awaitable[Provider]]


@pytest.fixture
def server() -> Iterator[StrictServer]:
    with StrictServer() as running:
        running.s3.create_bucket(BUCKET)
        yield running
        assert running.crashes == []


@pytest_asyncio.fixture
async def opened(server: StrictServer) -> AsyncIterator[Open]:
    """Opens a provider at the strict endpoint, with whatever login is given."""
    providers: list[Provider] = []

    async def opened(**login: Any) -> Provider:
        place = {"type": "s3", "bucket": BUCKET, "region": "us-east-1", "endpoint_url": server.url}
        providers.append(await acts.opened(place | login, "s3_main"))
        return providers[-1]

    yield opened
    for provider in providers:
        await provider.aclose()


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("s3.amazonaws.com", True),
        ("s3.eu-west-1.amazonaws.com", True),
        ("s3-us-west-2.amazonaws.com", True),
        ("s3-fips.dualstack.us-gov-west-1.amazonaws.com", True),
        ("s3-accelerate.amazonaws.com", True),
        ("bucket.vpce-0123-abcd.s3.eu-west-1.vpce.amazonaws.com", True),
        ("s3express-use1-az4.us-east-1.amazonaws.com", True),
        ("s3.cn-north-1.amazonaws.com.cn", True),
        ("my-ceph-1234.elb.eu-west-1.amazonaws.com", False),
        ("s3-gateway-1234.eu-west-1.elb.amazonaws.com", False),
        ("ec2-3-4-5-6.compute-1.amazonaws.com", False),
        ("abc.execute-api.eu-west-1.amazonaws.com", False),
        ("b-1.op-2.123456789012.s3-outposts.eu-west-1.amazonaws.com", False),
        ("s3.amazonaws.com.example", False),
        ("amazonaws.com", False),
        ("s3.minio.example", False),
    ],
)
def test_amazon_is_who_answers_as_s3_itself(host: str, *, is_it: bool) -> None:
    assert is_amazon(f"https://{host}:9000") is is_it
    assert is_amazon(None)


async def test_a_login_mended_in_its_file_works_without_a_restart(
    server: StrictServer, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    provider = await opened(profile="cameras")
    with pytest.raises(Fault) as missing:
        await provider.probe()
    file.write_text(
        f"[cameras]\naws_access_key_id = {server.s3.account.access_key}\naws_secret_access_key = not-right\n"
    )
    with pytest.raises(Fault) as refused:
        await provider.probe()
    file.write_text(file.read_text().replace("not-right", server.s3.account.secret_key))

    await provider.probe()

    assert provider.login == "profile 'cameras'"
    for caught in (missing, refused):
        assert caught.value.failure is FailureClass.PROVIDER
        assert "profile 'cameras'" in caught.value.hint
    assert refused.value.code == "SignatureDoesNotMatch"


async def test_no_login_at_all_is_said_by_the_first_call(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    provider = await opened()

    with pytest.raises(Fault) as caught:
        await provider.probe()

    assert (caught.value.failure, caught.value.code) == (FailureClass.PROVIDER, "NoCredentialsError")


async def test_a_login_whose_file_is_gone_names_it(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the only other file of a connection, its `ca_file`."""
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::000000000000:role/recorder")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/none/token")
    provider = await opened()

    with pytest.raises(Fault) as caught:
        await provider.probe()

    assert caught.value.failure is FailureClass.PROVIDER
    assert "the login's file /var/run/none/token cannot be read" in str(caught.value)
    assert "web identity" in caught.value.hint
    assert "ca_file" not in caught.value.hint


async def test_the_environment_does_not_redirect_the_endpoint(
    server: StrictServer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_PROFILE", "there-is-none")
    account = server.s3.account
    provider = await opened(access_key_id=account.access_key, secret_access_key=account.secret_key)

    await provider.probe()

    assert len(server.log.entries("UploadPart")) == 1


async def test_the_aws_tools_broken_files_do_not_matter_beside_a_key(
    server: StrictServer, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        file = tmp_path / name
        file.write_text("no table, no value\n")
        monkeypatch.setenv(name, str(file))
    account = server.s3.account
    provider = await opened(access_key_id=account.access_key, secret_access_key=account.secret_key)

    await provider.probe()


async def test_amazon_itself_is_not_redirected_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent: only the addresses are looked at."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    login = Login(S3Provider(type="s3", bucket=BUCKET, region="eu-central-1"))
    provider = await acts.opened({"type": "s3", "bucket": BUCKET, "region": "eu-central-1"})
    try:
        assert isinstance(provider, S3)
        assert provider._client.meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"
        async with login._session().create_client("sts", **login._security_service()) as security:
            assert security.meta.endpoint_url == "https://sts.eu-central-1.amazonaws.com"
    finally:
        await provider.aclose()
    assert provider.address("cam 1/ü.mp4") == (
        "https://recordings.s3.eu-central-1.amazonaws.com/cam%201/%C3%BC.mp4"
    )
    assert provider.limits.proves_whole


async def test_a_role_is_assumed_and_bounds_what_is_signed(moto: Moto) -> None:
    role = "arn:aws:iam::123456789012:role/recorder-not-to-be-shown"
    login = {"access_key_id": "moto-takes-any", "secret_access_key": "not-a-real-secret"}
    names = {"aws_access_key_id": "moto-takes-any", "aws_secret_access_key": "not-a-real-secret"}
    vendor = boto3.client("s3", endpoint_url=moto.url, region_name="us-east-1", **names)
    await asyncio.to_thread(vendor.create_bucket, Bucket="with-a-role")
    vendor.close()
    table = {"type": "s3", "bucket": "with-a-role", "endpoint_url": moto.url, "assume_role_arn": role} | login
    provider = await acts.opened(table)
    try:
        await provider.probe()
        assert isinstance(provider, Signs)
        url, good_for = await provider.sign(KEY, 86_400)
    finally:
        await provider.aclose()

    assert provider.login == "role assumed with access key from the configuration"
    assert 3000 < good_for <= 3600, "the role's session lasts an hour"
    assert f"X-Amz-Expires={int(good_for)}" in url
    assert "X-Amz-Security-Token=" in url
