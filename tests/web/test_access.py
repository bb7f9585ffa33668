"""Who may ask what: by token over TCP, by user and group over the socket."""

from __future__ import annotations

import asyncio
import base64
import grp
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.cli.evening import Evening
from tests.cli.process import uploaderd
from tests.web.conftest import Faces
from uploaderd.config import ConfigError, load
from uploaderd.serving import AGAIN_SECONDS

TOKEN = "not-a-real-token"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anybody:{token}".encode()).decode()}


async def test_without_the_token_nothing_is_told(empty: Evening, faces: Faces) -> None:
    face = await faces.make(empty, token=SecretStr(TOKEN))
    answers = [
        await face.get(path, headers)
        for path in ("/", "/healthz", "/metrics", "/api/v1/status", "/api/v1/acts/retry", "/nothing/here")
        for headers in (
            {},
            bearer(TOKEN[:-1]),
            bearer(""),
            bearer("\u00e9"),
            basic("x"),
            {"Authorization": "Basic %"},
        )
    ]
    told = {(one.status, await one.text(), tuple(sorted(one.headers.items()))) for one in answers}
    assert {status for status, _, _ in told} == {401}
    assert {body for _, body, _ in told} == {""}
    # All are alike: not even which addresses exist is to be seen, or what program this is.
    headers = {tuple(pair for pair in pairs if pair[0] != "Date") for _, _, pairs in told}
    assert len(headers) == 1
    assert not any(word in str(headers).lower() for word in ("uploaderd", "aiohttp", "python"))

    for right in (bearer(TOKEN), basic(TOKEN)):
        assert (await face.get("/healthz", right)).status == 200
    assert (await face.get("/healthz", local=True)).status == 200  # the socket has its mode

    # A reload that brings another token: the old one is worth nothing from then on.
    table = face.live.config.web.model_copy(update={"token": SecretStr("not-a-real-token-either")})
    face.live.config = face.live.config.model_copy(update={"web": table})
    assert (await face.get("/healthz", bearer(TOKEN))).status == 401
    assert (await face.get("/healthz", bearer("not-a-real-token-either"))).status == 200


async def test_without_a_token_only_this_machine_is_answered(empty: Evening, faces: Faces) -> None:
    """A web page whose name was made to point here must not read what a local program may."""
    face = await faces.make(empty)
    for host in ("127.0.0.1:9464", "localhost", "[::1]:1", "127.8.8.8"):
        assert (await face.get("/healthz", {"Host": host})).status == 200, host
    for host in ("rebound.example", "192.0.2.1:9464", "localhost.example", "", ":9464", "[::1"):
        assert (await face.get("/healthz", {"Host": host})).status == 421, host
    answer = await face.get("/healthz")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in answer.headers


async def test_nobody_acts_over_tcp(empty: Evening, faces: Faces) -> None:
    face = await faces.make(empty, token=SecretStr(TOKEN))
    async with face.http.post(
        f"{face.url}/api/v1/acts/pause", headers=bearer(TOKEN), json={"provider": "nas"}
    ) as answer:
        assert answer.status == 403
        assert "only the daemon's own user" in await answer.text()


async def test_a_taken_address_is_tried_again(empty: Evening, faces: Faces) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        face = await faces.make(empty, listen=f"127.0.0.1:{other.getsockname()[1]}", answers=False)
        assert (await face.get("/healthz", local=True)).status == 200  # which does not wait for it
        while not face.clock.sleeping:
            await face.get("/healthz", local=True)
    face.clock.advance(AGAIN_SECONDS)
    await face.answers()
    assert (await face.get("/healthz")).status == 200


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "192.0.2.1:80", "[::]:9464", "recorder.example:1"])
def test_an_address_for_others_needs_a_token(tmp_path: Path, listen: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[web]\nlisten = "{listen}"\n')
    with pytest.raises(ConfigError, match=r"web\.token: is missing"):
        load(file, env={})
    ended = uploaderd("run", "--config", str(file), cwd=tmp_path)
    assert ended.code == 78
    assert f"{file}: web.token: is missing" in ended.err
    assert load(file, env={"UPLOADERD_WEB__TOKEN": TOKEN}).web.listen == listen


def test_a_group_that_is_not_there_is_refused(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    file = tmp_path / "config.toml"
    file.write_text(f'[web]\nsocket_group = "{group}x"\n')
    with pytest.raises(ConfigError, match=rf"no group '{group}x'; did you mean \"{group}\""):
        load(file, env={})


async def test_the_socket_is_the_daemons_own(empty: Evening, faces: Faces) -> None:
    face = await faces.make(empty)
    assert stat.S_IMODE(face.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(face.socket.parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("as_root")
async def test_a_group_may_read_and_not_act(empty: Evening, faces: Faces) -> None:
    group = grp.getgrnam("daemon")
    face = await faces.make(empty, socket_group=group.gr_name)
    assert stat.S_IMODE(face.socket.stat().st_mode) == 0o660

    async def ask(gid: int, method: str, path: str) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", _ASK, str(face.socket), method, path, str(gid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout or done.stderr.strip().splitlines()[-1]

    assert await ask(group.gr_gid, "GET", "/healthz") == "200"
    assert await ask(group.gr_gid, "POST", "/api/v1/acts/pause") == "403"
    assert "PermissionError" in await ask(65534, "GET", "/healthz")

    # `uploaderd status` too, though the ledger is its owner's alone.
    file = face.socket.parent / "config.toml"
    config = (
        (empty.folder / "config.toml").read_text().replace('"ledger.db"', f'"{empty.config.ledger.path}"')
    )
    file.write_text(f'{config}[web]\nsocket = "{face.socket}"\n')

    async def status(gid: int) -> str:
        command = [sys.executable, "-c", _STATUS, str(file), str(gid)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        return done.stdout or done.stderr.strip().splitlines()[-1]

    assert await status(group.gr_gid) == "SAFE"
    assert "you may not read" in await status(65534)


_ASK = """
import http.client, os, socket, sys
os.setgroups([])
os.setgid(int(sys.argv[4]))
os.setuid(65534)
connection = http.client.HTTPConnection("uploaderd")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request(sys.argv[2], sys.argv[3], body=b"{}" if sys.argv[2] == "POST" else None)
print(connection.getresponse().status, end="")
"""

# What is needed later is imported first: the modules may be where nobody else may go.
_STATUS = """
import os, sys
from pathlib import Path
import uploaderd.ledger.reading, uploaderd.report.status, uploaderd.report.unix_http
from uploaderd.cli.status import take
from uploaderd.config import load
from uploaderd.report import ask
config = load(Path(sys.argv[1]), env={})
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(65534)
print(take(config)["state"], end="")
"""
