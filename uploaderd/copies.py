"""Are the copies of a safe recording still there? Asked before its local file goes, of every provider.

A copy is there if it is the one that was verified (the same generation or ETag), or if the provider's
own checksum proves it anew. One that cannot be asked for is doubtful, and so is one that only the reply
to its writing proves, unless looking was never possible.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from uploaderd.errors import CannotLook, Fault
from uploaderd.ledger.removal import Copy
from uploaderd.model import Checksum, FailureClass, ObjectInfo, Proof
from uploaderd.proof import Verdict, whole_object
from uploaderd.provider import Provider

ASK_SECONDS: Final = 30.0


class Answer(StrEnum):
    THERE = "there"
    GONE = "gone"
    REPLACED = "replaced"
    """Another object is there, or ours with another content."""
    UNPROVEN = "unproven"
    """Ours and of the right size, but changed since; only its content can tell how."""
    UNASKED = "unasked"
    """Its provider cannot be asked now."""
    UNSEEN = "unseen"
    """Its provider does not let us look any more."""


@dataclass(frozen=True, slots=True)
class CleanupProvider:
    """What cleanup must know of a provider.

    Attributes:
        opened: the provider; None while it is not open.
        folder: of a `directory` whose copies do not count where they are on the recording's own device.
    """

    opened: Callable[[], Provider | None]
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What asking for one copy came to. `how` tells why it is taken to be there; else `fault` says more.

    `counts` is False for a copy on the device of the recording itself.
    """

    copy: Copy
    answer: Answer
    how: str = ""
    fault: Fault | None = None
    found: ObjectInfo | None = None
    counts: bool = True

    @property
    def seen(self) -> dict[str, object]:
        """What was found, for the record."""
        found = self.found
        if found is None:
            return {}
        return {"size": found.size, "etag": found.etag, "version_id": found.version_id}


class OnThread(Protocol):
    """Runs work that blocks."""

    async def __call__(self, work: Callable[..., bool], *args: object) -> bool: ...


async def ask(
    copies: Sequence[Copy],
    content: Checksum,
    device: int,
    providers: Mapping[str, CleanupProvider],
    on_thread: OnThread,
) -> list[Asked]:
    """Ask for all copies of a content at once; `device` is that of its local file."""

    async def one(copy: Copy) -> Asked:
        known = providers.get(copy.provider)
        if known is None:
            message = (
                f"{copy.provider}, which has a copy that it requires, is not in use: nobody can ask for it"
            )
            return Asked(copy, Answer.UNSEEN, fault=Fault(message, code="not-in-use"))
        if (provider := known.opened()) is None:
            return Asked(copy, Answer.UNASKED, fault=Fault(f"{copy.provider} is not open", code="not-open"))
        if known.folder is not None and not await on_thread(_is_elsewhere, known.folder, copy.key, device):
            return Asked(copy, Answer.THERE, counts=False)
        return await _ask(provider, copy, content)

    return await asyncio.gather(*(one(copy) for copy in copies))


async def _ask(provider: Provider, copy: Copy, content: Checksum) -> Asked:
    try:
        async with asyncio.timeout(ASK_SECONDS):
            found = await provider.stat(copy.key)
            if found is None:
                # To some stores a bucket that is missing is an object that is missing.
                await provider.probe()
                found = await provider.stat(copy.key)
    except CannotLook as refused:
        if copy.proof_kind.endswith(", reply"):
            return Asked(copy, Answer.THERE, "verified by the reply alone; looking is refused")
        return Asked(copy, Answer.UNSEEN, fault=refused)
    except Fault as trouble:
        return Asked(copy, Answer.UNASKED, fault=trouble)
    except TimeoutError:
        silent = Fault(f"{copy.provider} gave no answer in {ASK_SECONDS:g} s", code="timeout")
        return Asked(copy, Answer.UNASKED, fault=silent)
    return _judged(copy, found, content, provider.address(copy.key))


def _judged(copy: Copy, found: ObjectInfo | None, content: Checksum, where: str) -> Asked:
    """What was found, for what it is. `where` is its address, for people."""
    if found is None:
        fault = Fault(
            f"the copy at {where} is gone",
            failure=FailureClass.RECORDING,
            code="copy-gone",
            hint="restore it, or have it sent again: `uploaderd retry`",
        )
        return Asked(copy, Answer.GONE, fault=fault)
    how = _same(copy, found, content)
    if how is not None:
        return Asked(copy, Answer.THERE, how, found=found)
    if _may_be(copy, found, content):
        fault = Fault(f"the copy at {where} was changed since it was verified", code="copy-unproven")
        return Asked(copy, Answer.UNPROVEN, fault=fault, found=found)
    fault = Fault(
        f"what is at {where} is not the copy that was verified",
        failure=FailureClass.CONFLICT,
        code="copy-replaced",
        hint="restore it, or have it sent again: `uploaderd retry`",
    )
    return Asked(copy, Answer.REPLACED, fault=fault, found=found)


def _same(copy: Copy, found: ObjectInfo, content: Checksum) -> str | None:
    """Why the object is taken for the verified copy; None if nothing says so."""
    told = whole_object(content, found)
    if found.size != content.size or told is Verdict.DIFFERENT:
        return None
    if found.generation is not None and found.generation == copy.version_id:
        return "same generation"
    if found.etag is not None and found.etag == copy.etag:
        return "same ETag"
    if isinstance(told, Proof) and found.token == copy.token:
        return told.kind
    return None


def _may_be(copy: Copy, found: ObjectInfo, content: Checksum) -> bool:
    """Whether only a look at its content can tell."""
    return found.token == copy.token and found.size == content.size and whole_object(content, found) is None


def _is_elsewhere(folder: Path, key: str, device: int) -> bool:
    """Whether the copy lies on another device than the recording. Blocks."""
    for path in (folder / key, folder):
        try:
            return os.stat(path).st_dev != device
        except OSError:
            continue
    return False
