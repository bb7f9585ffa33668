"""Waiting for whichever comes first, working until something comes, and not waiting for what never does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def first_of(*waits: Awaitable[object]) -> None:
    """Return once one of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def unless(event: asyncio.Event, work: Awaitable[object]) -> None:
    """Do the work, unless the event comes before its end: then it is cancelled, and waited for.

    What the work raises is raised, CancelledError too if it was not cancelled from here.
    """
    task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    by_itself = False
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        by_itself = task.done()
    finally:
        waiting.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
    if by_itself or not task.cancelled():
        task.result()


async def on_own_thread(work: Callable[[], T]) -> T:
    """Carry out what may block, on a thread that nobody has to wait for: a mount may hang for ever.

    Unlike `asyncio.to_thread`, whose threads are waited for when the program ends.
    """
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[T] = loop.create_future()

    def settle(give: Callable[[], None]) -> None:
        def unless_given_up() -> None:
            if not reply.done():
                give()

        try:
            loop.call_soon_threadsafe(unless_given_up)
        except RuntimeError:
            pass  # the program is ending

    def run() -> None:
        try:
            done = work()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            caught = error
            settle(lambda: reply.set_exception(caught))
        else:
            settle(lambda: reply.set_result(done))

    threading.Thread(target=run, name="unawaited", daemon=True).start()
    return await reply


class Pause:
    """A switch to wait for, either way."""

    def __init__(self, *, on: bool = False) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        (self.begun if on else self.ended).set()

    @property
    def on(self) -> bool:
        return self.begun.is_set()

    def begin(self) -> None:
        self.ended.clear()
        self.begun.set()

    def end(self) -> None:
        self.begun.clear()
        self.ended.set()
