"""One request and its answer, as all three protocols share them; the faults of the wire live here."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from tests.strict.faults import Fault, FaultBook, Kind
from tests.strict.store import Content


class DroppedError(Exception):
    """The connection is to be reset without an answer."""


class PeerLeftError(Exception):
    """The client closed the connection before its body was whole."""


class RefusalError(Exception):
    """The provider says no: HTTP status, the provider's code, a sentence, extra headers and error fields."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **more: str,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message or code
        self.headers = dict(headers or {})
        self.more = more


@dataclass(frozen=True)
class Call:
    """What a request asks for, in the provider's words; `key` is decoded."""

    operation: str
    bucket: str = ""
    key: str = ""
    session: str = ""


@dataclass
class Reply:
    """An answer; `content` with `start` and `stop` is streamed, else `body` is sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    content: Content | None = None
    start: int = 0
    stop: int = 0


class Clock:
    """Seconds since the epoch, with an offset that a test may set to make the client's clock wrong."""

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        return time.time() + self.offset


@dataclass(frozen=True)
class Logged:
    """One request as it ended. `status` is 0 when no answer was sent, `received` counts body bytes.

    `beside` is how many others of the same operation were on their way when it began.
    """

    at: float
    beside: int
    protocol: str
    operation: str
    method: str
    path: str
    query: dict[str, str]
    bucket: str
    key: str
    headers: dict[str, str]
    received: int
    status: int
    code: str
    faults: tuple[str, ...]


class RequestLog:
    """The last requests, oldest first; bounded."""

    def __init__(self, limit: int = 50_000) -> None:
        self._entries: deque[Logged] = deque(maxlen=limit)
        self._changed = threading.Condition()

    def append(self, entry: Logged) -> None:
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    def entries(self, operation: str | None = None, protocol: str | None = None) -> list[Logged]:
        with self._changed:
            return [
                entry
                for entry in self._entries
                if operation in (None, entry.operation) and protocol in (None, entry.protocol)
            ]

    def wait_for(self, wanted: Callable[[Logged], bool], timeout: float = 20.0) -> Logged:
        """Block until a request that is `wanted` has ended. Raises AssertionError after `timeout` seconds."""
        found: list[Logged] = []

        def look() -> bool:
            found[:] = [entry for entry in self._entries if wanted(entry)]
            return bool(found)

        with self._changed:
            if not self._changed.wait_for(look, timeout):
                raise AssertionError(f"no such request within {timeout} s")
            return found[0]

    def clear(self) -> None:
        with self._changed:
            self._entries.clear()


class Exchange:
    """One request with the faults that it meets."""

    def __init__(self, request: web.BaseRequest, protocol: str, call: Call, book: FaultBook) -> None:
        self.request = request
        self.protocol = protocol
        self.call = call
        self.received = 0
        self.code = ""
        self._book = book
        self._armed = book.arm(protocol, call.operation, call.key)
        self._fired: list[Fault] = []
        self.path, _, query = request.raw_path.partition("?")
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        self.raw_query = query

    def header(self, name: str, default: str = "") -> str:
        value = self.request.headers.get(name, default)
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def fire(self, kind: Kind) -> Fault | None:
        """The armed fault of this kind, counted as fired; None when there is none."""
        for fault in self._armed:
            if fault.kind is kind and fault not in self._fired:
                self._fired.append(fault)
                fault.fire()
                return fault
        return None

    def _armed_for(self, kind: Kind) -> Fault | None:
        return next((fault for fault in self._armed if fault.kind is kind and fault not in self._fired), None)

    def settle(self) -> tuple[str, ...]:
        """At the end: faults that could not show are handed back; the kinds that did are returned."""
        for fault in self._armed:
            if fault not in self._fired:
                self._book.disarm(fault)
        return tuple(fault.kind.value for fault in self._fired)

    async def body(self) -> AsyncIterator[bytes]:
        """The request's body as it arrives, after the wire's faults. Raises PeerLeftError, DroppedError."""
        self._say_continue()
        slow: Fault | None = None
        try:
            async for data in self.request.content.iter_any():
                slow = slow or self.fire(Kind.THROTTLE)
                for kind in (Kind.RESET_BODY, Kind.STALL_BODY):
                    fault = self._armed_for(kind)
                    if fault is not None and self.received + len(data) >= fault.after_bytes:
                        first = fault.after_bytes - self.received
                        yield self._count(data[:first])
                        data = data[first:]
                        await self._interrupt(kind)
                yield self._count(data)
                if slow is not None:
                    await slow.pace(len(data))
        except (ConnectionError, web.RequestPayloadError, asyncio.IncompleteReadError) as error:
            raise PeerLeftError from error

    def _say_continue(self) -> None:
        # Answered only once the head was accepted, as the clouds do: a refusal needs no body.
        if self.request.headers.get("Expect", "").lower() != "100-continue":
            return
        if self.fire(Kind.NEVER_CONTINUE) is None and self.request.transport is not None:
            self.request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _count(self, data: bytes) -> bytes:
        flip = self._armed_for(Kind.FLIP_IN_TRANSIT)
        if flip is not None and self.received <= flip.at_byte < self.received + len(data):
            self.fire(Kind.FLIP_IN_TRANSIT)
            spoiled = bytearray(data)
            spoiled[flip.at_byte - self.received] ^= 1
            data = bytes(spoiled)
        self.received += len(data)
        return data

    async def _interrupt(self, kind: Kind) -> None:
        fault = self.fire(kind)
        if fault is not None and kind is Kind.STALL_BODY:
            await self.hold(fault)
        elif fault is not None:
            raise DroppedError

    async def hold(self, fault: Fault) -> None:
        """Wait for the fault's release. Raises PeerLeftError when the client goes away first."""
        held = asyncio.ensure_future(fault.held())
        gone = asyncio.ensure_future(self._peer_gone())
        try:
            await asyncio.wait({held, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not held.done():
                raise PeerLeftError
        finally:
            held.cancel()
            gone.cancel()

    async def _peer_gone(self) -> None:
        # While reading is paused asyncio does not watch the socket, so it is asked directly.
        while (transport := self.request.transport) is not None and not transport.is_closing():
            sock: socket.socket | None = transport.get_extra_info("socket")
            if sock is None or sock.fileno() < 0:
                return
            poller = select.poll()
            poller.register(sock.fileno(), select.POLLHUP | select.POLLERR | select.POLLRDHUP)
            if poller.poll(0):
                return
            await asyncio.sleep(0.05)

    def reset(self) -> None:
        """Drop the connection with RST, so that the client sees a reset and not a tidy end."""
        transport = self.request.transport
        if transport is None:
            return
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def spoil(self, content: Content) -> Content | None:
        """What a lying store keeps of `content`: the whole, a changed copy, or nothing."""
        if self.fire(Kind.DISCARD):
            return None
        if cut := self.fire(Kind.TRUNCATE):
            content = content.truncated(cut.keep if cut.keep >= 0 else content.size // 2)
        flip = self._armed_for(Kind.FLIP_AT_REST)
        if flip is not None and flip.at_byte < content.size:
            self.fire(Kind.FLIP_AT_REST)
            content = content.flipped(flip.at_byte)
        return content

    def logged(self, at: float, beside: int, status: int) -> Logged:
        kept = ("x-amz-", "x-ms-", "x-goog-", "x-upload-", "content-", "if-", "range", "expect", "user-agent")
        headers = {name.lower(): value for name, value in self.request.headers.items()}
        return Logged(
            at=at,
            beside=beside,
            protocol=self.protocol,
            operation=self.call.operation,
            method=self.request.method,
            path=self.path,
            query=self.query,
            bucket=self.call.bucket,
            key=self.call.key,
            headers={name: value for name, value in headers.items() if name.startswith(kept)},
            received=self.received,
            status=status,
            code=self.code,
            faults=self.settle(),
        )


def parse_range(value: str, size: int) -> tuple[int, int] | None:
    """Start and stop (exclusive) of `bytes=a-b`, None when there is no range.

    Raises RefusalError 416 when it begins past the end.
    """
    if not value.startswith("bytes="):
        return None
    first, _, last = value.removeprefix("bytes=").partition("-")
    if first == "":
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    if start >= size:
        raise RefusalError(416, "InvalidRange", "The requested range is not satisfiable")
    return start, stop


def json_ready(entry: Logged) -> dict[str, Any]:
    """A log entry for the control API."""
    return {name: getattr(entry, name) for name in entry.__dataclass_fields__}
