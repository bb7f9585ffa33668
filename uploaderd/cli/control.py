"""Orders: carried out by the daemon where one runs, by this process where none does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from uploaderd.errors import Refused

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from pathlib import Path

    from uploaderd.acts.orders import Order
    from uploaderd.config import Config
    from uploaderd.ledger.lock import Holder

SILENCE_SECONDS: Final = 60.0
"""How long the daemon may say nothing at all: of what takes time, it tells every second how far it is."""

Progress = Callable[[Mapping[str, Any]], None]


def perform(
    config: Config,
    order: Order,
    progress: Progress = lambda _: None,
    alone: Callable[[], Mapping[str, Any]] | None = None,
) -> Mapping[str, Any]:
    """Have an order carried out; what came of it.

    Args:
        config: whose daemon is asked, if it runs.
        order: what is to be done.
        progress: hears how far it is.
        alone: what does it where no daemon runs; None: the ledger is all that it takes.

    Raises:
        Refused: it cannot be done.
        LedgerError: the ledger cannot be used.
    """
    from uploaderd.ledger.lock import holder

    held_by = holder(config.ledger.path)
    if held_by is not None:
        return through_daemon(config, held_by, order, progress)
    must_own(config)
    return alone() if alone is not None else on_ledger(config, order, progress)


def through_daemon(config: Config, held_by: Holder, order: Order, progress: Progress) -> Mapping[str, Any]:
    """Hand the order to the daemon, and wait for its answer.

    Raises:
        Refused: by the daemon; or it does not answer.
    """
    from http.client import HTTPException

    from uploaderd.report.ask import sockets
    from uploaderd.report.unix_http import UnixConnection

    refused: Exception | None = None
    for path in sockets(config.web.socket, held_by):
        connection = UnixConnection(path, SILENCE_SECONDS)
        try:
            connection.connect()
        except OSError as error:
            refused = error
            continue
        try:
            connection.request("POST", f"/api/v1/acts/{_name(order)}", json.dumps(asdict(order)))
            return _answer(connection.getresponse(), progress)
        except (OSError, HTTPException) as error:
            refused = error
            break
        finally:
            connection.close()
    raise _silent(config, held_by, refused)


def _silent(config: Config, held_by: Holder, why: BaseException | None) -> Refused:
    who = f"the daemon (process {held_by.pid})" if held_by.pid else "the daemon"
    if isinstance(why, PermissionError):
        owner = _owner(config.ledger.path)
        return Refused(
            f"{who} answers only its own user", f"run it as {owner}: sudo -u {owner} uploaderd ..."
        )
    reason = f": {getattr(why, 'strerror', None) or why}" if why is not None else ""
    return Refused(
        f"{who} holds the ledger, but does not answer at {config.web.socket}{reason}",
        "see its log; perhaps it is only just starting or ending",
        kind="again",
    )


def _answer(response: HTTPResponse, progress: Progress) -> Mapping[str, Any]:
    for line in response:
        said = json.loads(line)
        if "progress" in said:
            progress(said["progress"])
        elif "result" in said:
            result: Mapping[str, Any] = said["result"]
            return result
        elif "refused" in said:
            raise Refused(**said["refused"])
    raise ConnectionResetError("it hung up; it is ending, or failed at this (its log tells)")


def _name(order: Order) -> str:
    from uploaderd.acts.orders import ORDERS

    return next(name for name, kind in ORDERS.items() if isinstance(order, kind))


# --- without a daemon --------------------------------------------------------------------------


def on_ledger(config: Config, order: Order, progress: Progress) -> Mapping[str, Any]:
    """Carry the order out on the ledger, with nothing else at work.

    Raises:
        Refused, LedgerError: as `perform`.
    """
    from uploaderd.cli import ending

    return ending.run(_on_ledger(config, order, progress))


async def _on_ledger(config: Config, order: Order, progress: Progress) -> Mapping[str, Any]:
    from uploaderd import __version__
    from uploaderd.acts.acting import Acting, user
    from uploaderd.acts.carry_out import carry_out
    from uploaderd.clock import SystemClock
    from uploaderd.ledger import Ledger

    quiet_logs(config)
    clock = SystemClock()
    ledger = Ledger(config.ledger.path, clock.now, __version__)

    async def tell(how_far: Mapping[str, Any]) -> None:
        progress(how_far)

    await ledger.open()
    try:
        return await carry_out(order, Acting(user(os.getuid()), config, ledger, clock), tell)
    finally:
        await ledger.close()


def quiet_logs(config: Config) -> None:
    """What goes wrong is said by the command itself; secrets are masked in whatever is not.

    `log_levels` is about the daemon's log: a library's debugging would bury what the command says.
    """
    from uploaderd.logs import register_secret
    from uploaderd.logs.setup import configure as configure_logs

    for secret in config.secrets():
        register_secret(secret)
    configure_logs(level="critical", libraries="error")


def must_own(config: Config) -> None:
    """Refuse to write another user's ledger: its daemon could not open what we would leave beside it.

    Raises:
        Refused: that is the case.
    """
    with suppress(FileNotFoundError):
        if config.ledger.path.stat().st_uid != os.geteuid():
            owner = _owner(config.ledger.path)
            raise Refused(
                f"the ledger {config.ledger.path} belongs to {owner}, and no daemon runs that could be asked",
                f"run it as that user: sudo -u {owner} uploaderd ...",
            )


def _owner(path: Path) -> str:
    from uploaderd.acts.acting import user

    try:
        return user(path.stat().st_uid)
    except OSError:
        return "its user"
