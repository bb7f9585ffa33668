"""One HTTP request to somebody else's address, for those who are told: nothing that matters waits for it.

The address is a secret: no fault names more of it than its host. Redirects are not followed, so that what is
sent goes to nobody but whom the operator named.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import aiohttp

from uploaderd import __version__
from uploaderd.clock import Clock
from uploaderd.errors import UploaderdError
from uploaderd.logs import mask
from uploaderd.retry import asked_for

TIMEOUT_SECONDS: Final = 10.0
"""For the whole of a request."""

_STATUS_HINTS: Final = {
    401: "it wants another url or secret",
    403: "it wants another url or secret",
    404: "check the path of its url",
    407: "correct the login in its proxy",
    410: "the receiver has ended it: remove it, or give it another url",
}

_SILENT: Final = "look whether the receiver is at work, or overloaded; it is tried again by itself"
_AWAY: Final = "start the receiver, or check its url and this machine's network; it goes on by itself"


class NotTaken(UploaderdError):
    """The receiver did not take it. `status`: of its answer, if there was one."""

    def __init__(
        self, message: str, hint: str = "", *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.status = status
        self.retry_after = retry_after


class Address:
    """Where requests go. `url` and `proxy` may hold secrets. `aclose` it at the end."""

    def __init__(self, url: str, *, proxy: str | None, ca_file: Path | None, clock: Clock) -> None:
        self._url = url
        self._proxy = proxy
        self._ca_file = ca_file
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self,
        method: Literal["GET", "POST"],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send it once.

        Raises:
            NotTaken: no answer in time, or one that is no success.
        """
        asking = asyncio.ensure_future(self._ask(method, body, headers or {}))
        # By our own clock: aiohttp has no deadline for writing (its #5546), and a test turns ours.
        late = asyncio.ensure_future(self._clock.sleep(TIMEOUT_SECONDS))
        try:
            await asyncio.wait((asking, late), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise NotTaken(f"no answer within {TIMEOUT_SECONDS:.0f}s", _SILENT)
            asking.result()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _fault(error) from None
        finally:
            late.cancel()
            asking.cancel()
            await asyncio.wait((asking,))

    async def _ask(self, method: str, body: bytes | None, headers: Mapping[str, str]) -> None:
        session = await self._connected()
        async with session.request(
            method, self._url, data=body, headers=headers, allow_redirects=False
        ) as reply:
            if 200 <= reply.status < 300:
                return
            message, hint = f"it answered HTTP {reply.status}", _STATUS_HINTS.get(reply.status, "")
            if reply.status >= 500:
                hint = _SILENT
            if 300 <= reply.status < 400:
                message += ", a redirect, which is not followed"
                hint = "set its url to where that leads, if you trust it"
            raise NotTaken(
                message,
                hint,
                status=reply.status,
                retry_after=asked_for(reply.headers.get("Retry-After"), self._clock.now()),
            )

    async def _connected(self) -> aiohttp.ClientSession:
        """Made at the first request, so that a missing `ca_file` is that one's fault, and heals."""
        if self._session is None:
            if self._ca_file is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                try:
                    await asyncio.to_thread(context.load_verify_locations, self._ca_file)
                except OSError as error:
                    raise NotTaken(
                        f"the certificates of {self._ca_file} cannot be loaded: {error.strerror or error}",
                        "correct its ca_file, or that file's permissions",
                    ) from None
            else:
                context = await asyncio.to_thread(ssl.create_default_context)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=1),
                timeout=aiohttp.ClientTimeout(total=None),
                proxy=self._proxy,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"uploaderd/{__version__}"},
            )
        return self._session

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _fault(error: Exception) -> NotTaken:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return NotTaken("its certificate is not trusted", "set its ca_file, or correct its certificate")
        case aiohttp.ClientProxyConnectionError():
            return NotTaken("its proxy cannot be reached", "check its proxy")
        case aiohttp.ClientHttpProxyError():
            return NotTaken(f"its proxy answered HTTP {error.status}", _STATUS_HINTS.get(error.status, ""))
        case aiohttp.ClientConnectorDNSError():
            return NotTaken("its host name is not known", "check the host of its url")
        case aiohttp.ClientConnectorError():
            return NotTaken(
                f"it cannot be reached: {mask(error.os_error.strerror or 'no connection')}", _AWAY
            )
    return NotTaken(f"the connection failed ({type(error).__name__})", _AWAY)
