"""A part's bytes on their way from the file to the socket, window by window."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from uploaderd.errors import Fault
from uploaderd.model import Checksum
from uploaderd.provider import Body


class Sending:
    """A `provider.Body` in the form that botocore and aiohttp pass on without reading it.

    botocore's validation wants a `read` (botocore/validate.py, `_validate_blob`), its signer a `seek`
    (botocore/crt/auth.py), and its Content-Length comes from `len`. aiobotocore hands whatever is not an
    `io.IOBase` to aiohttp as it is, which streams what can be iterated asynchronously
    (aiohttp/payload.py, `AsyncIterablePayload`); the Content-Length keeps it from chunked encoding.

    Attributes:
        failure: what reading the file raised. aiohttp turns it into a connection error; the caller
            of the request raises this one instead.
        begun: a connection took something of the last sending.
        whole: the last sending came to the end of the range.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self.failure: Exception | None = None
        self.begun = False
        self.whole = len(body) == 0

    @property
    def broken(self) -> bool:
        """Whether it stopped half way, and not for the file's sake."""
        return self.begun and not self.whole and self.failure is None

    def __len__(self) -> int:
        return len(self._body)

    def read(self, _size: int = -1) -> NoReturn:
        raise TypeError("a part is streamed, never read at once: something in the library has changed")

    def seek(self, offset: int, whence: int = 0) -> int:
        """The signer of awscrt asks for it, and does not use it for an unsigned body."""
        if (offset, whence) != (0, 0):
            raise TypeError("a part is streamed from its start")
        return 0

    def __aiter__(self) -> AsyncIterator[memoryview]:
        self.failure = None
        self.begun = False
        self.whole = False
        return _Windows(self, aiter(self._body))


class _Windows:
    """One pass over the body. An object, not a generator: one frame less for each window."""

    __slots__ = ("_inner", "_left", "_sending")

    def __init__(self, sending: Sending, inner: AsyncIterator[bytes | bytearray]) -> None:
        self._sending = sending
        self._inner = inner
        self._left = len(sending)

    def __aiter__(self) -> _Windows:
        return self

    async def __anext__(self) -> memoryview:
        try:
            window = await anext(self._inner)
        except StopAsyncIteration:
            self._sending.whole = self._left == 0
            raise
        except Exception as error:
            self._sending.failure = error
            raise
        self._left -= len(window)
        self._sending.begun = True
        # aiohttp slices each chunk to the length that is left: free for a view, a copy for a bytearray.
        return memoryview(window)


def wire_form(sending: Sending) -> Sending | bytes:
    """As a request takes it: aiohttp would send a body of unknown kind and length 0 in chunks."""
    return sending if len(sending) else b""


async def checksum_of_sent(sending: Sending, body: Body, act: str) -> Checksum:
    """Checksum of what was sent, as it was read for that.

    Raises:
        Fault: there was an answer before it was sent to its end.
    """
    if len(body) == 0:
        return await body.digest()
    if not sending.whole:
        raise Fault(f"{act}: the answer came before the content was sent", code="EarlyAnswer")
    return body.checksum


async def md5_of(body: Body) -> bytes:
    """MD5 of the range, hashed on threads: 256 KiB take half a millisecond, too long for the loop."""
    digest = hashlib.md5(usedforsecurity=False)
    async for window in body:
        await asyncio.to_thread(digest.update, window)
    return digest.digest()


def lively_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket whose peer's death is noticed.

    aiobotocore does not pass `tcp_keepalive` on to its sockets; its `httpsession.py` leaves that open.

    Args:
        address: an entry of `getaddrinfo`, as aiohttp gives it to a socket factory.
    """
    family, kind, protocol = address[:3]
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):  # Linux; elsewhere the system's own two hours stand
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return made
