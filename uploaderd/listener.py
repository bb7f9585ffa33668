"""Keeps listening for hints below a root, whatever ends them, and says where they do not tell all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from uploaderd.clock import Clock
from uploaderd.hints import Hints, hints
from uploaderd.logs.setup import get_logger
from uploaderd.root import Root

log = get_logger(__name__)

PAUSES: Final = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Seconds before listening again after it ended; the last one for ever."""

SHARE: Final = 4
"""Where a name ended it, the pause is that many times as long as it took to begin (a second at least): a
recorder that uses such names goes on using them, and what its neighbours write is to be heard meanwhile."""

STEADY_SECONDS: Final = 60.0
"""Listening that lasted so long did not fail at once: the pauses begin anew."""

AWAY_SECONDS: Final = 2.0
"""How often it is looked whether the root is there, while it is not."""

UNREADABLE: Final = "a folder may not be read, and keeps others from being watched"
NAME: Final = "the source's path is not UTF-8"
LIMIT: Final = (
    "the kernel's limit of watches is reached: raise the sysctls fs.inotify.max_user_watches and"
    " fs.inotify.max_user_instances"
)

_ADVICE: Final = {UNREADABLE: "let the daemon's user read it, or take it out of the source"}


class Listener:
    """Listens until cancelled.

    Args:
        source: its name, for the log.
        path: the root's.
        clock: waits.
        root: tells how the root is now, by the same object for as long as nothing changes; None before
            anybody looked, or while events are not wanted.
        heard: takes what changed.
        doubt: is called when something may have been missed.
    """

    def __init__(
        self,
        source: str,
        path: bytes,
        clock: Clock,
        root: Callable[[], Root | None],
        heard: Callable[[Hints], Awaitable[None]],
        doubt: Callable[[], None],
    ) -> None:
        self._source = source
        self._path = path
        self._clock = clock
        self._root = root
        self._heard = heard
        self._doubt = doubt
        self._failures = 0
        self._stood: float | None = None
        self._lenient = False
        self._anew = False
        self.listening = False
        """Whether a watch stands."""
        self.deaf = ""
        """Why events are incomplete or not to be had; empty as far as is known."""

    async def run(self) -> None:
        while True:
            root = self._root()
            if root is None or root.missing:
                await self._clock.sleep(AWAY_SECONDS)
                continue
            began, pause = self._clock.monotonic(), 0.0
            try:
                await self._listen(root)
            except PermissionError:
                self._lenient = True
                self.grow_deaf(UNREADABLE)
            except FileNotFoundError:
                pass  # The root, which is looked after elsewhere, or a folder that vanished just then.
            except OSError:
                self.grow_deaf(LIMIT)
            except UnicodeError:
                self.grow_deaf(NAME)
            except RuntimeError as error:
                # Above all a name that is not UTF-8. The sweep finds its file all the same.
                tell = log.debug if self._failures else log.info
                tell("listening for events anew", source=self._source, reason=str(error))
                took = (self._stood or self._clock.monotonic()) - began
                pause = min(PAUSES[-1], max(PAUSES[0], SHARE * took))
            finally:
                self.listening = False
            self._doubt()
            await self._clock.sleep(pause or PAUSES[min(self._failures, len(PAUSES) - 1)])
            self._failures += 1

    def grow_deaf(self, reason: str) -> None:
        """From now on events do not tell all."""
        if self.deaf != reason:
            self.deaf = reason
            log.warning(
                "events are incomplete; the tree is swept every few seconds",
                source=self._source,
                reason=reason,
                hint=_ADVICE.get(reason, ""),
            )
            self._doubt()

    def listen_anew(self) -> None:
        """All folders can be looked into again: watch those, too, that could not be watched."""
        self._anew, self._lenient = True, False
        if self.deaf == UNREADABLE:
            self.deaf = ""

    async def _listen(self, root: Root) -> None:
        """Listen while the root stays the one that it is."""
        began = self._clock.monotonic()
        self._stood = None
        self._anew = False
        async with aclosing(hints(self._path, lenient=self._lenient)) as batches:
            async for batch in batches:
                if not self.listening:
                    self.listening = True
                    self._stood = self._clock.monotonic()
                    # What came before the watch stood was not heard.
                    self._doubt()
                if batch:
                    await self._heard(batch)
                if self._clock.monotonic() - began > STEADY_SECONDS:
                    self._failures = 0
                # A disk that came back is not heard through the watches of before.
                if self._anew or self._root() is not root:
                    return
