"""A process's life, played inside the test's own: it ends before or after a chosen step, and takes all along.

Nothing that it asks for after its death reaches the ledger or a provider; what was asked for before it may.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from uploaderd.ledger import Ledger, Transaction
from uploaderd.model import Milliseconds

P = ParamSpec("P")
T = TypeVar("T")


class KilledError(BaseException):
    """Like SIGKILL, it is nothing that `except Exception` catches."""


class Life:
    """`fuse` is the step that ends it, counted from 1, or None. At the step `at`, `event` happens."""

    def __init__(self, fuse: int | None, at: int, event: Callable[[], None]) -> None:
        self._fuse = fuse
        self._at = at
        self._event = event
        self._steps = 0
        self.over = False

    def step(self) -> None:
        self._steps += 1
        if self._steps == self._at:
            self._event()
        if self.over or self._steps == self._fuse:
            self.over = True
            raise KilledError

    async def around(self, call: Callable[[], Awaitable[T]]) -> T:
        """A call with a step before it and one after it."""
        self.step()
        try:
            return await call()
        finally:
            self.step()


class MortalLedger(Ledger):
    """A ledger whose process may die before and after each request."""

    def __init__(self, path: Path, clock: Callable[[], Milliseconds], life: Life) -> None:
        super().__init__(path, clock, "test")
        self._life = life

    async def run(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        if work.__name__ == "_agenda":  # it only reads
            return await super().run(work, *args, **kwargs)
        carry_out = super().run
        return await self._life.around(lambda: carry_out(work, *args, **kwargs))
