"""The endpoint itself: one port, three protocols, a thread with an event loop of its own.

Paths under /azure/, /gcs/ and /_control/ belong to those; all others are S3 (so no bucket may be named
"azure" or "gcs" here).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from aiohttp import web

from tests.strict.azure import Azure
from tests.strict.control import Control
from tests.strict.faults import Fault, FaultBook, Kind
from tests.strict.gcs import Gcs
from tests.strict.s3 import S3
from tests.strict.store import Store
from tests.strict.tls import self_signed
from tests.strict.wire import (
    Call,
    Clock,
    DroppedError,
    Exchange,
    PeerLeftError,
    RefusalError,
    Reply,
    RequestLog,
)

_T = TypeVar("_T")


class _Side(Protocol):
    """What the server needs of a protocol."""

    @property
    def name(self) -> str: ...
    def parse(self, request: web.BaseRequest) -> Call: ...
    def forget_session(self, call: Call) -> None: ...
    async def answer(self, exchange: Exchange) -> Reply: ...
    def refusal(self, exchange: Exchange, error: RefusalError) -> Reply: ...


class StrictServer:
    """A context manager; inside it `url` answers.

    `log`, `faults`, `clock`, `s3`, `azure` and `gcs` may be read from any thread; change what they hold
    through `call`, or while no request runs. `crashes` has the tracebacks of the endpoint's own mistakes:
    a test asserts that it is empty.
    """

    def __init__(self, *, tls: bool = False, port: int = 0) -> None:
        self.store = Store()
        self.clock = Clock()
        self.faults = FaultBook()
        self.log = RequestLog()
        self.s3 = S3(self.store, self.clock)
        self.azure = Azure(self.store, self.clock)
        self.gcs = Gcs(self.store, self.clock)
        self.crashes: list[str] = []
        self._on_their_way: Counter[str] = Counter()
        self.ca_file: Path | None = None
        self.port = port
        self._control = Control(self)
        self._tls = tls
        self._folder = tempfile.TemporaryDirectory(prefix="strict-tls-")
        self._context: ssl.SSLContext | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="strict endpoint", daemon=True)
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """The address; S3's endpoint_url."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def azure_url(self) -> str:
        """account_url of the default account."""
        return f"{self.url}/azure/{self.azure.account.name}"

    @property
    def azure_connection_string(self) -> str:
        account = self.azure.account
        scheme = self.url.partition(":")[0]
        return (
            f"DefaultEndpointsProtocol={scheme};AccountName={account.name};AccountKey={account.key};"
            f"BlobEndpoint={self.azure_url};"
        )

    @property
    def gcs_url(self) -> str:
        """The JSON API's root; the token endpoint is `{gcs_url}/token`."""
        return f"{self.url}/gcs"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        if self._tls:
            self._context, self.ca_file = self_signed(Path(self._folder.name))
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        self.faults.clear()
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self.store.close()
        self._folder.cleanup()

    def call(self, work: Callable[[], _T]) -> _T:
        """Run `work` between two requests, on the server's own thread."""

        async def run() -> _T:
            return work()

        return self._run(run())

    def switch_off(self) -> None:
        """Close the port and every connection; what is stored stays. A client sees a refused connection."""
        self._run(self._close())

    def switch_on(self) -> None:
        """Listen again on the same port."""
        self._run(self._listen())

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        self.switch_off()
        try:
            yield
        finally:
            self.switch_on()

    def drop_connections(self) -> None:
        """Reset all connections that are open now, busy or idle."""
        self.call(self._abort_connections)

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        quiet = logging.getLogger("tests.strict")
        # Bodies are stored as they come (no decompression); no handler ends because its client went.
        server = web.Server(
            self._handle,
            access_log=None,
            logger=quiet,
            auto_decompress=False,
            lingering_time=5.0,
            max_line_size=32768,
            max_field_size=32768,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner,
            "127.0.0.1",
            self.port,
            ssl_context=self._context,
            reuse_address=True,
            shutdown_timeout=0.2,
        )
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.gcs.root = self.gcs_url

    async def _close(self) -> None:
        if self._runner is not None:
            self._abort_connections()
            await self._runner.cleanup()
            self._runner = None

    def _abort_connections(self) -> None:
        server = self._runner.server if self._runner else None
        for connection in server.connections if server else ():
            if connection.transport is not None:
                connection.transport.abort()

    # One request ------------------------------------------------------------------------------------

    def _side(self, path: str) -> _Side:
        if path.startswith("/azure/"):
            return self.azure
        if path.startswith("/gcs/"):
            return self.gcs
        return self.s3

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.startswith("/_control/"):
            return await self._control.answer(request)
        side = self._side(request.raw_path)
        exchange = Exchange(request, side.name, side.parse(request), self.faults)
        begun, operation = self.clock.now(), exchange.call.operation
        beside = self._on_their_way[operation]
        self._on_their_way[operation] += 1
        # Logged before the client can know that the request has ended, so that a test may look at once.
        try:
            reply = await self._perform(side, exchange)
            cut, slow = exchange.fire(Kind.CUT_REPLY), None
            if reply.content is not None:
                slow = exchange.fire(Kind.THROTTLE)
            self.log.append(exchange.logged(begun, beside, reply.status))
        except (DroppedError, PeerLeftError, ConnectionError):
            self.log.append(exchange.logged(begun, beside, 0))
            exchange.reset()
            return web.Response(status=500)
        except Exception:  # noqa: BLE001 - the endpoint's own mistake: kept for the test to find
            self.crashes.append(traceback.format_exc())
            self.log.append(exchange.logged(begun, beside, 500))
            return web.Response(status=500, text=traceback.format_exc())
        finally:
            self._on_their_way[operation] -= 1
        try:
            return await self._send(exchange, reply, cut, slow)
        except (DroppedError, ConnectionError):
            exchange.reset()
            return web.Response(status=500)

    async def _perform(self, side: _Side, exchange: Exchange) -> Reply:
        try:
            await self._before(side, exchange)
            reply = await side.answer(exchange)
        except RefusalError as error:
            reply = side.refusal(exchange, error)
        reply.headers = {"date": formatdate(self.clock.now(), usegmt=True)} | reply.headers
        if exchange.fire(Kind.LOSE_REPLY):
            raise DroppedError
        if held := exchange.fire(Kind.HOLD_REPLY):
            await exchange.hold(held)
        return reply

    @staticmethod
    async def _before(side: _Side, exchange: Exchange) -> None:
        if slow := exchange.fire(Kind.LATENCY):
            await asyncio.sleep(slow.seconds)
        if held := exchange.fire(Kind.HOLD):
            await exchange.hold(held)
        if exchange.fire(Kind.LOSE_REQUEST):
            raise DroppedError
        if exchange.fire(Kind.FORGET_SESSION):
            side.forget_session(exchange.call)
        if fault := exchange.fire(Kind.STATUS):
            headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
            raise RefusalError(fault.status, fault.code, "on command", headers=headers)

    @staticmethod
    async def _send(
        exchange: Exchange, reply: Reply, cut: Fault | None, slow: Fault | None
    ) -> web.StreamResponse:
        request, headers = exchange.request, dict(reply.headers)
        streamed = reply.content is not None or cut is not None
        if streamed:
            size = len(reply.body) if reply.content is None else reply.stop - reply.start
            headers["content-length"] = str(size)
            response: web.StreamResponse = web.StreamResponse(status=reply.status, headers=headers)
        else:
            if request.method == "HEAD":
                headers.setdefault("content-length", str(len(reply.body)))
            body = b"" if request.method == "HEAD" else reply.body
            response = web.Response(status=reply.status, headers=headers, body=body)
        if request.headers.get("Expect") and exchange.received == 0:
            response.force_close()  # the client may or may not send the body that nobody asked for
        await response.prepare(request)
        if streamed and request.method != "HEAD":
            await _stream(reply, response, cut.after_bytes if cut else None, slow)
        await response.write_eof()
        return response


async def _stream(reply: Reply, response: web.StreamResponse, limit: int | None, slow: Fault | None) -> None:
    """Send the body: at the pace of `slow`, and only `limit` bytes of it (then DroppedError)."""
    sent = 0
    windows = iter([reply.body]) if reply.content is None else reply.content.read(reply.start, reply.stop)
    for data in windows:
        if limit is not None and sent + len(data) >= limit:
            await response.write(data[: limit - sent])
            raise DroppedError
        await response.write(data)
        sent += len(data)
        if slow is not None:
            await slow.pace(len(data))
