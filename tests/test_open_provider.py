"""The one place that knows all providers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from uploaderd.config import AzureProvider, DirectoryProvider, GcsProvider, S3Provider
from uploaderd.errors import Fault
from uploaderd.providers import open_provider


async def test_open_provider_hands_the_marker_on(tmp_path: Path) -> None:
    config = DirectoryProvider(type="directory", path=tmp_path)
    provider = await open_provider("nas", config, expect_marker=True)

    with pytest.raises(Fault, match="marker"):
        await provider.probe()
    assert (provider.name, provider.target) == ("nas", f"file://{tmp_path}")
    await provider.aclose()


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_a_directory_needs_no_cloud_library() -> None:
    loaded = _python(
        "import asyncio, sys, pathlib\n"
        "from uploaderd.config import DirectoryProvider\n"
        "from uploaderd.providers import open_provider\n"
        "config = DirectoryProvider(type='directory', path=pathlib.Path('/nowhere'))\n"
        "asyncio.run(open_provider('nas', config))\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    ).split()

    assert "awscrt" in loaded, "the checksums"
    assert not {"aiobotocore", "botocore", "azure", "gcloud", "aiohttp"} & set(loaded)


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("aiobotocore", "S3Provider(type='s3', bucket='b')"),
        ("azure", "AzureProvider(type='azure', account='a', container='c')"),
        ("gcloud", "GcsProvider(type='gcs', bucket='b', anonymous=True)"),
    ],
)
def test_a_missing_library_is_said_plainly(module: str, code: str) -> None:
    said = _python(
        f"import asyncio, sys; sys.modules[{module!r}] = None\n"
        "from uploaderd.config import *\n"
        "from uploaderd.errors import Fault\n"
        "from uploaderd.providers import open_provider\n"
        "try:\n"
        f"    asyncio.run(open_provider('cloud_one', {code}))\n"
        "except Fault as fault:\n"
        "    print(fault.failure, fault.message, fault.hint)\n"
    )

    assert said.startswith("provider "), "it pauses, and the others go on"
    assert module in said
    assert "not installed" in said and "pip install" in said


@pytest.mark.parametrize(
    ("config", "guards"),
    [
        (S3Provider(type="s3", bucket="b", region="eu-west-1"), True),
        (S3Provider(type="s3", bucket="b", endpoint_url="https://minio.example", region="r"), False),
        (AzureProvider(type="azure", account="a", container="c"), True),
        (
            AzureProvider(type="azure", account="a", container="c", endpoint_url="https://azurite.example/a"),
            False,
        ),
        (GcsProvider(type="gcs", bucket="b", anonymous=True), True),
        (GcsProvider(type="gcs", bucket="b", anonymous=True, endpoint_url="https://emulator.example"), False),
    ],
    ids=lambda value: getattr(value, "type", value),
)
async def test_only_the_services_themselves_are_taken_to_guard_their_keys(
    config: S3Provider | AzureProvider | GcsProvider, guards: bool
) -> None:
    provider = await open_provider("cloud", config)
    assert provider.limits.guards_keys is guards
    await provider.aclose()
