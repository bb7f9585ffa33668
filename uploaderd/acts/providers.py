"""The providers that can be asked something: those that the daemon has open, or opened for this alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from uploaderd.acts.acting import Acting
from uploaderd.config import Config, DirectoryProvider
from uploaderd.errors import Fault
from uploaderd.generation import Generation
from uploaderd.ledger import read
from uploaderd.provider import Provider
from uploaderd.providers import open_provider


@dataclass(frozen=True, slots=True)
class Openable:
    """A provider that is open, or why it is not."""

    provider: Provider | None
    why: str = ""


@asynccontextmanager
async def opened(acting: Acting, names: Collection[str]) -> AsyncIterator[Mapping[str, Openable]]:
    """Those of these providers that are in use, each once."""
    if (generation := acting.generation) is not None:
        yield {name: _at_work(generation, name) for name in names if name in generation.pools}
        return
    used = await acting.ledger.run(lambda tx: read.used_providers(tx.conn))
    async with AsyncExitStack() as stack:
        yield {
            name: await open_one(stack, acting.config, name, marked=name in used)
            for name in names
            if name in acting.config.providers and acting.config.providers[name].enabled
        }


def _at_work(generation: Generation, name: str) -> Openable:
    pool = generation.pools[name]
    if pool.paused:
        return Openable(None, "it is paused")
    if pool.provider is None:
        return Openable(None, "it could not be opened yet")
    return Openable(pool.provider)


async def open_one(stack: AsyncExitStack, config: Config, name: str, *, marked: bool) -> Openable:
    """Open a provider; the stack closes it. `marked`: a directory must have its marker."""
    table = config.providers[name]
    try:
        provider = await open_provider(
            name, table, expect_marker=isinstance(table, DirectoryProvider) and marked
        )
    except Fault as fault:
        return Openable(None, fault.message)
    stack.push_async_callback(provider.aclose)
    return Openable(provider)
