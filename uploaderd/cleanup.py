"""From safe to gone: when the local files of a source are removed, and what becomes of those that stay.

How one is removed is in `removing`. A removal that a crash cut off is settled before the source is
watched again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Final

from uploaderd.clock import Clock, wait_for
from uploaderd.config import Source
from uploaderd.copies import CleanupProvider
from uploaderd.errors import (
    FileFault,
    FileVanished,
    LedgerBroken,
    LedgerError,
    LedgerFull,
    SourceMissing,
    UploaderdError,
)
from uploaderd.keys import text_of
from uploaderd.ledger import Event, Ledger, Transaction, removal
from uploaderd.ledger.intake import source_device
from uploaderd.ledger.removal import Begun, Due
from uploaderd.logs.setup import get_logger
from uploaderd.model import Milliseconds
from uploaderd.quarantine import Doubt, nearest_device, put_aside_below, put_back_at, settle
from uploaderd.removing import NotNow, Remover, Stuck, Threads
from uploaderd.root import Looks

log = get_logger(__name__)

BATCH: Final = 64
"""Recordings taken from the ledger at once."""

TOGETHER: Final = 8
"""Files on their way out at the same time: their commits share a sync, their questions wait together."""

TROUBLE_SECONDS: Final = (30.0, 60.0, 120.0, 300.0)
"""Until a provider that could not be asked is asked again: the first time, the second, ..."""

OPENING_SECONDS: Final = 30.0
"""For which providers are waited for that are not open yet; more is trouble like any other."""

ROOT_SECONDS: Final = 60.0
"""Until a source that is missing, or a removal that could not be settled, is looked at again."""

LEDGER_SECONDS: Final = 5.0

_DAY: Final = 86_400.0
AGAIN_SECONDS: Final[Mapping[str, float]] = {
    "writer": 300.0,
    # Only another configuration changes these: see `_reconsider`.
    "quiet": _DAY,
    "no-lease": _DAY,
    "same-device": _DAY,
    "file-system": _DAY,
}
"""Until a file is looked at again that was kept, by reason."""

AGAIN_OTHERWISE: Final = 3_600.0


class Cleaner:
    """Removes the files of one source whose recordings are safe, if its configuration says so.

    Args:
        providers: by name; those that are not among them are not in use.
        look_at: told a path at which there may be another file than the ledger has.
        queued: told that an upload was queued.
        spare: folders that are never removed, however empty: the roots of all sources.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        source_id: int,
        ledger: Ledger,
        clock: Clock,
        providers: Mapping[str, CleanupProvider],
        *,
        look_at: Callable[[bytes], None],
        queued: Callable[[], None],
        spare: Collection[bytes] = (),
    ) -> None:
        self._rules = source.cleanup
        self._root = os.fsencode(source.path).rstrip(b"/") or b"/"
        self._id = source_id
        self._ledger = ledger
        self._clock = clock
        self._providers = providers
        self._look_at = look_at
        self._looks = Looks(self._root)
        self._on_thread = Threads(f"cleanup-{name}")
        self._remover = Remover(
            self._root,
            self._rules,
            ledger,
            providers,
            self._on_thread,
            queued=queued,
            look_at=look_at,
            spare=spare,
            marked=source.finished == "marker",
        )
        self._wake = asyncio.Event()
        self._unsettled = True
        self._settling = asyncio.Lock()
        self._away: dict[int, Begun] = {}
        """Removals that were cut off, below a mount that is missing now: looked at again until it is back."""
        self._trouble: dict[str, tuple[int, float]] = {}
        """Providers that could not be asked: how often in a row, and until when they are left alone."""
        self._log = log.bind(source=name)

    def wake(self) -> None:
        """A recording became safe."""
        self._wake.set()

    async def settle(self) -> None:
        """Undo, or finish on record, what a crash cut off. To be called before the source is watched.

        While the source is missing nothing is done; `run` comes back to it.

        Raises:
            LedgerError: it could not be written.
        """
        # Once only, and one at a time: what is begun later is being carried out, not cut off.
        async with self._settling:
            if not self._unsettled or await self._missing():
                return
            settled = True
            for one in await self._ledger.run(removal.begun, self._id):
                settled &= await self._settle(one)
            self._unsettled = not settled

    async def run(self) -> None:
        """Remove what is due until cancelled; what is aside then is put back.

        Raises:
            LedgerBroken: the ledger's storage failed.
        """
        try:
            await self._bring_back_strangers()
            if self._removes:
                await self._reconsider()
                await self._until_open()
            while self._removes or self._unsettled or self._away:
                try:
                    pause = await self._turn()
                except LedgerFull as full:
                    self._log.error("the ledger takes nothing; no file is removed", reason=str(full))
                    pause = LEDGER_SECONDS
                if pause != 0:
                    await wait_for(self._wake, self._clock, pause)
        finally:
            self._looks.close()

    @property
    def _removes(self) -> bool:
        return self._rules.policy == "delete-when-safe"

    async def _turn(self) -> float | None:
        """One batch, or whatever there is to do; seconds until the next (None: when woken)."""
        if self._unsettled:
            await self.settle()
        if self._unsettled or await self._missing():
            return ROOT_SECONDS
        for one in list(self._away.values()):
            await self._settle(one)
        if not self._removes:
            return ROOT_SECONDS if self._away else 0
        due, at = await self._ledger.run_in_need(self._due_and_next)
        if due:
            await self._batch(due)
            return 0
        pause = None if at is None else max(0.001, (at - self._clock.now()) / 1000)
        return min(ROOT_SECONDS, ROOT_SECONDS if pause is None else pause) if self._away else pause

    def _due_and_next(self, tx: Transaction) -> tuple[list[Due], Milliseconds | None]:
        """At one time: what becomes due between two questions would be in the answer to neither."""
        ripe = self._ledger.passage.ripe(tx.now, round(self._rules.keep_for * 1000))
        due = removal.due(tx, self._id, ripe, BATCH)
        return due, None if due else removal.next_due(tx, self._id, ripe)

    async def _missing(self) -> bool:
        remembered = await self._ledger.run(source_device, self._id)
        # Who waits for it is the watcher, too, which is to tell of a mount that hangs.
        return bool((await self._looks.look(remembered)).missing)

    # --- what was cut off --------------------------------------------------------------------------

    async def _settle(self, one: Begun) -> bool:
        about = {"path": text_of(one.path)}
        try:
            path = await self._on_thread(settle, self._root, one.path, one.aside, one.identity.inode)
        except (OSError, UploaderdError) as error:
            self._log.error("a file that was put aside cannot be put back yet", reason=str(error), **about)
            return False
        if path is None and await self._is_away(one):
            if one.recording_id not in self._away:
                self._log.error(
                    "a removal was cut off, and its folder is not there: whether the file is, is not known",
                    hint="mount the disk that belongs below the source; it is then settled by itself",
                    **about,
                )
            self._away[one.recording_id] = one
            return True
        self._away.pop(one.recording_id, None)
        if path is None:
            gone = {**about, "size": one.identity.size, "how": "found gone after a crash"}
            await self._ledger.run_in_need(removal.removed, one.recording_id, gone)
            self._log.info("a removal had come to its end before a crash", **about)
        else:
            back = {"path": text_of(path), "how": "found after a crash"}
            await self._ledger.run_in_need(removal.put_back, one.recording_id, back)
            self._log.warning("a removal was cut off by a crash; its file is put back", **about)
            self._look_at(path)
        return True

    async def _is_away(self, one: Begun) -> bool:
        """Whether the folder of a file is that below a mount which is missing: then it is not gone.

        Its device was another one than the root's, and now the folder is on the root's own. A file of the
        root's own device has that one's number, of now or, where a restart changed it, as remembered.
        """
        remembered = await self._ledger.run(source_device, self._id)
        try:
            root = await self._on_thread(nearest_device, self._root, b"")
            folder = await self._on_thread(nearest_device, self._root, one.path)
        except OSError:
            return True
        return folder == root and one.identity.device not in (root, remembered)

    async def _bring_back_strangers(self) -> None:
        """Put back what was put aside by a removal that no ledger knows of: it was lost, or restored."""
        below = put_aside_below(self._root)
        while paths := await self._on_thread(lambda: list(islice(below, BATCH))):
            for path in paths:
                if await self._ledger.run(removal.is_begun, os.path.basename(path)):
                    continue
                try:
                    back = await self._on_thread(put_back_at, self._root, path)
                except (OSError, UploaderdError) as error:
                    self._log.error("cannot be put back", path=text_of(path), reason=str(error))
                    continue
                detail = {"path": text_of(back), "how": "no removal of it is on record"}
                await self._ledger.run_in_need(_note, Event("put-back", detail=detail))
                self._log.warning("a file that was put aside is put back", **detail)
                self._look_at(back)

    # --- what is due -------------------------------------------------------------------------------

    async def _reconsider(self) -> None:
        """Look again at what this configuration may not keep any more."""
        reasons = ["quiet", "no-lease"] if self._rules.without_lease else []
        if any(provider.folder is None for provider in self._providers.values()):
            reasons.append("same-device")
        while reasons and await self._ledger.run(removal.reconsider, self._id, reasons) == removal.PAGE:
            pass

    async def _until_open(self) -> None:
        until = self._clock.monotonic() + OPENING_SECONDS
        while self._clock.monotonic() < until and not all(
            provider.opened() for provider in self._providers.values()
        ):
            await self._clock.sleep(OPENING_SECONDS / 100)

    async def _batch(self, due: Sequence[Due]) -> None:
        """Deal with each; when it returns, none of them is due any more."""
        later = [one.recording_id for one in due if not self._may_go(one)]
        if later:
            await self._put_off(later)
        room = asyncio.Semaphore(TOGETHER)

        async def in_turn(one: Due) -> None:
            async with room:
                await self._one(one)

        ends = await asyncio.gather(
            *(in_turn(one) for one in due if self._may_go(one)), return_exceptions=True
        )
        failures = [end for end in ends if isinstance(end, BaseException)]
        if failures:
            self._unsettled = True
            raise next((end for end in failures if isinstance(end, LedgerBroken)), failures[0])

    def _may_go(self, one: Due) -> bool:
        """Whether enough of its providers can be asked, and nobody is sending it."""
        now = self._clock.monotonic()
        asked = [copy for copy in one.copies if self._trouble.get(copy.provider, (0, 0.0))[1] <= now]
        return len(asked) >= one.needed and not one.working

    async def _one(self, one: Due) -> None:
        about = {"path": text_of(one.path)}
        if not self._may_go(one):
            # A provider could not be asked a moment ago, for another file.
            await self._put_off([one.recording_id])
            return
        try:
            await self._remover.remove(one)
            for copy in one.copies:
                self._trouble.pop(copy.provider, None)
        except Doubt as doubt:
            await self._kept(one, doubt)
        except (NotNow, SourceMissing) as hindrance:
            if isinstance(hindrance, NotNow) and hindrance.provider:
                self._troubled(hindrance.provider)
            self._log.info("not removed yet", reason=str(hindrance), **about)
            await self._put_off([one.recording_id])
        except FileVanished:
            await self._vanished(one)
        except FileFault as fault:
            await self._kept(one, Doubt("unreadable", fault.message))
        except OSError as error:
            reason = f"it cannot be removed: {error.strerror}; may the daemon's user write to its folder?"
            await self._kept(one, Doubt("refused", reason))
        except Stuck as stuck:
            self._unsettled = True
            self._log.error("a file is neither removed nor kept yet", reason=str(stuck), **about)
        except LedgerError:
            raise
        except Exception:  # noqa: BLE001 -- one file's bug must not keep all others
            self._log.exception("a removal failed unexpectedly; the file is kept", **about)
            await self._put_off([one.recording_id])

    # --- what stays --------------------------------------------------------------------------------

    async def _kept(self, one: Due, doubt: Doubt) -> None:
        until = self._in(AGAIN_SECONDS.get(doubt.why, AGAIN_OTHERWISE))
        why, reason = doubt.why, doubt.message
        if await self._ledger.run_in_need(removal.kept, one.recording_id, why, reason, until):
            self._log.warning("local file kept", path=text_of(one.path), why=why, reason=reason)
        if why in ("changed", "replaced"):
            self._look_at(one.path)

    def _troubled(self, provider: str) -> None:
        times, until = self._trouble.get(provider, (0, 0.0))
        now = self._clock.monotonic()
        if until <= now:  # of those that were asked together, the first counts
            pause = TROUBLE_SECONDS[min(times, len(TROUBLE_SECONDS) - 1)]
            self._trouble[provider] = times + 1, now + pause

    async def _put_off(self, recordings: Sequence[int]) -> None:
        now = self._clock.monotonic()
        pause = max((until - now for _, until in self._trouble.values()), default=0.0)
        until = self._in(max(TROUBLE_SECONDS[0], pause))
        await self._ledger.run_in_need(removal.put_off, recordings, until)

    async def _vanished(self, one: Due) -> None:
        """No file is there, and it was not we: removed by somebody, or below a mount that is missing."""
        device = await self._on_thread(nearest_device, self._root, one.path)
        if device == one.identity.device:
            await self._ledger.run_in_need(removal.vanished, one.recording_id)
            self._log.info("somebody else removed the local file", path=text_of(one.path))
        else:
            reason = "it is not there; is a disk that belongs below the source not mounted?"
            await self._kept(one, Doubt("vanished", reason))

    def _in(self, seconds: float) -> Milliseconds:
        return Milliseconds(self._clock.now() + round(seconds * 1000))


def _note(tx: Transaction, event: Event) -> None:
    tx.event(event)
