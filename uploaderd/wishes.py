"""What the operator wants of an upload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from uploaderd.model import OnConflict, OnNewVersion


@dataclass(frozen=True, slots=True)
class Wishes:
    """The operator's wishes for an upload, from the configuration.

    `rate` is what one part was last seen to move at on this link, in bytes per second.
    `writer_has` tells whether some process has the file open for writing: True, False, or None where
    the kernel does not let us know. It may block, and is called on a thread.
    """

    content_type: str
    metadata: Mapping[str, str]
    on_conflict: OnConflict
    on_new_version: OnNewVersion
    part_size: int | None
    rate: float | None
    writer_has: Callable[[int], bool | None]
