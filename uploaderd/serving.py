"""Where the daemon answers: its control socket and, where wanted, a TCP address. One application at both.

A place that cannot be had is said, and lived without: recordings go out all the same.
"""

from __future__ import annotations

import asyncio
import grp
import os
from pathlib import Path
from typing import Final

from aiohttp import web

from uploaderd.clock import Clock
from uploaderd.config import Web
from uploaderd.logs.setup import get_logger

log = get_logger(__name__)

SOCKET_PATH_BYTES: Final = 107
"""Longest path of a Unix socket (unix(7): 108 with the closing zero)."""

GOODBYE_SECONDS: Final = 1.0
"""How long answers that are under way may take when the daemon ends."""

AGAIN_SECONDS: Final = 30.0
"""How often a TCP address is tried that cannot be had: another program may have it for a while."""

_HINT: Final = (
    "until there is one, no command and no health check reaches the daemon: let it write that folder (in a"
    " container: a tmpfs), or set [web] socket"
)


class Serving:
    """Serves an application where `[web]` says; `begin` and `close` once each."""

    def __init__(self, application: web.Application, config: Web, clock: Clock) -> None:
        # Who waits for something long hears no more once the daemon ends; it does not wait for them.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=GOODBYE_SECONDS)
        self._config = config
        self._clock = clock
        self._socket: Path | None = None
        self._listening: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Answer from now on."""
        await self._runner.setup()
        await self._serve_socket(self._config.socket, _group(self._config.socket_group))
        if self._config.listen is not None:
            self._listening = asyncio.create_task(self._listen(self._config.listen), name="listen")

    async def close(self) -> None:
        """Stop answering. Idempotent."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait((self._listening,))
        await self._runner.cleanup()
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
            self._socket = None

    async def _serve_socket(self, socket: Path, group: int | None) -> None:
        if len(os.fsencode(socket)) > SOCKET_PATH_BYTES:
            log.warning("no control socket: its path is too long", socket=str(socket), hint=_HINT)
            return
        before = os.umask(0o077)
        try:
            _make_way(socket, group)
            os.umask(0o177)
            await web.UnixSite(self._runner, str(socket)).start()
            self._socket = socket
            if group is not None:
                _let_in(socket, group)
        except OSError as error:
            what = "no control socket" if self._socket is None else "the socket's group could not be set"
            log.warning(what, socket=str(socket), reason=error.strerror, hint=_HINT)
        finally:
            os.umask(before)

    async def _listen(self, where: str) -> None:
        """Have the address, however long that takes."""
        host, _, port = where.rpartition(":")
        said = ""
        while True:
            try:
                await web.TCPSite(self._runner, host.strip("[]"), int(port)).start()
            except OSError as error:
                reason = error.strerror or str(error)
                if reason != said:
                    hint = "free the address, or set [web] listen to another and restart"
                    log.error("cannot answer over TCP yet", listen=where, reason=reason, hint=hint)
                    said = reason
                await self._clock.sleep(AGAIN_SECONDS)
            else:
                log.info("answering over TCP", listen=where)
                return


def _group(name: str | None) -> int | None:
    """The group's number. That there is such a group was seen when the configuration was read."""
    try:
        return grp.getgrnam(name).gr_gid if name is not None else None
    except KeyError:
        log.warning("the group that may read through the socket is gone", group=name)
        return None


def _let_in(socket: Path, group: int) -> None:
    # To connect they need to write; that they may only ask is decided by who they are.
    os.chown(socket, -1, group)
    socket.chmod(0o660)
    folder = socket.parent.stat()
    if not (folder.st_mode & 0o001 or (folder.st_mode & 0o010 and folder.st_gid == group)):
        log.warning(
            "the socket's folder keeps its group out",
            folder=str(socket.parent),
            hint="let the group pass through it: under systemd, RuntimeDirectoryMode=0711 in a drop-in",
        )


def _make_way(socket: Path, group: int | None) -> None:
    if not socket.parent.exists():
        socket.parent.mkdir(mode=0o700, parents=True)
        if group is not None:
            os.chown(socket.parent, -1, group)
            socket.parent.chmod(0o710)
    socket.unlink(missing_ok=True)  # the ledger's lock says that nobody else serves it
