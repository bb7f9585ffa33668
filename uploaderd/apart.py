"""Is a provider's folder another than the sources'? By its path, `config` tells; by what is there, this does.

A link or a bind mount leads from one to the other: a file would be taken for its own copy, and each copy
for a new recording.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from uploaderd.errors import Fault
from uploaderd.logs.setup import get_logger
from uploaderd.model import FailureClass
from uploaderd.waiting import on_own_thread

log = get_logger(__name__)

ANSWER_SECONDS: Final = 3.0
"""How long a folder may take to say where it leads; a mount that hangs never does."""


async def must_be_apart(folder: Path, sources: Mapping[str, Path]) -> None:
    """Compare a `directory` provider's folder with the sources' roots, by name.

    What is not there, or does not answer, is not compared: whoever opens it says so, and a source whose
    mount hangs must not keep the others' recordings from the provider.

    Raises:
        Fault: class provider: it is a source's own, lies inside it, or the source inside it.
    """
    async with asyncio.TaskGroup() as looking:
        looks = {
            name: looking.create_task(_collision(folder, name, source)) for name, source in sources.items()
        }
    for look in looks.values():
        if (fault := look.result()) is not None:
            raise fault


async def _collision(folder: Path, name: str, source: Path) -> Fault | None:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await on_own_thread(lambda: _compared(folder, name, source))
    except TimeoutError:
        log.warning(
            "not known whether the provider's folder leads into the source: one of the two does not answer",
            hint="look after the mount that hangs; they are compared when the provider is opened next",
            folder=str(folder),
            source=name,
        )
        return None


def _compared(folder: Path, name: str, source: Path) -> Fault | None:
    """Blocks."""
    try:
        target, root = folder.resolve(strict=True), source.resolve(strict=True)
        same = target.samefile(root)
    except (OSError, RuntimeError):  # RuntimeError: a loop of links
        return None
    if not (same or target.is_relative_to(root) or root.is_relative_to(target)):
        return None
    return Fault(
        f"the folder {str(folder)!r} leads to {str(target)!r}, which is not apart from the source"
        f" {name} ({root}): copies would be taken for recordings",
        failure=FailureClass.PROVIDER,
        code="not-apart",
        hint="move one out of the other; it goes on by itself",
    )
