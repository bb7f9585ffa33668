"""A source: a watched directory tree and its rules."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field

from uploaderd.config.kinds import (
    Count,
    Flag,
    LocalPath,
    Names,
    PositiveSeconds,
    Seconds,
    SecondsOrAuto,
    SecondsOrOff,
    Table,
    Text,
)
from uploaderd.keys import parse_template

QUIET_WITH_LEASE: Final = 2.0
QUIET_ALONE: Final = 60.0
QUIET_ON_NETWORK: Final = 300.0

# What strftime has that means the same everywhere: no locale's own forms (%c, %x, %X), and none of
# glibc's extensions, which other C libraries pass through as text.
_DATE_DIRECTIVES: Final = frozenset("YymdHMSjUWVGuwaAbBpIzZf%")


def _pattern(pattern: str) -> str:
    if pattern.startswith("/") or ".." in pattern.split("/"):
        raise ValueError(f"{pattern!r} must be relative to the source's path, without '..'")
    return pattern


def _template(text: str) -> str:
    parse_template(text)
    for form in re.findall(r"\{date:([^{}]*)\}", text):
        for directive in re.findall(r"%(.?)", form):
            if directive not in _DATE_DIRECTIVES:
                raise ValueError(f"%{directive} is not a date format; such are %Y %m %d %H %M %S %j")
    return text


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f'{name!r} is no time zone that this machine knows; write one such as "Europe/Berlin"'
            " (if even UTC is unknown, install the system's tzdata)"
        ) from None
    return name


def _required(value: object) -> object:
    """Say it once: a union would report each of its members."""
    number = isinstance(value, int) and not isinstance(value, bool)
    names = (
        isinstance(value, list | tuple) and value and all(isinstance(name, str) and name for name in value)
    )
    if value == "all" or number or names:
        return value
    raise ValueError('must be "all", a number of providers, or a list with some of their names')


def _polling(value: object) -> object:
    if value == "auto" or isinstance(value, bool):
        return value
    raise ValueError('must be "auto", true or false')


Patterns = tuple[Annotated[Text, AfterValidator(_pattern)], ...]


class Cleanup(Table):
    """What becomes of the local file once its recording is safe."""

    policy: Literal["keep", "delete-when-safe"] = Field(
        "keep", description="`keep` leaves local files alone; `delete-when-safe` removes them, by proof."
    )
    keep_for: Seconds = Field(86_400.0, description="How long a file stays after its recording became safe.")
    without_lease: Flag = Field(
        False,
        description="Allow deletion where no lease can be had, and only quiet time says that the"
        " file is finished.",
    )
    remove_empty_dirs: Flag = Field(
        False, description="Also remove directories that the cleanup has left empty."
    )


class Source(Table):
    """A watched directory tree and its rules. A file belongs to the first source that takes it."""

    path: LocalPath = Field(description="The directory whose files are recordings, at any depth.")
    include: Annotated[Patterns, Field(min_length=1)] = Field(
        ("**/*",), description="Patterns, relative to `path`, of the files that are taken; `**` is any depth."
    )
    exclude: Patterns = Field(
        ("**/*.tmp", "**/*.part"), description="Patterns of files that are not, though `include` takes them."
    )
    finished: Literal["auto", "quiet", "rename", "marker"] = Field(
        "auto",
        description="How a file is known to be finished. `auto`: no writer (by lease) and quiet. `quiet`:"
        " quiet alone. `rename`: it arrived by a rename. `marker`: `{path}.done` is beside it, or its"
        " `{path}.lock` or `{path}.tmp` is gone.",
    )
    quiet_for: SecondsOrAuto = Field(
        None,
        description="How long a file must not have changed. `auto`: 2s with the lease, 60s without,"
        " 5m on network file systems.",
    )
    container_check: Literal["off", "warn", "require"] = Field(
        "off",
        description="Look whether MP4, Matroska and MPEG-TS are whole: `off`, `warn`, or `require`"
        ' to hold what is not. With `on_stop = "drain"`, `warn` is the default.',
    )
    empty: Literal["skip", "upload"] = Field("skip", description="Files of zero bytes: `skip` or `upload`.")
    sweep_every: PositiveSeconds = Field(
        300.0, description="How often the whole tree is compared with the ledger; events are only hints."
    )
    polling: Annotated[Literal["auto"] | bool, BeforeValidator(_polling)] = Field(
        "auto",
        description="Poll instead of waiting for events. `auto`: on NFS, SMB, FUSE, beside events on overlay,"
        " and where the kernel's limit of watches is reached.",
    )
    key: Annotated[Text, AfterValidator(_template)] = Field(
        "{source}/{date:%Y/%m/%d}/{path}",
        description="The object's key: `{source} {date:...} {path} {name} {stem} {ext} {host} {site}"
        " {env:NAME}`.",
    )
    date_from: Literal["mtime", "found"] = Field(
        "mtime", description="What `{date}` is taken from; an implausible `mtime` counts as `found`."
    )
    timezone: Annotated[Text, AfterValidator(_timezone)] = Field(
        "UTC", description="The time zone of `{date}`."
    )
    providers: Annotated[Names, Field(min_length=1)] | None = Field(
        None, description="Where its recordings go. Default: every enabled provider."
    )
    required: Annotated[Literal["all"] | Count | Names, BeforeValidator(_required)] = Field(
        "all", description="Which of them a recording needs to be safe: `all`, a number, or names."
    )
    priority: Count = Field(0, description="Recordings of a source with a higher number go first.")
    expect_every: SecondsOrOff = Field(
        None,
        description="Alarm (the word is FAILING) when no new recording came for longer than this. Or `off`.",
    )
    metadata: dict[Text, Text] = Field({}, description="Metadata that each of its objects gets.")
    cleanup: Cleanup = Field(Cleanup(), description="What becomes of the local files.")

    def quiet_time(self, *, lease: bool, network: bool) -> float:
        """Seconds without a change after which a file counts as quiet.

        Args:
            lease: a write lease can be had, so that quiet time only has to cover a recorder that
                closes and opens its file again.
            network: the file lies on a network file system, where times lag behind.
        """
        if self.quiet_for is not None:
            return self.quiet_for
        if lease:
            return QUIET_WITH_LEASE
        return QUIET_ON_NETWORK if network else QUIET_ALONE
