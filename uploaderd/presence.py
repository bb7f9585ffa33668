"""Is a source there, and is it the one that was there? What the watcher goes by, and the ledger is told."""

from __future__ import annotations

from collections.abc import Callable

from uploaderd.errors import SourceMissing
from uploaderd.keys import text_of
from uploaderd.ledger import Ledger, health
from uploaderd.ledger.intake import source_device
from uploaderd.logs.setup import get_logger
from uploaderd.model import SourceState
from uploaderd.mounts import Mount
from uploaderd.root import Looks, Root

log = get_logger(__name__)


class Presence:
    """One source's root, as it was last looked at.

    Args:
        path: absolute.
        changed: called when the root came back, or is another one: what is below it is in doubt.
    """

    def __init__(
        self, name: str, path: bytes, source_id: int, ledger: Ledger, changed: Callable[[], None]
    ) -> None:
        self._name = name
        self._path = path
        self._id = source_id
        self._ledger = ledger
        self._changed = changed
        self._looks = Looks(path)
        self._remembered: int | None = None
        self.root: Root | None = None
        """None until it was looked at. The same object for as long as nothing changes: that of a disk that
        went and came back is another one, though its numbers are the same."""

    @property
    def missing(self) -> str:
        """Why it counts as missing; empty while it is there, and until it was looked at."""
        return self.root.missing if self.root is not None else ""

    @property
    def there(self) -> bool:
        return self.root is not None and not self.root.missing

    @property
    def inodes(self) -> bool:
        """Whether inodes mean something."""
        return self.root is None or self.root.mount is not Mount.NETWORK

    async def begin(self) -> None:
        """Look for the first time: the ledger knows on which device the root was.

        Raises:
            LedgerError: the ledger cannot be used.
        """
        self._remembered = await self._ledger.run(source_device, self._id)
        await self.look()

    async def look(self) -> None:
        """See whether the root is there, and which; tell the ledger what is new.

        Raises:
            LedgerError: it could not be told, and is the next time.
        """
        root = await self._looks.look(self._remembered)
        before = self.root
        if before is None or (before.missing, before.device) != (root.missing, root.device):
            state = SourceState.MISSING if root.missing else SourceState.OK
            await self._ledger.run(health.source_seen, self._id, state, root.device)
            if root.missing:
                log.error(
                    "the source is missing; nothing of it counts as deleted, and it goes on by itself",
                    source=self._name,
                    path=text_of(self._path),
                    reason=root.missing,
                )
            elif before is not None:
                log.info("the source is there again", source=self._name, path=text_of(self._path))
        if before != root:
            self.root = root  # only now: what the ledger could not take is told again
        if not root.missing:
            self._remembered = root.device
            if before is not None and before != root:
                self._changed()

    async def require(self) -> None:
        """Look now.

        Raises:
            SourceMissing: the root is not there.
            LedgerError: as `look`.
        """
        await self.look()
        if not self.there:
            reason = self.missing or "unknown"
            raise SourceMissing(f"the source {self._name} is missing: {reason}", code="missing")

    def close(self) -> None:
        self._looks.close()
