"""Waiting for whichever comes first, and working until something comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


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

    What the work raises is raised.
    """
    task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
    if not task.cancelled():
        task.result()


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
