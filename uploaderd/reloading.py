"""A configuration that is read anew while the daemon works: when, and whether it can be taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from uploaderd.clock import Clock
from uploaderd.config import Config, ConfigError
from uploaderd.logs.setup import get_logger

log = get_logger(__name__)

SECRETS_SECONDS: Final = 5.0
"""How often it is looked whether a secret file has changed."""


class Reloading:
    """Reads the configuration again when asked to, on a thread, one time after the other.

    Args:
        reload: gives the configuration anew, or raises ConfigError. Blocks on files.
        now: the configuration that is in use.
        take: is handed one that can be taken without a restart; None if there is none, and the log says why.
    """

    def __init__(
        self, reload: Callable[[], Config], now: Callable[[], Config], take: Callable[[Config | None], None]
    ) -> None:
        self._reload = reload
        self._now = now
        self._take = take
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read it; once more, if it is just being read."""
        self._asked.set()

    async def run(self) -> None:
        """Read it whenever that is asked for, until cancelled."""
        while await self._asked.wait():
            self._asked.clear()
            self._take(await asyncio.to_thread(self._read))

    async def look_at_secrets(self, clock: Clock, changed: Callable[[], None]) -> None:
        """Tell when a secret file has changed beneath us, until cancelled."""
        tried = self._now().secret_files.stamps
        while self._now().secret_files.folders:
            await clock.sleep(SECRETS_SECONDS)
            stamps = await asyncio.to_thread(self._now().secret_files.look)
            if stamps != tried:
                tried = stamps  # what is wrong with them is said once
                changed()

    def _read(self) -> Config | None:
        try:
            config = self._reload()
        except ConfigError as error:
            log.error("the new configuration is refused; the old one stays", faults=list(error.faults))
            return None
        except Exception:  # a bug in reading must not end that it is read
            log.exception("the configuration could not be read again; the old one stays")
            return None
        if _places(config) != _places(self._now()):
            log.error(
                "the ledger's path, and [web] but for its token, change only at a restart;"
                " the old configuration stays"
            )
            return None
        return config


def _places(config: Config) -> tuple[object, ...]:
    """What is opened once, at the start."""
    web = config.web
    return config.ledger.path, web.socket, web.socket_group, web.listen, web.metrics_file
