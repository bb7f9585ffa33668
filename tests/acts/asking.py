"""A command that runs for a while: what it says is read as it says it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.end_to_end.box import ROOT, UPLOADERD, Box


class Asking:
    """A running command."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self, what: str, *, within: float = 100.0) -> str:
        """The next line of its messages that has this in it."""
        assert self._process.stderr is not None
        async with asyncio.timeout(within):
            while line := (await self._process.stderr.readline()).decode():
                if what in line:
                    return line
        raise AssertionError(f"it ended and never said {what!r}")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    async def ends(self, *, within: float = 100.0) -> int:
        async with asyncio.timeout(within):
            await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode


@asynccontextmanager
async def asked(box: Box, *arguments: str) -> AsyncIterator[Asking]:
    """A command in the background; it must have ended when the block does."""
    process = await asyncio.create_subprocess_exec(
        *UPLOADERD,
        *arguments,
        "--config",
        str(box.config),
        cwd=ROOT,
        env=dict(os.environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Asking(process)
        assert process.returncode is not None, "it still runs"
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
