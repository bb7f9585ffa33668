"""Values that are fine one by one and wrong together: what the machine alone can decide (exit 78).

Nothing here touches a disk or a network: whether a directory or a bucket is there is found out by the
running daemon, which pauses and heals.
"""

from __future__ import annotations

import grp
import os
import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Final

from uploaderd.config.bandwidth import Bandwidth
from uploaderd.config.faults import Fault, nearest
from uploaderd.config.provider import DirectoryProvider
from uploaderd.config.tables import LOOPBACK
from uploaderd.config.units import format_rate
from uploaderd.config.whole import Config, Key

SLOWEST: Final = 8000
"""Bytes per second for one provider: a part of 5 MiB takes eleven of the fifteen minutes that S3 grants."""

LONGEST_SOCKET: Final = 107
"""Bytes: sizeof(sockaddr_un.sun_path) on Linux, less the final zero (unix(7))."""


def contradictions(config: Config) -> Iterator[Fault]:
    """What cannot be as it is, whoever reads it."""
    yield from _providers(config)
    for name in config.sources:
        yield from _source(config, name)
    yield from _same_files(config)
    yield from _loops(config)
    yield from _bandwidths(config)
    for index, name in enumerate(config.daemon.retrieval_order, 1):
        if name not in config.providers:
            yield Fault(
                ("daemon", "retrieval_order"),
                f"item {index}: no provider has this name{nearest(name, config.providers)}",
            )
    if len(os.fsencode(config.web.socket)) > LONGEST_SOCKET:
        yield Fault(
            ("web", "socket"),
            f"{str(config.web.socket)!r} has more than {LONGEST_SOCKET} bytes, which is all that a"
            " Unix socket's"
            " path may have; set a shorter one",
        )


def _bandwidths(config: Config) -> Iterator[Fault]:
    """Limits below which no part would arrive in its time."""
    enabled = [name for name, provider in config.providers.items() if provider.enabled]
    limits: list[tuple[Key, Bandwidth, int]] = [(("daemon",), config.daemon.bandwidth, max(1, len(enabled)))]
    limits += [(("providers", name), config.providers[name].bandwidth, 1) for name in enabled]
    for table, bandwidth, sharers in limits:
        if bandwidth.least is not None and bandwidth.least < SLOWEST * sharers:
            yield Fault(
                (*table, "bandwidth"),
                f"{format_rate(bandwidth.least)} is less than {format_rate(SLOWEST * sharers)}, below which"
                " the smallest part would take longer than S3 waits for it; raise it, or disable the"
                " provider",
            )


def lacks(config: Config, env: Mapping[str, str]) -> Iterator[Fault]:
    """What only the daemon's own surroundings bring, and did not: secrets and variables."""
    for name, provider in config.providers.items():
        for key, message in provider.lacks():
            yield Fault(("providers", name, key), message)
    for name, webhook in config.webhooks.items():
        for key, message in webhook.lacks():
            yield Fault(("webhooks", name, key), message)
    for name, source in config.sources.items():
        for variable in re.findall(r"\{env:(\w+)\}", source.key):
            if not env.get(variable):
                yield Fault(
                    ("sources", name, "key"), f"the variable {variable}, which the key takes up, is not set"
                )
    group = config.web.socket_group
    if group is not None and group not in (known := [entry.gr_name for entry in grp.getgrall()]):
        yield Fault(
            ("web", "socket_group"), f"this machine has no group {group!r}{nearest(group, known)}; make it"
        )
    if config.web.listen and not config.web.token and config.web.listen.rpartition(":")[0] not in LOOPBACK:
        yield Fault(("web", "token"), "is missing: others than this machine may ask only with one")


def _providers(config: Config) -> Iterator[Fault]:
    for name, provider in config.providers.items():
        for key, message in provider.contradictions():
            yield Fault(("providers", name, key), message)
    for (first, one), (second, other) in combinations(config.providers.items(), 2):
        # Their objects would be each other's: one copy, counted as two.
        if one.enabled and other.enabled and one.target == other.target and one.prefix == other.prefix:
            yield Fault(
                ("providers", second),
                f"is the same place as {first} ({one.target}); give one a prefix, or drop it",
            )


def _source(config: Config, name: str) -> Iterator[Fault]:
    source = config.sources[name]
    key: Key = ("sources", name)
    for index, provider in enumerate(source.providers or (), 1):
        if provider not in config.providers:
            yield Fault(
                (*key, "providers"),
                f"item {index}: no provider is named {provider!r}{nearest(provider, config.providers)}",
            )
        elif not config.providers[provider].enabled:
            yield Fault(
                (*key, "providers"), f"item {index}: {provider!r} is disabled; enable it, or take it out here"
            )
    providers = config.providers_of(name)
    if not providers and source.providers is None:
        yield Fault(
            key, "its recordings would go nowhere: no provider is enabled; add a [providers.NAME] table"
        )
    if isinstance(source.required, tuple):
        for wanted in source.required:
            if wanted not in (source.providers or providers):
                yield Fault(
                    (*key, "required"),
                    f"{wanted!r} is not among the source's providers{nearest(wanted, providers)}",
                )
    elif isinstance(source.required, int) and providers and not 1 <= source.required <= len(providers):
        yield Fault(
            (*key, "required"),
            f"{source.required} of {len(providers)} providers cannot be; write 1 to {len(providers)},"
            ' or "all"',
        )
    if "{site}" in source.key and not config.site_of(name):
        yield Fault(
            (*key, "key"),
            "takes up {site}, and nothing says what it is; set site in [daemon], or in the source's metadata",
        )


def _same_files(config: Config) -> Iterator[Fault]:
    for (first, one), (second, other) in combinations(config.sources.items(), 2):
        if (
            one.path == other.path
            and set(one.include) == set(other.include)
            and set(one.exclude) == set(other.exclude)
        ):
            yield Fault(
                ("sources", second, "path"),
                f"takes the same files as the source {first}, which comes first and has them all;"
                " change path or patterns",
            )


def _loops(config: Config) -> Iterator[Fault]:
    """Our own files must not lie where recordings are looked for. Links are not followed."""
    for name, source in config.sources.items():
        if _within(config.ledger.path, source.path):
            yield Fault(
                ("ledger", "path"),
                f"lies inside the source {name} ({source.path}), and would be taken for a recording;"
                " move it out",
            )
        if config.web.metrics_file is not None and _within(config.web.metrics_file, source.path):
            yield Fault(
                ("web", "metrics_file"),
                f"lies inside the source {name} ({source.path}), whose recordings are looked for there;"
                " move it out",
            )
        for provider, directory in config.providers.items():
            if isinstance(directory, DirectoryProvider) and directory.enabled:
                if _within(directory.path, source.path):
                    yield Fault(
                        ("providers", provider, "path"),
                        f"lies inside the source {name} ({source.path}): copies would be taken for"
                        " recordings; move it out",
                    )
                elif _within(source.path, directory.path):
                    yield Fault(
                        ("sources", name, "path"),
                        f"lies inside the provider {provider} ({directory.path}): copies could be"
                        " taken for recordings; move one out",
                    )


def _within(inner: Path, outer: Path) -> bool:
    return inner.is_relative_to(outer)
