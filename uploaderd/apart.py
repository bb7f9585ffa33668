"""Is a provider's folder another than the sources'? By its path, `config` tells; by what is there, this does.

A link or a bind mount leads from one to the other: a file would be taken for its own copy, and each copy
for a new recording.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from uploaderd.errors import Fault
from uploaderd.model import FailureClass


def must_be_apart(folder: Path, sources: Mapping[str, Path]) -> None:
    """Compare a `directory` provider's folder with the sources' roots, by name. Blocks.

    What is not there is not compared: whoever opens it says so.

    Raises:
        Fault: class provider: it is a source's own, lies inside it, or the source inside it.
    """
    for name, source in sources.items():
        try:
            target, root = folder.resolve(strict=True), source.resolve(strict=True)
            same = target.samefile(root)
        except (OSError, RuntimeError):  # RuntimeError: a loop of links
            continue
        if same or target.is_relative_to(root) or root.is_relative_to(target):
            raise Fault(
                f"the folder {str(folder)!r} leads to {str(target)!r}, which is not apart from the source"
                f" {name} ({root}): copies would be taken for recordings",
                failure=FailureClass.PROVIDER,
                code="not-apart",
                hint="move one out of the other; it goes on by itself",
            )
