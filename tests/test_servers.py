"""The servers that tests lean on: they start, are what they say, end, and none is missed silently."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.servers import MissingError, ServerError, azurite, gcs, moto, process

pytest_plugins = ["pytester"]


def test_moto_keeps_an_object(moto: moto.Moto) -> None:
    import boto3

    s3 = boto3.client(
        "s3",
        endpoint_url=moto.url,
        region_name="eu-west-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    s3.create_bucket(Bucket="servers", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="servers", Key="k", Body=b"content")
    body = s3.get_object(Bucket="servers", Key="k")["Body"]
    assert body.read() == b"content"
    s3.close()


def test_azurite_keeps_a_blob(azurite: azurite.Azurite) -> None:
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient(
        azurite.url, {"account_name": azurite.account, "account_key": azurite.key}
    ) as service:
        container = service.create_container("servers")
        container.upload_blob("k", b"content")
        assert container.download_blob("k").readall() == b"content"


def test_the_gcs_emulator_keeps_an_object(gcs_emulator: gcs.GcsEmulator) -> None:
    def call(path: str, content: bytes | None = None, kind: str = "application/json") -> bytes:
        request = urllib.request.Request(gcs_emulator.url + path, content, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=10) as reply:
            body: bytes = reply.read()
            return body

    call("/storage/v1/b?project=p", json.dumps({"name": "b"}).encode())
    call("/upload/storage/v1/b/b/o?uploadType=media&name=k", b"content", "video/mp4")
    assert call("/storage/v1/b/b/o/k?alt=media") == b"content"


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_server_is_gone_afterwards() -> None:
    with process.running(
        lambda port: [sys.executable, "-m", "http.server", "-b", "127.0.0.1", str(port)]
    ) as port:
        assert not refused(port)
    assert refused(port)


def test_a_server_dies_with_the_tests() -> None:
    """Even when they are killed and can clean nothing up."""
    code = (
        "import os, signal, sys\n"
        "from tests.servers import process\n"
        "command = [sys.executable, '-m', 'http.server', '-b', '127.0.0.1']\n"
        "with process.running(lambda port: [*command, str(port)]) as port:\n"
        "    print(port, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert done.returncode == -9
    port = int(done.stdout)
    # The kernel kills the child as its parent dies; its socket is closed a moment later.
    deadline = time.monotonic() + 10
    while not refused(port):
        assert time.monotonic() < deadline, "the server still listens"


def test_a_server_that_ends_at_once_tells_why() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such option')"]
    with pytest.raises(ServerError, match=r"ended with 1 before it answered; it printed:\nno such option"):
        with process.running(lambda _: command):
            pass


def test_a_server_that_never_answers_is_ended() -> None:
    command = [sys.executable, "-c", "print('thinking', flush=True); import signal; signal.pause()"]
    with pytest.raises(ServerError, match=r"did not answer on port \d+ within 1 s; it printed:\nthinking"):
        with process.running(lambda _: command, ready_within=1):
            pass


def test_another_port_is_tried_when_the_first_was_taken_meanwhile() -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))  # bound, not listening: nobody answers, and nobody else can bind
        taken = squatter.getsockname()[1]
        asked: list[int] = []

        def command(port: int) -> list[str]:
            asked.append(port)
            return [sys.executable, "-m", "http.server", "-b", "127.0.0.1", str(port if asked[1:] else taken)]

        with process.running(command) as port:
            assert asked[1:] == [port]


def test_a_missing_azurite_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TESTS_AZURITE", str(tmp_path))
    with (
        pytest.raises(
            MissingError, match=r"azurite is not installed: .*main\.js is missing\. Run tests/run\.py"
        ),
        azurite.running(),
    ):
        pass


@pytest.mark.parametrize("need", ["azurite", "as_root"])
@pytest.mark.parametrize(
    ("env", "outcome"),
    [({}, "skipped"), ({"CI": "true"}, "errors"), ({"TESTS_REQUIRE_ALL": "1"}, "errors")],
)
def test_what_is_missing_is_a_skip_here_and_a_failure_in_ci(
    need: str,
    env: dict[str, str],
    outcome: str,
    monkeypatch: pytest.MonkeyPatch,
    pytester: pytest.Pytester,
    tmp_path: Path,
) -> None:
    for name in ("CI", "TESTS_REQUIRE_ALL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**env, "TESTS_AZURITE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    pytester.makeconftest(f"from tests.conftest import {need}")
    pytester.makepyfile(f"def test_something({need}): ...")
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio").assert_outcomes(**{outcome: 1})
