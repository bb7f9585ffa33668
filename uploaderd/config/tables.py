"""The tables that a configuration has once: ledger, daemon, web."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from uploaderd.config.bandwidth import Bandwidth
from uploaderd.config.kinds import (
    BandwidthLimit,
    LocalPath,
    Names,
    PositiveSeconds,
    Seconds,
    SecondsOrForever,
    Secret,
    Table,
    Text,
)
from uploaderd.model import Order

LogLevel = Literal["debug", "info", "warning", "error"]
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def _listen(text: str) -> str:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(\d{1,5})", text)
    if match is None or int(match[2]) > 65_535:
        raise ValueError('is not host:port, such as "127.0.0.1:9464" or "[::1]:9464"')
    return text


def _prom(path: Path) -> Path:
    if path.suffix != ".prom":
        raise ValueError('does not end in ".prom": the collector would not read it')
    return path


class Ledger(Table):
    """The SQLite file that holds every recording, upload, attempt and proof."""

    path: LocalPath = Field(
        Path("/var/lib/uploaderd/ledger.db"),
        description="The ledger's file, on a local disk. Default: `ledger.db` in `$STATE_DIRECTORY`,"
        " else `/var/lib/uploaderd/ledger.db`.",
    )
    keep_for: SecondsOrForever = Field(
        400 * 86_400.0,
        description="How long the history of safe recordings stays; it is exported before it is"
        " pruned. Or `forever`.",
    )


class Daemon(Table):
    """The program as a whole."""

    behind_after: PositiveSeconds = Field(
        900.0, description="The word is BEHIND once the oldest waiting recording is older than this."
    )
    shutdown_grace: Seconds = Field(
        20.0, description="When told to stop: how long parts in flight may take to finish."
    )
    on_stop: Literal["checkpoint", "drain"] = Field(
        "checkpoint",
        description="When told to stop: `checkpoint` keeps half-done uploads for the next start,"
        " `drain` finishes all uploads first.",
    )
    drain_timeout: PositiveSeconds = Field(600.0, description="With `drain`: how long that may take.")
    log_level: LogLevel = Field("info", description="`debug`, `info`, `warning` or `error`.")
    log_levels: dict[Text, LogLevel] = Field(
        {}, description='Levels of single libraries, such as `{ azure = "debug" }`.'
    )
    retrieval_order: Names = Field(
        (), description="Which provider is asked first for a URL. Default: the providers' order in the file."
    )
    bandwidth: BandwidthLimit = Field(
        Bandwidth(),
        description="Limit over all providers: a rate, or a table by local time of day. Or `unlimited`.",
    )
    site: Text | None = Field(
        None,
        description="Where this recorder stands: `{site}` in keys, unless a source's metadata has"
        " its own `site`.",
    )
    order: Order = Field(
        "oldest",
        description="Which waiting recording goes first among sources of the same priority:"
        " `oldest`, `newest` or `smallest`.",
    )


class Web(Table):
    """The control socket and, where wanted, the same over TCP."""

    socket: LocalPath = Field(
        Path("/var/lib/uploaderd/control.sock"),
        description="The control socket. Default: `control.sock` in `$RUNTIME_DIRECTORY`, else"
        " beside the ledger.",
    )
    socket_group: Text | None = Field(
        None, description="A group that may read through the socket, and not act; its owner may do both."
    )
    listen: Annotated[Text, AfterValidator(_listen)] | None = Field(
        None, description="Status page, health and metrics over TCP at this `host:port`."
    )
    token: Secret | None = Field(
        None,
        description="What a request over TCP must bring; a must where `listen` is not a loopback address.",
    )
    metrics_file: Annotated[LocalPath, AfterValidator(_prom)] | None = Field(
        None,
        description="The metrics as a file too, for node_exporter's textfile collector: written anew every"
        " 15 s; its name ends in `.prom`.",
    )
