"""Asynchronous work of a command, whose answer is given though a thread hangs on a dead mount."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from uploaderd.cli import exits

T = TypeVar("T")


class _Unawaited(ThreadPoolExecutor):
    """A loop that ends waits for its threads (`shutdown_default_executor`), in Python 3.11 for ever."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        super().shutdown(wait=False, cancel_futures=cancel_futures)


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`; but neither threads nor tasks are waited for: the process ends them (`entry.main`)."""
    runner = asyncio.Runner()
    hung: set[asyncio.Task[Any]] = set()

    async def working() -> T:
        asyncio.get_running_loop().set_default_executor(_Unawaited(thread_name_prefix="asyncio"))
        try:
            return await work
        finally:
            hung.update(await _cut_off())

    try:
        return runner.run(working())
    finally:
        # It would wait for them, for ever: a removal, for one, sees to its end that the file is in one place.
        if not hung:
            runner.close()


async def _cut_off() -> set[asyncio.Task[Any]]:
    """Cancel all other tasks; those that do not end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    return (await asyncio.wait(others, timeout=exits.LINGER_SECONDS))[1] if others else set()
