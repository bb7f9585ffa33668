"""All the looks, in the order in which they are shown: what is nearest first."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence

from uploaderd import __version__
from uploaderd.acts.acting import user
from uploaderd.config import Config
from uploaderd.doctor import configuration, ledger, providers, sources
from uploaderd.doctor.findings import Finding, FindingLine, Found, Report, Result, looked
from uploaderd.report.model import iso
from uploaderd.waiting import on_own_thread


async def examine(
    config: Config, lacks: Sequence[str], *, write: bool, env: Mapping[str, str] = os.environ
) -> AsyncIterator[Finding]:
    """Each finding as it comes, by subject: configuration, ledger, sources, providers.

    Args:
        config: as this user can read it.
        lacks: what the daemon would miss in it, and this user may miss only because the daemon has it.
        write: try a real upload at each provider.
        env: this process's environment.
    """
    for check, look in configuration.looks(config, lacks, env):
        for finding in await looked(configuration.SUBJECT, check, look):
            yield finding
    for check, look in ledger.looks(config):
        for finding in await looked(ledger.SUBJECT, check, look):
            yield finding
    for name in config.sources:
        for check, look in sources.looks(config, name):
            found = await looked(sources.subject(name), check, look)
            for finding in found:
                yield finding
            if check == "folder" and _gravest(found) is Result.FAIL:
                break
    used = await on_own_thread(lambda: ledger.used_providers(config))
    asked = {
        name: asyncio.create_task(_all(config, name, used=name in used, write=write))
        for name in config.providers
    }
    try:
        for task in asked.values():
            for finding in await task:
                yield finding
    finally:
        # A trial that is cut short deletes what it wrote.
        for task in asked.values():
            task.cancel()
        await asyncio.gather(*asked.values(), return_exceptions=True)


def unusable(faults: Sequence[str]) -> list[Finding]:
    """What is to be said where there is no configuration that can be used."""
    found: list[Found] = list(configuration.unusable(faults))
    return [Finding(configuration.SUBJECT, "file", one, 0.0) for one in found]


def report(findings: Sequence[Finding], *, now: int, daemon: bool) -> Report:
    """All of it, for programs; `now` in milliseconds since the epoch."""
    counts = Counter(finding.found.result for finding in findings)
    lines: list[FindingLine] = [
        {
            "subject": one.subject,
            "check": one.check,
            "result": one.found.result.value,
            "found": one.found.text,
            "fix": one.found.fix or None,
            "seconds": one.seconds,
        }
        for one in findings
    ]
    return {
        "schema_version": 1,
        "result": _gravest(findings).value,
        "at": iso(now),
        "version": __version__,
        "user": user(os.geteuid()),
        "daemon": daemon,
        "counts": {result.value: counts[result] for result in Result},
        "checks": lines,
    }


async def _all(config: Config, name: str, *, used: bool, write: bool) -> list[Finding]:
    return [one async for one in providers.findings(config, name, used=used, write=write)]


def _gravest(findings: Sequence[Finding]) -> Result:
    order = list(Result)
    return max((finding.found.result for finding in findings), key=order.index, default=Result.OK)
