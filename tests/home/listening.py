"""The service manager's end of the notification socket."""

from __future__ import annotations

import asyncio
import socket
import time
from types import TracebackType
from typing import Self


class Listening:
    """A real datagram socket; `env` leads a daemon to it. A leading @ makes it an abstract one."""

    def __init__(self, address: str) -> None:
        self.env = {"NOTIFY_SOCKET": address}
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.heard: list[tuple[float, str]] = []
        """When (monotonic clock), and what: one entry for each line."""

    def __enter__(self) -> Self:
        self._socket.bind(self._address)
        self._socket.setblocking(False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def lines(self) -> list[str]:
        """All lines so far."""
        while True:
            try:
                told = self._socket.recv(65536).decode()
            except BlockingIOError:
                return [line for _, line in self.heard]
            self.heard += [(time.monotonic(), line) for line in told.split("\n")]

    async def hears(self, start: str, *, after: int = 0, within: float = 30.0) -> int:
        """Wait for a line that begins so; how many lines came up to it.

        Raises:
            AssertionError: none came among those after the first `after`.
        """
        deadline = time.monotonic() + within
        while True:
            for number, line in enumerate(self.lines):
                if number >= after and line.startswith(start):
                    return number + 1
            assert time.monotonic() < deadline, f"no {start!r} after {after} lines in {self.lines}"
            await asyncio.sleep(0.02)  # between two looks at the socket
