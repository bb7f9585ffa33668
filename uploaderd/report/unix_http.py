"""HTTP over a Unix socket. A module of its own, since `http.client` costs whoever asks no daemon 10 ms."""

from __future__ import annotations

import socket
from http.client import HTTPConnection
from pathlib import Path


class UnixConnection(HTTPConnection):
    """A connection to the socket at that path; `timeout` in seconds, for each step."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("uploaderd", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
