"""The ledger: one SQLite file that knows every recording, upload, attempt and event.

`Ledger` is the daemon's: it holds the file's lock and the only writing connection of the system.
Everything else reads through `connect_readonly`, beside a running daemon or without one. SQLite's
WAL-reset bug (3.7.0 to 3.51.2) needs two writing connections; there never are two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uploaderd.ledger.chain import Attempt, Event
from uploaderd.ledger.reading import connect_readonly
from uploaderd.ledger.writer import Transaction

if TYPE_CHECKING:
    from uploaderd.ledger.holding import Ledger

__all__ = ["Attempt", "Event", "Ledger", "Transaction", "connect_readonly"]


def __getattr__(name: str) -> object:
    """`Ledger` brings sqlite-utils (60 ms), which commands that only read do without (PEP 562)."""
    if name == "Ledger":
        from uploaderd.ledger.holding import Ledger

        return Ledger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
