"""From finished files to the queue: keys made and frozen, known files told from new ones.

What a file is, is decided inside the ledger's transaction (`ledger.identity`); what the ledger cannot
know, the content of a file or whether another path still exists, is looked up here and handed in.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from uploaderd import keys
from uploaderd.config import Config
from uploaderd.errors import Fault, FileVanished, KeyRefused
from uploaderd.finished import plausible
from uploaderd.ledger import Ledger, Transaction, identity
from uploaderd.ledger.identity import Evidence, Question, Rules, SameContent, Settled
from uploaderd.ledger.intake import NewRecording, NewUpload
from uploaderd.logs.setup import get_logger
from uploaderd.model import FileIdentity, FinishedBy, FoundBy, Gate, Milliseconds
from uploaderd.patterns import Belonging
from uploaderd.provider import Limits
from uploaderd.reader import OpenRecording

log = get_logger(__name__)

QUESTIONS: Final = 8
"""Rounds of questions about one file at most; a file that raises more is left to the next sweep."""

_WAKING: Final = frozenset((Settled.QUEUED, Settled.RENAMED, Settled.TOUCHED))
"""After these some upload may have become due."""

_EMPTY: Final = "empty: the file has no bytes"
_NO_TIME: Final = "its modification time cannot be true; the time it was found counts"


@dataclass(frozen=True, slots=True)
class IntakeProvider:
    """What intake must know of a provider: its row in the ledger, and what keys it allows."""

    id: int
    limits: Limits
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """A file that was judged finished. `identity` has its fingerprint; `finished_at` is now.

    `flaw` is what its container lacks, if it was looked at and does not look whole; `refused` is why it
    cannot be read: its identity has no fingerprint then.
    """

    path: bytes
    identity: FileIdentity
    found_by: FoundBy
    finished_by: FinishedBy
    finished_at: Milliseconds
    flaw: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Offered:
    """What became of each file offered, in order; None for one that could not be told this time."""

    outcomes: tuple[Settled | None, ...]

    @property
    def counts(self) -> Counter[Settled | None]:
        return Counter(self.outcomes)


class Intake:
    """Takes finished files of all sources into the ledger, each once.

    `sources` are their ids in the ledger; `wake` is called after something was queued.
    """

    def __init__(
        self,
        ledger: Ledger,
        config: Config,
        sources: Mapping[str, int],
        providers: Mapping[str, IntakeProvider],
        *,
        wake: Callable[[], None],
        host: str,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._ledger = ledger
        self._config = config
        self._sources = sources
        self._providers = providers
        self._wake = wake
        self._host = host
        self._environ = os.environ if environ is None else environ
        self._templates = {name: keys.parse_template(source.key) for name, source in config.sources.items()}
        self._names = {provider.id: name for name, provider in providers.items()}
        self.belonging = Belonging(config.sources)
        self.lenient = False
        """What looks truncated is queued, and flagged, though `container_check = "require"`: there may be no
        later, and a truncated recording is better than none."""

    async def offer(self, source: str, found: Sequence[Finished], *, inodes: bool = True) -> Offered:
        """Take files of a source in.

        Args:
            source: its name.
            found: finished files; the order does not matter.
            inodes: whether inodes mean something there (not on network file systems).

        Raises:
            LedgerError: nothing of what was not yet answered for is on record; offer it again.
        """
        outcomes: list[Settled | None] = [None] * len(found)
        rules = Rules(inodes, self._names)
        pending = [(index, self._recording(source, one), Evidence()) for index, one in enumerate(found)]
        for _ in range(QUESTIONS):
            if not pending:
                break
            answers = await self._ledger.run(_settle, [(one, told) for _, one, told in pending], rules)
            again = []
            for (index, one, told), answer in zip(pending, answers, strict=True):
                if isinstance(answer, Settled):
                    outcomes[index] = answer
                    self._report(source, one, answer)
                    continue
                try:
                    again.append((index, one, await self._answered(source, one, told, answer)))
                except (Fault, OSError) as error:
                    path = keys.text_of(one.path)
                    log.debug("left to the next look", source=source, path=path, reason=str(error))
            pending = again
        if not _WAKING.isdisjoint(outcomes):
            self._wake()
        return Offered(tuple(outcomes))

    def plan(self, source: str, found: Finished) -> NewRecording:
        """The recording that the file would be if it were found now: its keys, and what it would require."""
        return self._recording(source, found)

    def _recording(self, name: str, found: Finished) -> NewRecording:
        """The recording that the file would be, with its keys and what it requires."""
        source = self._config.sources[name]
        requirement = self._config.required_for(name)
        dated = plausible(found.identity.mtime_ns, found.finished_at)
        gated = found.flaw is not None and source.container_check == "require" and not self.lenient
        doubts = [] if dated else [_NO_TIME]
        if found.flaw is not None and not gated:
            doubts.append(f"it looks truncated: {found.flaw}")
        one = NewRecording(
            source_id=self._sources[name],
            path=found.path,
            identity=found.identity,
            found_by=found.found_by,
            finished_by=found.finished_by,
            finished_at=found.finished_at,
            uploads=(),
            needed=max(1, requirement.count),
            doubt="; ".join(doubts) or None,
        )
        if found.identity.size == 0 and source.empty == "skip":
            return replace(one, skipped=_EMPTY)
        if found.refused is not None:
            return replace(one, held=found.refused)
        if not requirement.providers:
            return replace(one, held="no provider that it would go to is enabled")
        by_mtime = source.date_from == "mtime" and dated
        named = keys.Named(
            source=name,
            path=found.path,
            at_ms=found.identity.mtime_ns // 1_000_000 if by_mtime else found.finished_at,
            timezone=source.timezone,
            host=self._host,
            site=self._config.site_of(name),
            environ=self._environ,
        )
        try:
            key = self._templates[name].render(named)
            one = replace(
                one,
                uploads=tuple(
                    NewUpload(
                        self._providers[provider].id,
                        self._placed(key, provider, found.identity.size),
                        # By number, any of them count; by name, those named.
                        required=not requirement.named or provider in requirement.named,
                    )
                    for provider in requirement.providers
                ),
            )
        except KeyRefused as refused:
            return replace(one, held=f"{refused.message}; {refused.hint}")
        return replace(one, held=f"it looks truncated: {found.flaw}", gate=Gate.CONTAINER) if gated else one

    def _placed(self, key: str, name: str, size: int) -> str:
        provider = self._providers[name]
        if size > provider.limits.max_object:
            raise KeyRefused(
                f"{size} bytes are more than {name} takes in one object ({provider.limits.max_object})",
                code="too-large",
                hint="cut the recording, or send it elsewhere",
            )
        return keys.place(provider.prefix, key, provider.limits)

    async def _answered(
        self, source: str, one: NewRecording, evidence: Evidence, question: Question
    ) -> Evidence:
        """The evidence, with the answer to one more question.

        Raises:
            Fault, OSError: it cannot be had now.
        """
        root = os.fsencode(self._config.sources[source].path)
        known = question.known
        if isinstance(question, SameContent):
            same = await _has_content(root, one, question)
            return replace(evidence, same_content={**evidence.same_content, known.id: same})
        there = await asyncio.to_thread(_is_at, os.path.join(root, known.path), known.identity.inode)
        return replace(evidence, still_there={**evidence.still_there, known.id: there})

    def _report(self, source: str, one: NewRecording, settled: Settled) -> None:
        about = {"source": source, "path": keys.text_of(one.path), "size": one.identity.size}
        match settled:
            case Settled.QUEUED:
                goes_to = [self._names[upload.provider_id] for upload in one.uploads]
                found = {"found_by": one.found_by, "finished_by": one.finished_by}
                log.info("recording queued", providers=goes_to, **found, **about)
                if one.doubt:
                    log.warning("doubtful recording", reason=one.doubt, **about)
            case Settled.SKIPPED:
                log.warning("recording skipped", reason=one.skipped, **about)
            case Settled.HELD:
                log.error("recording held", reason=one.held or "its key is another's", **about)
            case Settled.RENAMED | Settled.TOUCHED:
                log.info("recording found again", how=settled.value, **about)
            case _:
                log.debug("nothing new", how=settled.value, **about)


def _settle(
    tx: Transaction, pending: Sequence[tuple[NewRecording, Evidence]], rules: Rules
) -> list[Settled | Question]:
    return [identity.settle(tx, one, evidence, rules) for one, evidence in pending]


async def _has_content(root: bytes, one: NewRecording, question: SameContent) -> bool:
    """Whether what was read of the known recording is what the file has now.

    Raises:
        FileVanished: the file changed since it was offered; it will be looked at again.
    """
    async with await OpenRecording.open(root, one.path) as file:
        if not file.identity.same_stat(one.identity):
            raise FileVanished("the file changed before it was compared", code="changed")
        for offset, size, crc64nvme in question.ranges:
            if (await file.body(offset, size).digest()).crc64nvme != crc64nvme:
                return False
        await file.look_again()
    return True


def _is_at(path: bytes, inode: int) -> bool:
    """Whether a file is at `path` that has this inode. Blocks.

    Raises:
        OSError: it cannot be told (no permission, a mount that fails).
    """
    try:
        return os.stat(path, follow_symlinks=False).st_ino == inode
    except (FileNotFoundError, NotADirectoryError):
        return False
