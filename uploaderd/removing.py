"""The removal of one local file, by proof. DESIGN.md, "Cleanup".

It is opened and compared with what was sent; its copies are asked for; the intent is committed; under
the lease it is renamed to a name of our own; its copies are asked for once more; under the lease again,
and untouched since, it is unlinked, and that is committed. Whatever is doubtful on the way gives it its
name back, without replacing anything.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from uploaderd.config import Cleanup
from uploaderd.copies import Answer, Asked, CleanupProvider, ask
from uploaderd.errors import UploaderdError
from uploaderd.keys import text_of
from uploaderd.ledger import Ledger, removal
from uploaderd.ledger.removal import Copy, Due
from uploaderd.logs.setup import get_logger
from uploaderd.model import Checksum, FinishedBy
from uploaderd.mounts import Mount
from uploaderd.quarantine import Doubt, Leaving, name_aside
from uploaderd.reader import OpenRecording

log = get_logger(__name__)
T = TypeVar("T")

TOUCH_NS: Final = 2_000_000_000
"""How much later than its content a file's attributes may have changed and still tell that nobody wrote to
it afterwards and then turned its time back: it was found only after a longer quiet time."""

_TOO_FEW: Final[Mapping[Answer, str]] = {
    Answer.GONE: "copy-gone",
    Answer.REPLACED: "copy-replaced",
    Answer.UNPROVEN: "copy-unproven",
    Answer.UNSEEN: "cannot-look",
    Answer.UNASKED: "",
}
"""What keeps a file, the weightiest first."""


class NotNow(UploaderdError):
    """Nothing is doubtful, but it cannot be done now; `provider` is the one that could not be asked."""

    def __init__(self, message: str, provider: str = "") -> None:
        super().__init__(message)
        self.provider = provider


class Stuck(UploaderdError):
    """The file is aside, or gone, and that could not be undone, or not be written down: settle it later."""


class Threads:
    """Where the work that blocks is done. Of its own for each source: a mount may hang."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(2, thread_name_prefix=name)

    async def __call__(self, work: Callable[..., T], *args: object, **kwargs: object) -> T:
        """Run it. Who is cancelled meanwhile goes on only when it has come to its end."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait((future,))
            raise


class Remover:
    """Removes files of one source.

    Args:
        providers: by name; those that are not among them are not in use.
        queued, look_at, spare: as `cleanup.Cleaner`.
        marked: files have a `.done` beside them, that goes with them.
    """

    def __init__(
        self,
        root: bytes,
        rules: Cleanup,
        ledger: Ledger,
        providers: Mapping[str, CleanupProvider],
        on_thread: Threads,
        *,
        queued: Callable[[], None],
        look_at: Callable[[bytes], None],
        spare: Collection[bytes],
        marked: bool = False,
    ) -> None:
        self._marked = marked
        self._root = root
        self._rules = rules
        self._ledger = ledger
        self._providers = providers
        self._on_thread = on_thread
        self._queued = queued
        self._look_at = look_at
        self._spare = spare

    async def remove(self, one: Due) -> None:
        """Remove the file of a recording.

        Raises:
            Doubt, NotNow, FileVanished, FileFault, SourceMissing, OSError: it is where it was, and why.
            Stuck: it is not.
            LedgerError: it is where it was, or aside, or gone.
        """
        if one.finished_by is FinishedBy.QUIET and not self._rules.without_lease:
            raise Doubt(
                "quiet",
                "that it is finished was told by quiet time alone; `without_lease = true` in the source's"
                " cleanup would allow its removal",
            )
        if one.content is None:
            raise Doubt("unread", "no checksum of its content is on record")
        leaving = Leaving(self._root, one.path)
        try:
            await self._on_thread(leaving.open)
            await self._compare(one, leaving, one.content)
            # Before the file is touched: most of what is doubtful shows now.
            there = await self._ask(one, one.copies, leaving, one.content)
            await self._leave(one, [each.copy for each in there], leaving, one.content)
        finally:
            await self._on_thread(leaving.close)

    async def _compare(self, one: Due, leaving: Leaving, content: Checksum) -> None:
        """The file is the very one that was sent, content and all."""
        sent, there = one.identity, leaving.identity
        local = leaving.mount is not Mount.NETWORK
        same = (sent.size, sent.mtime_ns) == (there.size, there.mtime_ns)
        if not same or (local and sent.inode != there.inode) or sent.fingerprint != there.fingerprint:
            raise Doubt("changed", "it is not the file that was sent")
        if abs(leaving.changed_ns - there.mtime_ns) <= TOUCH_NS:
            return
        if local and leaving.changed_ns // 1_000_000 < one.found_at:
            return
        # Renamed, linked, given to another owner; or written to by somebody who set its time back.
        async with await OpenRecording.open(self._root, one.path) as file:
            told = await file.body(0, file.size).digest()
            if not leaving.is_file_of(file.fileno()) or told.crc64nvme != content.crc64nvme:
                raise Doubt("changed", "its content is not what was sent")

    # --- the copies ----------------------------------------------------------------------------------

    async def _ask(
        self, one: Due, copies: Sequence[Copy], leaving: Leaving, content: Checksum
    ) -> list[Asked]:
        """Ask for the copies; those that are there.

        Raises:
            Doubt, NotNow: there are too few.
        """
        asked = await ask(copies, content, leaving.identity.device, self._providers, self._on_thread)
        await self._tell_what_is_lost(one, asked)
        there = [each for each in asked if each.answer is Answer.THERE and each.counts]
        if len(there) >= one.needed:
            return there
        for answer, why in _TOO_FEW.items():
            for each in asked:
                if each.answer is not answer or each.fault is None:
                    continue
                if answer is Answer.UNASKED:
                    raise NotNow(each.fault.message, each.copy.provider)
                raise Doubt(why, each.fault.message)
        near = ", ".join(each.copy.provider for each in asked if not each.counts)
        raise Doubt(
            "same-device",
            f"its copy at {near} lies on its own device, and would be lost with it; `same_device_counts ="
            " true` there would allow its removal",
        )

    async def _tell_what_is_lost(self, one: Due, asked: Sequence[Asked]) -> None:
        for each in asked:
            if each.answer not in (Answer.GONE, Answer.REPLACED, Answer.UNPROVEN) or each.fault is None:
                continue
            again = each.answer is Answer.UNPROVEN
            await self._ledger.run_in_need(removal.copy_lost, each.copy, each.fault, each.seen, again=again)
            log.error(
                "a verified copy is not there any more",
                path=text_of(one.path),
                provider=each.copy.provider,
                reason=each.fault.message,
                hint=each.fault.hint,
            )
            if again:
                self._queued()

    # --- the file ------------------------------------------------------------------------------------

    async def _leave(self, one: Due, copies: Sequence[Copy], leaving: Leaving, content: Checksum) -> None:
        """Put it aside, ask once more, unlink it; each step on record before the next."""
        aside = name_aside(os.path.basename(one.path))
        without = self._rules.without_lease
        if not await self._ledger.run_in_need(removal.begin, one, aside):
            raise NotNow("the ledger has news of it")
        there: list[Asked] = []
        try:
            await self._on_thread(leaving.put_aside, aside, without_lease=without)
            there = await self._ask(one, copies, leaving, content)
            await self._on_thread(leaving.remove, without_lease=without)
        except BaseException as why:
            if leaving.is_gone:
                # Told to stop in the instant in which it went.
                await asyncio.shield(self._removed(one, there, 0))
            else:
                await self._take_back(one, leaving, why)
            raise
        if self._marked:
            await self._on_thread(leaving.remove_marker)
        folders = 0
        if self._rules.remove_empty_dirs:
            folders = await self._on_thread(leaving.remove_empty_folders, self._spare)
        await self._removed(one, there, folders)

    async def _removed(self, one: Due, there: Sequence[Asked], folders: int) -> None:
        detail = {
            "path": text_of(one.path),
            "size": one.identity.size,
            "copies": [
                {"provider": each.copy.provider, "key": each.copy.key, "how": each.how} for each in there
            ],
            "empty_folders": folders,
        }
        await self._ledger.run_in_need(removal.removed, one.recording_id, detail)
        log.info("local file removed", **detail)

    async def _take_back(self, one: Due, leaving: Leaving, why: BaseException) -> None:
        if leaving.is_aside:
            try:
                path = await asyncio.shield(self._on_thread(leaving.put_back))
            except OSError as error:
                raise Stuck(f"it is put aside and cannot be put back: {error.strerror}") from error
            if path != one.path:
                log.warning(
                    "another file took its path meanwhile; it is put back beside it",
                    path=text_of(one.path),
                    now=text_of(path),
                )
                self._look_at(path)
        if isinstance(why, asyncio.CancelledError):
            detail = {"path": text_of(one.path), "how": "stopped"}
            await asyncio.shield(self._ledger.run_in_need(removal.put_back, one.recording_id, detail))
