"""Who is told: an HTTP server on a thread, that answers as it is bidden and remembers what it got."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Got:
    """A request. `status`: what it was answered; None if it was not."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int | None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def signed_with(self, secret: bytes) -> bool:
        """As https://www.standardwebhooks.com tells a receiver to check it."""
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.{self.body.decode()}"
        right = base64.b64encode(hmac.digest(secret, signed.encode(), hashlib.sha256))
        version, _, given = self.headers["webhook-signature"].partition(",")
        return version == "v1" and hmac.compare_digest(given.encode(), right)


@dataclass(frozen=True, slots=True)
class Answer:
    """`status`: None lets the sender wait until the receiver ends."""

    status: int | None = 204
    headers: tuple[tuple[str, str], ...] = ()


class Receiver:
    """A context manager. `answers` come first, one each; then `always`."""

    def __init__(self, *answers: Answer, always: Answer | None = None) -> None:
        self._answers = deque(answers)
        self._always = always if always is not None else Answer()
        self._moved = threading.Condition()
        self._over = threading.Event()
        self._got: list[Got] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                receiver._take(self)

            do_POST = do_GET  # noqa: N815 - the library's name

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook?token=not-a-real-token"

    @property
    def got(self) -> list[Got]:
        with self._moved:
            return list(self._got)

    @property
    def taken(self) -> list[Got]:
        """What was answered with success."""
        return [one for one in self.got if one.status is not None and one.status < 300]

    async def until(self, there: Callable[[list[Got]], bool]) -> None:
        """Wait until what it got so far is enough."""

        def wait() -> bool:
            with self._moved:
                return self._moved.wait_for(lambda: there(self._got), PATIENCE)

        assert await asyncio.to_thread(wait), f"only this came: {[(g.method, g.status) for g in self.got]}"

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._moved:
            answer = self._answers.popleft() if self._answers else self._always
            headers = {name.lower(): value for name, value in request.headers.items()}
            self._got.append(Got(request.command, request.path, headers, body, answer.status))
            self._moved.notify_all()
        if answer.status is None:
            self._over.wait(PATIENCE)
            request.close_connection = True
            return
        request.send_response(answer.status)
        for name, value in answer.headers:
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
