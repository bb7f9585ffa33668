"""Who may ask what, and what every answer says to browsers.

Over the control socket: whoever its mode lets in may read; to act is for the daemon's own user and root
alone (`control`). Over TCP everything is read-only: with `[web] token`, for whoever brings it; without
one, for this machine's own programs.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import socket
import struct
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Final

from aiohttp import web
from yarl import URL

from uploaderd.web.keys import LIVE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_UCRED: Final = "3i"
"""`struct ucred` of unix(7): pid, uid, gid."""

_NO: Final = 'Basic realm="-", charset="UTF-8"'
"""Makes a browser ask for a password, and tells nothing of what is behind it."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nobody past who may not read; the others learn nothing, not even which addresses exist."""
    if peer(request) is not None:
        return await handler(request)
    token = request.app[LIVE].config.web.token
    if token is not None:
        if not _brings(request, token.get_secret_value()):
            return web.Response(status=401, headers={"WWW-Authenticate": _NO})
    elif not _meant_for_us(request):
        return web.Response(status=421, text="ask by a loopback address, or set [web] token\n")
    return await handler(request)


async def protect(_: web.Request, response: web.StreamResponse) -> None:
    """To every answer (a signal handler): how a browser is to treat it; and no word of what made it."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.pop("Server", None)


def peer(request: web.Request) -> int | None:
    """The user at the other end of the control socket, as the kernel tells; None over TCP."""
    assert request.transport is not None
    end = request.transport.get_extra_info("socket")
    if end is None or end.family != socket.AF_UNIX:
        return None
    ucred = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_UCRED))
    return int(struct.unpack(_UCRED, ucred)[1])


def _brings(request: web.Request, token: str) -> bool:
    """Whether the request has the token: as a bearer's, or as a browser's password of any name."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() != "bearer":
        return False
    # Over bytes, in a time that does not depend on where they differ.
    return hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())


def _meant_for_us(request: web.Request) -> bool:
    """Whether the request names this machine by itself.

    A web page may have its own host's name point to 127.0.0.1 (DNS rebinding), and would then read what
    only this machine's programs may.
    """
    try:
        host = URL(f"//{request.host}").host or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
