"""Asking the running daemon through its control socket.

It may be busy, gone or somebody else's: then nothing is known, and `status` says what the ledger does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from uploaderd.ledger.lock import Holder
from uploaderd.report.model import Status

LIVE_SECONDS: Final = 0.2
"""How long `status` waits for live values; without them it tells what the ledger knows."""

ALIVE_SECONDS: Final = 2.0

STATUS_SECONDS: Final = 2.0


def live(config_socket: Path, holder: Holder | None) -> Mapping[str, Any] | None:
    """The daemon's live values, or None: no daemon, or no answer in time."""
    if holder is None:
        return None
    for path in sockets(config_socket, holder):
        answer = _get(path, "/api/v1/live", LIVE_SECONDS)
        if answer is not None and answer[0] == 200:
            found = json.loads(answer[1])
            return found if isinstance(found, dict) else None
    return None


def status(config_socket: Path) -> Status | None:
    """The status as the daemon itself tells it; None: no answer. For who may not read its ledger."""
    answer = _get(config_socket, "/api/v1/status", STATUS_SECONDS)
    if answer is None or answer[0] != 200:
        return None
    found: Status = json.loads(answer[1])
    return found


def alive(config_socket: Path, holder: Holder | None) -> tuple[bool, str]:
    """Whether the daemon itself moves, whatever the clouds do; and in words."""
    if holder is None:
        return False, "no daemon holds the ledger"
    for path in sockets(config_socket, holder):
        answer = _get(path, "/healthz", ALIVE_SECONDS)
        if answer is not None:
            if answer[0] == 200:
                return True, "the daemon answers, and its ledger moves"
            return False, f"the daemon answers that its ledger does not move (HTTP {answer[0]})"
    who = f" (process {holder.pid})" if holder.pid else ""
    return False, f"the daemon{who} holds the ledger, but does not answer at {config_socket}"


def sockets(config_socket: Path, holder: Holder) -> Iterable[Path]:
    """Where it may be: as this configuration has it, and as the daemon itself noted beside its ledger."""
    return dict.fromkeys(path for path in (config_socket, holder.socket) if path is not None)


def _get(path: Path, url: str, timeout: float) -> tuple[int, bytes] | None:
    """Status and body; None if nobody answers."""
    from http.client import HTTPException

    from uploaderd.report.unix_http import UnixConnection

    connection = UnixConnection(path, timeout)
    try:
        connection.request("GET", url)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
