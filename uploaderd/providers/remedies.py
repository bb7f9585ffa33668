"""Remedies that are the same at each cloud: for a clock that is off, and for a way there that is not."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

LEAST_SKEW: Final = 240.0
"""Seconds. Google takes no assertion from a clock five minutes off; S3 and Azure allow fifteen."""

_NO_WAY: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})


def clock(date: str | None) -> str:
    """What to do about this machine's clock, if the `Date` of a reply says that it is off; else nothing."""
    try:
        served = parsedate_to_datetime(date or "")
    except ValueError:
        return ""
    if served.tzinfo is None:
        served = served.replace(tzinfo=UTC)
    ahead = (datetime.now(UTC) - served).total_seconds()
    if abs(ahead) < LEAST_SKEW:
        return ""
    off = timedelta(seconds=round(abs(ahead)))
    side = "ahead of" if ahead > 0 else "behind"
    return (
        f"this machine's clock is {off} (h:mm:ss) {side} the provider's: set it, and keep it right"
        " (timedatectl set-ntp true)"
    )


def network(causes: Iterable[BaseException], table: str, address: str = "endpoint_url") -> str:
    """What to do where no connection came about, by the system's error; nothing if it says little.

    Args:
        causes: the error and what led to it.
        table: the provider's, as the configuration names it.
        address: its keys that say where the service is.
    """
    for cause in causes:
        if isinstance(cause, aiohttp.ClientProxyConnectionError):
            return f"the proxy cannot be reached: start it, or correct {table} proxy; it goes on by itself"
        if isinstance(cause, socket.gaierror | aiohttp.ClientConnectorDNSError):
            return f"check this machine's network and DNS, and {table} {address}; it goes on by itself"
        number = cause.errno if isinstance(cause, OSError) else None
        if number in _NO_WAY:
            return "check this machine's network (cable, link, route); it goes on by itself"
        if number == errno.ECONNREFUSED:
            return (
                f"nothing listens there: start the service, or check {table} {address}; it goes on by itself"
            )
        if isinstance(cause, ssl.SSLError):
            return f"check {table} {address}: does the server speak https at that port?"
    return ""
