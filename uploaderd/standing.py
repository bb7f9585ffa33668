"""How a provider stands: its gate, its probes, and what the ledger says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from uploaderd.clock import Clock
from uploaderd.errors import CannotLook, Fault
from uploaderd.gate import Closed, Gate, Position
from uploaderd.ledger import Ledger, health
from uploaderd.logs.setup import get_logger
from uploaderd.model import FailureClass, Milliseconds
from uploaderd.provider import Provider
from uploaderd.waiting import first_of

log = get_logger(__name__)

PROBE_SECONDS: Final = 30.0
"""How long a provider may take to answer a probe."""

SEEN: Final = 100
"""Kinds of unrecognised failures that are remembered as logged."""


class Standing:
    """One provider's gate, kept in step with the ledger.

    It begins closed and is probed at once: a wrong bucket or key shows at the start, not with the first
    recording.
    """

    def __init__(
        self, name: str, provider_id: int, ledger: Ledger, clock: Clock, chance: Callable[[], float]
    ) -> None:
        self._id = provider_id
        self._ledger = ledger
        self._clock = clock
        self._gate = Gate(chance)
        self._probe_in = 0.0
        self._ill = True
        """Whether the ledger may say that the provider is in trouble: true until something worked."""
        self._moved = asyncio.Event()
        self._hurried = asyncio.Event()
        self._seen: set[tuple[str, str]] = set()
        self._log = log.bind(provider=name)

    def at(self, position: Position) -> bool:
        return self._gate.at(position)

    def room(self, working: int, slots: int) -> int:
        """How many more uploads may begin beside `working` others."""
        return self._gate.room(working, slots)

    def begin(self) -> None:
        """The provider was opened, which says nothing yet: close, and probe at once."""
        self._gate.position = Position.CLOSED
        self._probe_in = 0.0

    async def cannot_open(self, fault: Fault) -> float:
        """It could not even be opened; the seconds to wait before it is tried again."""
        closed = self._gate.probe_failed(fault)
        await self._troubled(closed)
        return closed.probe_in

    async def failed(self, fault: Fault) -> None:
        """An upload failed by no fault of its own."""
        if (closed := self._gate.failed(fault)) is not None:
            await self._troubled(closed)

    async def works(self) -> None:
        """The provider showed that it works."""
        self._gate.succeeded()
        self._moved.set()
        if self._ill:
            well = await self._ledger.insist(health.provider_well, self._id)
            self._ill = False
            if well:
                self._log.info("provider works again")

    def hurry(self) -> None:
        """Probe now, if a probe is waited for."""
        self._hurried.set()

    async def probe(self, provider: Provider, stopping: asyncio.Event) -> None:
        """Wait until it is time, then ask the provider whether it works again.

        Only a stop, a person in a hurry or an upload that succeeded after all cuts the wait short; new
        work does not.
        """
        self._moved.clear()
        self._hurried.clear()
        await first_of(
            self._clock.sleep(self._probe_in), stopping.wait(), self._moved.wait(), self._hurried.wait()
        )
        if stopping.is_set() or not self._gate.at(Position.CLOSED):
            return
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await provider.probe()
        except CannotLook:
            self._gate.probed()  # the credentials may not ask; an upload will tell
        except (Fault, TimeoutError) as error:
            fault = (
                error
                if isinstance(error, Fault)
                else Fault(f"no answer in {PROBE_SECONDS:g} s", code="timeout")
            )
            self.log_unrecognised(fault)
            await self._troubled(self._gate.probe_failed(fault))
        else:
            self._gate.probed()
        if self._gate.at(Position.TRIAL):
            await self._ledger.run(health.provider_due, self._id)

    def log_unrecognised(self, fault: Fault) -> None:
        """An error that no table knows is logged in full, once."""
        kind = (type(fault).__name__, fault.code)
        if not fault.recognised and kind not in self._seen and len(self._seen) < SEEN:
            self._seen.add(kind)
            self._log.error("unrecognised failure; taken for transient", exc_info=fault, **told(fault))

    async def _troubled(self, closed: Closed) -> None:
        self._ill = True
        self._probe_in = closed.probe_in
        at = Milliseconds(self._clock.now() + int(closed.probe_in * 1000))
        if await self._ledger.insist(health.provider_troubled, self._id, closed.fault, at):
            paused = closed.fault.failure is FailureClass.PROVIDER
            self._log.error("provider paused" if paused else "provider is down", **told(closed.fault))


def told(fault: Fault) -> Mapping[str, object]:
    """A fault as a log line has it."""
    facts = {
        "reason": fault.message,
        "hint": fault.hint,
        "failure": str(fault.failure),
        "code": fault.code,
        "http_status": fault.http_status,
        "request_id": fault.request_id,
    }
    return {name: value for name, value in facts.items() if value}
