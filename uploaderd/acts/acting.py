"""What an order is carried out with."""

from __future__ import annotations

import asyncio
import pwd
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Concatenate, ParamSpec, TypeVar

from uploaderd.clock import Clock
from uploaderd.config import Config
from uploaderd.errors import Refused
from uploaderd.generation import Generation
from uploaderd.ledger import Ledger, Transaction, connect_readonly, read

P = ParamSpec("P")
T = TypeVar("T")

Tell = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Takes how far something is, as plain values."""


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Acting:
    """The ledger, and what runs on it.

    Attributes:
        who: the user who asks, for the record.
        at_work: what the daemon has at work now; another one after a reload, None without a daemon.
    """

    who: str
    config: Config
    ledger: Ledger
    clock: Clock
    at_work: Callable[[], Generation | None] = _nothing

    @property
    def generation(self) -> Generation | None:
        return self.at_work()

    async def read(
        self, ask: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Ask the ledger on a thread, beside its writer: what is asked may be long.

        Raises:
            LedgerError: it cannot be read.
        """

        def on_thread() -> T:
            with closing(connect_readonly(self.ledger.path)) as conn:
                return ask(conn, *args, **kwargs)

        return await asyncio.to_thread(on_thread)

    def wake(self) -> None:
        """Something was queued."""
        if (generation := self.generation) is not None:
            generation.wake()


def user(uid: int) -> str:
    """The user's name, for the record."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def recording(tx: Transaction, public_id: str) -> read.RecordingRow:
    """The recording with that id.

    Raises:
        Refused: there is none.
    """
    found = read.recording(tx.conn, public_id)
    if found is None:
        raise Refused(f"the ledger knows no recording with the id {public_id}", kind="usage")
    return found


def known(name: str | None, names: Mapping[str, object], what: str) -> None:
    """Refuse an unknown name, with the nearest known one.

    Raises:
        Refused: that is it.
    """
    if name is None or name in names:
        return
    near = get_close_matches(name, names, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else f"; known are: {', '.join(names) or 'none'}"
    raise Refused(f"there is no {what} {name!r}{meant}", kind="usage")
