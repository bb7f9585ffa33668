"""Asynchronous work of a command, whose answer is given though a thread hangs on a dead mount."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class _Unawaited(ThreadPoolExecutor):
    """A loop that ends waits for its threads (`shutdown_default_executor`), in Python 3.11 for ever."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        super().shutdown(wait=False, cancel_futures=cancel_futures)


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`; but no thread is waited for: they are ended with the process (`entry.main`)."""

    async def working() -> T:
        asyncio.get_running_loop().set_default_executor(_Unawaited(thread_name_prefix="asyncio"))
        return await work

    return asyncio.run(working())
