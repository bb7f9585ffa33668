"""The sources: can they be read, do events and leases work there, and whose is a file that two may take?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Final

from uploaderd.acts.acting import user
from uploaderd.config import Config, Source
from uploaderd.config.source import QUIET_ALONE, QUIET_ON_NETWORK, QUIET_WITH_LEASE
from uploaderd.config.units import format_duration
from uploaderd.doctor.findings import Found, Look, blocking, fail, ok, warn
from uploaderd.finished import writer_has
from uploaderd.hints import watch_limit_reached
from uploaderd.keys import text_of
from uploaderd.listener import LIMIT
from uploaderd.mounts import Mount, mount_of
from uploaderd.patterns import Belonging, excluded
from uploaderd.report.lines import size

LEAST_FREE: Final = 2**30
"""Bytes below which the recorder itself is about to stop."""

LEAST_SHARE: Final = 0.02

COUNT_SECONDS: Final = 10.0
"""How long folders and files are looked through."""

NEARLY: Final = 0.8
"""Share of the kernel's limit of watches that leaves too little for others and for growth."""

_WATCHES: Final = Path("/proc/sys/fs/inotify/max_user_watches")


def subject(name: str) -> str:
    return f"source {name}"


def looks(config: Config, name: str) -> Iterator[tuple[str, Look]]:
    """The checks, by name; where the first one fails, the others cannot be made."""
    source = config.sources[name]
    yield "folder", blocking(lambda: [_folder(source)])
    yield "disk", blocking(lambda: [_disk(source)])
    yield "events", blocking(lambda: [_events(source)])
    yield "writers", blocking(lambda: [_writers(config, name)])
    yield "quiet time", blocking(lambda: [_quiet(source)])
    if others := _sharing(config, name):
        yield "shared tree", blocking(lambda: [_shared(config, name, others)])


def _folder(source: Source) -> Found:
    path = source.path
    if not path.is_dir():
        return fail(f"{path} is not there", "mount or create it, or correct the source's path")
    if not os.access(path, os.R_OK | os.X_OK, effective_ids=True):
        return fail(
            f"{path} may not be read by you ({user(os.geteuid())})",
            "let the daemon's user read it (a common group, or an ACL); ask as that user to be sure",
        )
    removes = source.cleanup.policy == "delete-when-safe"
    if removes and not os.access(path, os.W_OK, effective_ids=True):
        return warn(
            f"{path} may not be written by you ({user(os.geteuid())}): safe files could not be removed",
            'let the daemon\'s user write it, or set policy = "keep"; ask as that user to be sure',
        )
    return ok(f"{path} can be read" + (" and written" if removes else ""))


def _disk(source: Source) -> Found:
    disk = os.statvfs(source.path)
    free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if free < LEAST_FREE or free < LEAST_SHARE * whole:
        return warn(
            f"{size(free)} of {size(whole)} free: the recorder is about to stop",
            "free some space; [sources.NAME.cleanup] removes what is safe, if you let it",
        )
    return ok(f"{size(free)} of {size(whole)} free")


def _events(source: Source) -> Found:
    """Whether the kernel can tell of changes, in every folder of the tree."""
    if source.polling is True:
        return ok("polled, as configured")
    if _mount(source.path) is Mount.NETWORK and source.polling == "auto":
        return warn(
            "a network file system (or FUSE): the kernel tells nothing of what others write, so it is polled",
            "nothing to mend; if recordings must be found sooner, run uploaderd where they are written",
        )
    limit = int(_WATCHES.read_text(encoding="ascii"))
    folders, whole = _count_folders(os.fsencode(source.path))
    counted = f"{'' if whole else 'more than '}{folders:,} folder{'' if folders == 1 else 's'}"
    if watch_limit_reached(os.fsencode(source.path)) or folders > limit:
        return warn(f"{counted}, and {LIMIT.partition(':')[0]}: the tree is polled", _raise_limit(folders))
    if folders > NEARLY * limit:
        return warn(f"{counted}, of {limit:,} that may be watched", _raise_limit(folders))
    return ok(f"{counted}, {limit:,} may be watched")


def _raise_limit(folders: int) -> str:
    wanted = max(524_288, 2 ** (2 * folders).bit_length())
    return (
        f"sysctl fs.inotify.max_user_watches={wanted} (for good: a file in /etc/sysctl.d), and raise"
        " fs.inotify.max_user_instances if many programs watch"
    )


def _count_folders(root: bytes) -> tuple[int, bool]:
    """Folders of the tree, and whether all of it could be seen in time."""
    count, until = 1, monotonic() + COUNT_SECONDS
    pending = [root]
    while pending:
        if monotonic() > until:
            return count, False
        try:
            with os.scandir(pending.pop()) as entries:
                below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # not ours to read, or gone
        count += len(below)
        pending += below
    return count, True


def _writers(config: Config, name: str) -> Found:
    """Whether open writers can be seen, tried with a file that is there."""
    source = config.sources[name]
    if source.finished == "quiet":
        return ok('not asked for: finished = "quiet"')
    path = _some_file(config, name)
    if path is None:
        return ok("no file is there to try it with")
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        seen = writer_has(fd) is not None
    finally:
        os.close(fd)
    if seen:
        return ok("who writes a file can be seen (lease)")
    why = "a network mount" if _mount(source.path) is Mount.NETWORK else "another user's files"
    return warn(
        f"who writes {text_of(path)} cannot be seen ({why}): only quiet time tells that a file is finished",
        "let uploaderd run as the recorder's user, or give it CAP_LEASE (AmbientCapabilities=CAP_LEASE in its"
        " unit); or let the recorder rename or mark what is finished",
    )


def _some_file(config: Config, name: str) -> bytes | None:
    """The first recording that is met, if one is met in time."""
    claim = Belonging(config.sources).of(name)
    root, until = os.fsencode(config.sources[name].path), monotonic() + COUNT_SECONDS
    pending = [root]
    while pending and monotonic() < until:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.is_file(follow_symlinks=False) and claim.take(entry.path[len(root) + 1 :]):
                        return entry.path
        except OSError:
            continue
    return None


def _quiet(source: Source) -> Found:
    if source.quiet_for is None:
        return ok("auto")
    if source.finished in ("rename", "marker"):
        return ok(
            f"quiet_for = {format_duration(source.quiet_for)}, of what comes without its {source.finished}"
        )
    if _mount(source.path) is Mount.NETWORK:
        least, why = QUIET_ON_NETWORK, "on a network file system, where times lag and writers are not seen"
    elif source.finished == "quiet":
        least, why = QUIET_ALONE, "where nothing else tells that a file is finished"
    else:
        least, why = QUIET_WITH_LEASE, "for a recorder that closes its file and opens it again"
    if source.quiet_for < least:
        return warn(
            f"quiet_for = {format_duration(source.quiet_for)} is short {why}",
            f'write "{format_duration(least)}" or more, or leave it out (auto)',
        )
    return ok(f"quiet_for = {format_duration(source.quiet_for)}")


def _sharing(config: Config, name: str) -> list[str]:
    """Sources whose tree overlaps with that of this one."""
    here = config.sources[name].path
    return [
        other
        for other, source in config.sources.items()
        if other != name and (here.is_relative_to(source.path) or source.path.is_relative_to(here))
    ]


def _shared(config: Config, name: str, others: list[str]) -> Found:
    order = list(config.sources)
    first = [other for other in others if order.index(other) < order.index(name)]
    for other in first:
        if _takes_all_of(config.sources[other], config.sources[name]):
            return warn(
                f"it gets nothing: {other}, which comes before it, takes every file of it",
                f"put [sources.{name}] before [sources.{other}], or exclude its files there",
            )
    shared = f"shares files' folders with {', '.join(others)}; a file that both would take"
    if first:
        return ok(f"{shared} goes to {', '.join(first)}, which stands before it in the configuration")
    return ok(f"{shared} goes to it, for it stands first in the configuration")


def _takes_all_of(first: Source, second: Source) -> bool:
    """Whether the first source surely takes whatever the second would."""
    if not second.path.is_relative_to(first.path) or not {"**", "**/*"} & set(first.include):
        return False
    return set(excluded(first)) <= set(excluded(second))


def _mount(path: Path) -> Mount:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return mount_of(fd)
    finally:
        os.close(fd)
