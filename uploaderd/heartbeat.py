"""The heartbeat: an address that is asked for while the word is SAFE. Whoever waits there for the next one
hears of a dead daemon, machine or network, too, which none of them could tell of.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from uploaderd.clock import Clock
from uploaderd.config import Heartbeat
from uploaderd.logs.setup import get_logger
from uploaderd.model import Word
from uploaderd.outgoing import Address, NotTaken

log = get_logger(__name__)


async def beat(config: Heartbeat, word: Callable[[], Awaitable[str]], clock: Clock) -> None:
    """Until cancelled; at once, if no address is configured. After one that fails comes the next."""
    if config.url is None:
        return
    address = Address(
        config.url.get_secret_value(),
        proxy=config.proxy.get_secret_value() if config.proxy is not None else None,
        ca_file=config.ca_file,
        clock=clock,
    )
    said = ""
    try:
        while True:
            if await word() == Word.SAFE:
                try:
                    await address.ask("GET")
                except NotTaken as fault:
                    if fault.message != said:
                        log.warning("the heartbeat is not heard", reason=fault.message, hint=fault.hint)
                    said = fault.message
                else:
                    if said:
                        log.info("the heartbeat is heard again")
                    said = ""
            await clock.sleep(config.every)
    finally:
        await address.aclose()
