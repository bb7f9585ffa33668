"""How much time has truly passed, whatever is done to the wall's clock: no file may go before its time.

A machine may start in 1970, or at the hour at which it was last shut down, and be set right minutes later:
by the wall's clock alone, what became safe meanwhile is decades old then. So time is counted as well as it
is seen to pass, by the machine's own clock, which nobody sets. The ledger remembers the stretches in which
both clocks went together; in each, the time at which a recording became safe tells how much had been seen
to pass by then. Of two stretches that fit, the later one counts.

Time in which the machine was off cannot be told from a clock that was set: it does not count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from uploaderd.ledger.writer import Transaction
from uploaderd.logs.setup import get_logger
from uploaderd.model import Milliseconds

log = get_logger(__name__)

STEP_MS: Final = 1_000
"""By more than that the clocks do not come apart by themselves (NTP slews both alike): one was set."""

MOST: Final = 1_000
"""Stretches that are remembered, the latest: a machine that starts every ten minutes has 144 a day."""

_NAME: Final = "passage"
"""Of the record in `meta`."""


@dataclass(frozen=True, slots=True)
class Span:
    """Of the wall's clock, in milliseconds: later than `after`, and not later than `upto`."""

    after: int
    upto: int


@dataclass(frozen=True, slots=True)
class Young(Span):
    """When that became safe which is not ripe yet: what is so much later than `ripe` is so in so much."""

    ripe: int


@dataclass(frozen=True, slots=True)
class Ripe:
    """What has been safe for `keep` milliseconds: by the wall's clock, and in none of the `young` spans."""

    now: Milliseconds
    keep: int
    young: tuple[Young, ...] = ()

    @property
    def before(self) -> int:
        return self.now - self.keep

    def spans(self) -> Iterator[Span]:
        """When that became safe which is ripe."""
        after = -1
        for young in sorted(self.young, key=lambda span: span.after):
            if after < (upto := min(young.after, self.before)):
                yield Span(after, upto)
            after = max(after, young.upto)
        if after < self.before:
            yield Span(after, self.before)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """From `start` to `end` the wall's clock was `ahead` of the time that had been seen to pass."""

    start: int
    end: int
    ahead: int


@dataclass(frozen=True, slots=True)
class _Record:
    """What the ledger has.

    Attributes:
        boot: of the machine, since which its clock goes.
        base: what had been seen to pass when that clock was 0.
        attempts: how many there were when the last stretch began; its `end` is still open.
        stretches: the latest last.
    """

    boot: str
    base: int
    attempts: int
    stretches: tuple[_Stretch, ...]


class Passage:
    """Looks at both clocks in each transaction. Belongs to the ledger's thread.

    Args:
        machine: seconds, as `clock.since_boot`.
        boot: tells one start of the machine from another (`clock.boot`).
    """

    def __init__(self, machine: Callable[[], float], boot: str) -> None:
        self._machine = machine
        self._boot = boot
        self._record: _Record | None = None
        self._stored = False
        """Whether `_record` is what the ledger has: what was written may have come to nothing."""
        self._seen: int | None = None
        """Counted without a gap; None at first, when the clocks were not looked at together yet."""

    def look(self, tx: Transaction) -> None:
        """To be called before anything else in a transaction."""
        machine = round(self._machine() * 1000)
        if not self._stored:
            self._record, self._stored = _read(tx), True
        record = self._record
        if record is None:
            self._write(tx, _Record(self._boot, -machine, _attempts(tx), (_Stretch(tx.now, tx.now, tx.now),)))
            return
        current, seen = record.stretches[-1], machine + record.base
        if record.boot == self._boot and abs(tx.now - seen - current.ahead) <= STEP_MS:
            self._seen = seen
            return
        if self._seen is not None:
            self._seen, end = seen, seen + current.ahead
            log.warning(
                "the clock was set: keep_for goes on by the time that truly passed, so no file goes early",
                forward_seconds=round((tx.now - end) / 1000),
            )
        else:
            # Nothing became safe since the last attempt, and what passed since then nobody saw.
            end = max(current.start, _last_attempt(tx, record.attempts) or 0)
            seen = end - current.ahead
        stretches = (
            *record.stretches[-MOST:-1],
            replace(current, end=end),
            _Stretch(tx.now, tx.now, tx.now - seen),
        )
        self._write(tx, _Record(self._boot, seen - machine, _attempts(tx), stretches))

    def ripe(self, now: Milliseconds, keep: int) -> Ripe:
        """What has been safe for so many milliseconds, `now`, in the transaction that looked last."""
        record = self._record
        assert record is not None
        current = record.stretches[-1]
        seen = now - current.ahead if self._seen is None else self._seen
        stretches = (*record.stretches[:-1], replace(current, end=max(now, seen + current.ahead)))
        if not keep:
            return Ripe(now, keep)
        ripe = [seen - keep + one.ahead for one in stretches]
        young = (
            Young(max(at, one.start - STEP_MS - 1), one.end + STEP_MS, at)
            for at, one in zip(ripe, stretches, strict=True)
        )
        return Ripe(now, keep, tuple(span for span in young if span.after < span.upto))

    def _write(self, tx: Transaction, record: _Record) -> None:
        self._record, self._stored = record, False
        stretches = [[one.start, one.end, one.ahead] for one in record.stretches]
        value = json.dumps([record.boot, record.base, record.attempts, stretches])
        tx.conn.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_NAME, value))


def _read(tx: Transaction) -> _Record | None:
    row = tx.conn.execute("SELECT value FROM meta WHERE name = ?", (_NAME,)).fetchone()
    if row is None:
        return None
    boot, base, attempts, stretches = json.loads(row[0])
    return _Record(boot, base, attempts, tuple(_Stretch(*one) for one in stretches))


def _attempts(tx: Transaction) -> int:
    return int(tx.conn.execute("SELECT coalesce(max(id), 0) FROM attempts").fetchone()[0])


def _last_attempt(tx: Transaction, after: int) -> int | None:
    """When the last of the attempts behind that one ended; each that made anything safe is among them."""
    row = tx.conn.execute(
        "SELECT ended_at FROM attempts WHERE id > ? ORDER BY id DESC LIMIT 1", (after,)
    ).fetchone()
    return None if row is None else int(row[0])
