"""`uploaderd status`."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from uploaderd.cli import exits, say
from uploaderd.cli.opened import configuration
from uploaderd.cli.options import ConfigFile, Json, examples

if TYPE_CHECKING:
    from uploaderd.config import Config
    from uploaderd.report.model import Status

EXAMPLES: Final = examples(
    "uploaderd status                  is everything safe?",
    "uploaderd status --watch          the same, again every second",
    "uploaderd status --check          for monitoring: exit 0, 1 or 3",
    "uploaderd status --json | jq .state",
    "uploaderd status --alive          for restarts: exit 0 or 3, whatever the clouds do",
)
EVERY_SECONDS: Final = 1.0

_CHECK: Final = {
    "SAFE": exits.OK,
    "BEHIND": exits.PROBLEMS,
    "FAILING": exits.PROBLEMS,
    "STOPPED": exits.NOT_RUNNING,
}


def status(
    context: typer.Context,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit 0 if SAFE, 1 if BEHIND or FAILING, 3 if STOPPED."),
    ] = False,
    alive: Annotated[
        bool,
        typer.Option("--alive", help="Only ask the daemon whether it moves: exit 0, or 3 if not within 2 s."),
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Is everything safe? The one word first, then why.

    SAFE: every recording that was found is, or will soon be, at every provider that it requires.
    BEHIND: a recording has been waiting for longer than `behind_after`. FAILING: something needs a
    person. STOPPED: no daemon runs.

    A provider's columns: its state, copies that were proven, uploads that wait, uploads that need a
    person, bytes per second now, and when a copy was last proven.
    """
    if watch and check:
        raise typer.BadParameter("--watch never ends by itself, so there is nothing for --check to say")
    if alive and (watch or check or as_json):
        raise typer.BadParameter("--alive asks the daemon alone; give it without --json, --watch and --check")
    loaded = configuration(context, config)
    if alive:
        _alive(loaded)
        return
    if watch:
        _watch(loaded, as_json=as_json)
        return
    found = take(loaded)
    _show(found, as_json=as_json)
    if check:
        raise typer.Exit(_CHECK[found["state"]])


def take(config: Config) -> Status:
    """The status as it is now. A ledger that cannot be read is part of it.

    Whoever may not read the ledger, but ask its daemon (`socket_group`), has the daemon's own answer.

    Raises:
        LedgerTooNew: a newer version wrote the ledger: what it says is not for this one to judge.
        LedgerError: the person may neither read the ledger nor ask its daemon.
    """
    from uploaderd.errors import LedgerError
    from uploaderd.report import ask

    try:
        return _of_ledger(config)
    except PermissionError as refused:
        told = ask.status(config.web.socket)
        if told is not None:
            return told
        raise LedgerError(
            f"you may not read {refused.filename}, and nobody answers you at {config.web.socket}",
            "ask as the daemon's user (sudo -u), or join the group of [web] socket_group",
        ) from refused


def _of_ledger(config: Config) -> Status:
    from uploaderd.errors import LedgerError, LedgerTooNew
    from uploaderd.ledger.lock import holder
    from uploaderd.ledger.reading import connect_readonly, unreadable
    from uploaderd.report import ask
    from uploaderd.report.status import status as report

    held_by = holder(config.ledger.path)
    live = ask.live(config.web.socket, held_by)
    now = time.time_ns() // 1_000_000
    if not config.ledger.path.exists():
        return report(None, config, held_by, live, now)
    try:
        conn = connect_readonly(config.ledger.path)
        try:
            return report(conn, config, held_by, live, now)
        except sqlite3.Error as error:
            raise unreadable(config.ledger.path, error) from error
        finally:
            conn.close()
    except LedgerTooNew:
        raise
    except LedgerError as fault:
        return report(None, config, held_by, live, now, fault=fault)


def _show(found: Status, *, as_json: bool) -> None:
    if as_json:
        say.data(json.dumps(found, ensure_ascii=False))
        return
    from uploaderd.report.text import status_lines

    say.lines(status_lines(found))


def _alive(config: Config) -> None:
    from uploaderd.ledger.lock import Holder, holder
    from uploaderd.report import ask

    try:
        held_by = holder(config.ledger.path)
    except PermissionError:
        held_by = Holder(0, "", 0)  # not for this person to see; the daemon itself is asked all the same
    moves, text = ask.alive(config.web.socket, held_by)
    (say.data if moves else say.message)(text)
    raise typer.Exit(exits.OK if moves else exits.NOT_RUNNING)


def _watch(config: Config, *, as_json: bool) -> None:
    """Until Ctrl-C, which is how one leaves: it ends with 0."""
    try:
        if as_json or not say.terminal():
            _watch_plain(config, as_json=as_json)
        else:
            _watch_terminal(config)
    except KeyboardInterrupt:
        raise typer.Exit from None


def _watch_plain(config: Config, *, as_json: bool) -> None:
    while True:
        _show(take(config), as_json=as_json)
        if not as_json:
            say.data("")
        say.flush()
        time.sleep(EVERY_SECONDS)


def _watch_terminal(config: Config) -> None:
    from uploaderd.report.text import status_lines

    with say.redrawn(whole_screen=True) as draw:
        while True:
            draw(status_lines(take(config)))
            time.sleep(EVERY_SECONDS)
