"""Carries one recording to one provider, in a process that kills itself at a step.

A step is the moment before or after a write to the ledger or a call to the provider: the seam is here, in a
subclass of the ledger and around the provider's methods, and nothing in the product knows of it.

`python -m tests.kill.stepper` reads orders, one JSON object a line, carries each out in a process of its own
(a fork, so that the libraries are loaded once) and answers with how that ended and what steps it took.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from tests.contract.acts import opened
from tests.pool.conftest import LeapingClock
from uploaderd import beneath, finished
from uploaderd.attempts import Surroundings
from uploaderd.ledger import Ledger, Transaction, intake, leftovers, read, work
from uploaderd.model import Claim, FinishedBy, FoundBy, OnConflict, OnNewVersion
from uploaderd.provider import Provider
from uploaderd.wishes import Wishes
from uploaderd.worker import Pool

P = ParamSpec("P")
T = TypeVar("T")

ROOT: Final = Path(__file__).parents[2]
CALLS: Final = ("probe", "stat", "open", "strays", "parts", "put_part", "complete", "put", "abort")
SECONDS: Final = 30.0
"""After which a run that does not end has failed."""


@dataclass(frozen=True)
class Order:
    """What to do. `at` is the step to die at, counted from 1; 0 is to live."""

    folder: str
    name: str
    settings: dict[str, Any]
    part_size: int
    at: int = 0

    @property
    def ledger(self) -> Path:
        return Path(self.folder) / "ledger.db"

    @property
    def source(self) -> Path:
        return Path(self.folder) / "recordings"

    @property
    def key(self) -> str:
        return f"cams/{self.name}"


@dataclass(frozen=True)
class Ended:
    """`killed`: it died at the step that was asked for; else it ended well. `steps` up to there."""

    killed: bool
    steps: list[str]


class Stepper:
    """The process that takes orders. A context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kill.stepper"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(SECONDS)
        self._process.stdout.close()

    def run(self, order: Order) -> Ended:
        """Raises AssertionError if it ended in another way than it should."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert not answer["failure"], answer["failure"]
        return Ended(answer["killed"], answer["steps"])


# --- in the process ----------------------------------------------------------------------------------


@dataclass
class Steps:
    """Counts the steps, writes their names down, and dies at the one that it was told."""

    at: int
    written: int
    taken: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    def step(self, name: str) -> None:
        self.taken += 1
        os.write(self.written, f"{name}\n".encode())
        if self.taken == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, what: str, call: Callable[P, Any]) -> Callable[P, Any]:
        async def stepped(*args: P.args, **kwargs: P.kwargs) -> Any:
            self.seen[what] += 1
            name = f"{what} {self.seen[what]}"
            self.step(f"before {name}")
            result = await call(*args, **kwargs)
            self.step(f"after {name}")
            return result

        return stepped


class SteppedLedger(Ledger):
    """Steps around every request that changed something, or would have."""

    steps: Steps
    pool: Pool
    provider: int

    async def run(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        name = work.__name__
        if name == "_agenda":  # it only reads
            return await super().run(work, *args, **kwargs)
        carried_out = self.steps.around(f"ledger {name}", super().run)
        result: T = await carried_out(work, *args, **kwargs)
        if hasattr(self, "pool") and await super().run(settled, self.provider):
            self.pool.stop()  # here, so that it takes the same steps each time
        return result


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the log
    for line in sys.stdin:
        order = Order(**json.loads(line))
        answers.write(json.dumps(carried_out(order)) + "\n")
        answers.flush()


def carried_out(order: Order) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            asyncio.run(asyncio.wait_for(carry_out(order, Steps(order.at, writing)), SECONDS))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        steps = pipe.read().splitlines()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    killed = code == -signal.SIGKILL and len(steps) == order.at
    failure = "" if killed or code == 0 else f"{order}: ended with {code} after {steps}"
    return {"killed": killed, "steps": steps, "failure": failure}


async def carry_out(order: Order, steps: Steps) -> None:
    """As the daemon does it: recover, queue what is there, work until nothing is left to do."""
    clock = LeapingClock()
    ledger = SteppedLedger(order.ledger, clock.now, "test")
    ledger.steps = steps
    await ledger.open()
    await ledger.run(work.recover)
    source = await ledger.run(intake.register_source, "cams", os.fsencode(order.source))
    provider = await ledger.run(intake.register_provider, "tested", order.settings["type"], "target")
    await ledger.run(intake.enqueue, [recording(order, source, provider, ledger)])

    async def opened_and_stepped() -> Provider:
        made = await opened(order.settings)
        for name in CALLS:
            if hasattr(made, name):
                setattr(made, name, steps.around(name, getattr(made, name)))
        return made

    surroundings = Surroundings(
        wishes=lambda claim, rate: wishes(order),
        resweep=nothing,
        offer=lambda name, path: None,
        safe=lambda claim, holders: None,
        chance=random.Random(7).random,
    )
    pool = Pool(
        "tested", provider, opened_and_stepped, ledger, clock, surroundings, max_uploads=1, max_parts=1
    )
    ledger.pool, ledger.provider = pool, provider
    await pool.run()
    await ledger.close()


def recording(order: Order, source: int, provider: int, ledger: Ledger) -> intake.NewRecording:
    fd = beneath.open_beneath(os.fsencode(order.source), os.fsencode(order.name))
    try:
        status = os.fstat(fd)
        identity = beneath.identity_of(status, beneath.fingerprint(fd, status.st_size))
    finally:
        os.close(fd)
    upload = intake.NewUpload(provider, order.key, required=True)
    return intake.NewRecording(
        source,
        os.fsencode(order.name),
        identity,
        FoundBy.SWEEP,
        FinishedBy.LEASE,
        LeapingClock().now(),
        (upload,),
        1,
    )


def settled(tx: Transaction, provider: int) -> bool:
    return read.totals(tx.conn).waiting == 0 and leftovers.next_due(tx, provider) is None


def wishes(order: Order) -> Wishes:
    return Wishes(
        content_type="video/mp4",
        metadata={},
        on_conflict=OnConflict.SUFFIX,
        on_new_version=OnNewVersion.KEEP_BOTH,
        part_size=order.part_size,
        rate=None,
        writer_has=finished.writer_has,
    )


async def nothing(_: str | Claim) -> None:
    """Nobody listens."""


if __name__ == "__main__":
    main()
