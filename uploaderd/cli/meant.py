"""What a person means by a path: files and folders that are there, or a recording whose file is gone."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from uploaderd.cli.opened import ledger
from uploaderd.errors import Refused

if TYPE_CHECKING:
    from uploaderd.config import Config


@dataclass(frozen=True, slots=True)
class Meant:
    """Files and folders, as source and percent-encoded path; and recordings, by their ids."""

    files: tuple[tuple[str, str], ...]
    recordings: tuple[str, ...]


def meant(config: Config, paths: Sequence[str]) -> Meant:
    """What is meant by these paths.

    Raises:
        Refused: a file that no source takes, or a source that does not answer.
        Unknown, Ambiguous: as `lookup.one`.
    """
    from uploaderd.report.disks import silent
    from uploaderd.report.lookup import EMPTY

    mute = silent(config)
    files: dict[tuple[str, str], None] = {}
    recordings: dict[str, None] = {}
    for path in paths:
        if not path:
            raise Refused(EMPTY, kind="usage")
        there = list(_there(config, path, mute))
        if there:
            files |= dict.fromkeys((source, quote(relative)) for source, relative in there)
        else:
            source, relative, public_id = _recorded(config, path)
            root = config.sources[source].path if source in config.sources and source not in mute else None
            if root is not None and os.path.lexists(os.path.join(os.fsencode(root), relative)):
                files[source, quote(relative)] = None
            else:
                recordings[public_id] = None
    return Meant(tuple(files), tuple(recordings))


def _there(config: Config, wanted: str, mute: Collection[str]) -> list[tuple[str, bytes]]:
    """The file or folder of that name, in each source that has it. `mute`: sources that do not answer."""
    from uploaderd.patterns import Belonging
    from uploaderd.report import lookup
    from uploaderd.report.disks import SILENT, SILENT_HINT

    roots = {name: os.fsencode(Path(source.path)) for name, source in config.sources.items()}
    absolute = os.path.normpath(os.path.join(os.getcwdb(), os.fsencode(wanted)))
    for name in mute:
        if (absolute + b"/").startswith(roots[name] + b"/"):
            raise Refused(f"source {name}: {config.sources[name].path} {SILENT}", SILENT_HINT, kind="again")
    if whole := [(name, b"") for name, root in roots.items() if root == absolute]:
        return whole
    places = [place for place in lookup.places(config, os.fsencode(wanted)) if place[0] not in mute]
    there = [(name, path) for name, path in places if os.path.lexists(os.path.join(roots[name], path))]
    if folders := [(name, path) for name, path in there if os.path.isdir(os.path.join(roots[name], path))]:
        return folders
    belonging = Belonging(config.sources)
    owned = [belonging.owner(os.path.join(roots[name], path)) for name, path in there]
    if there and not any(owned):
        raise Refused(f"no source takes {wanted}", f"`uploaderd why {wanted}` tells the reason", kind="usage")
    return list(dict.fromkeys(one for one in owned if one is not None))


def _recorded(config: Config, wanted: str) -> tuple[str, bytes, str]:
    """Source, path and id of the recording that is meant."""
    from uploaderd.report import lookup

    if not config.ledger.path.exists():
        raise Refused(f"there is no file {wanted}, and no ledger yet that could know it", kind="usage")
    with ledger(config) as conn:
        row = lookup.one(conn, config, wanted)
    return row.source, row.path, row.id
