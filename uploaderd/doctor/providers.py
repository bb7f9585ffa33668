"""The providers: login, clock, what the bucket does by itself, and whether uploads work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, nullcontext
from datetime import UTC, datetime
from typing import Final

from uploaderd.config import Config, DirectoryProvider, S3Provider
from uploaderd.config import Provider as ProviderConfig
from uploaderd.doctor import folders
from uploaderd.doctor.findings import Finding, Found, Look, Result, fail, looked, ok, warn
from uploaderd.doctor.trial import Trial
from uploaderd.errors import CannotLook, Fault
from uploaderd.provider import Provider, Rules, Tells
from uploaderd.providers import open_provider
from uploaderd.waiting import on_own_thread

UNNOTICED: Final = 2.0
"""Seconds: `Date` counts whole ones, and the reply takes a moment."""

DRIFTING: Final = 60.0
"""A clock that is kept by NTP is never so far off."""

REFUSED: Final = 240.0
"""Google takes no login from a clock five minutes ahead or behind; S3 and Azure allow fifteen."""


def subject(name: str) -> str:
    return f"provider {name}"


async def findings(config: Config, name: str, *, used: bool, write: bool) -> AsyncIterator[Finding]:
    """Everything about one provider, as it is found.

    Args:
        config: the configuration.
        name: the provider's.
        used: it holds copies already, so that a folder without its marker is a missing mount.
        write: try a real upload.
    """
    table, about = config.providers[name], subject(name)
    if not table.enabled:
        yield Finding(about, "configuration", ok("disabled: not looked at"), 0.0)
        return
    if isinstance(table, DirectoryProvider):
        seen = await looked(about, "folder", _folder(table))
        for finding in seen:
            yield finding
        if any(one.found.result is Result.FAIL for one in seen):
            return
        if whose := await on_own_thread(lambda: folders.others(table.path)):
            why = warn(
                f"only {whose} may write there; you may not try",
                f"ask as that user: sudo -u {whose} uploaderd doctor",
            )
            yield Finding(about, "write", why, 0.0)
            return
    async with AsyncExitStack() as stack:
        opened: list[Provider] = []

        async def opening() -> list[Found]:
            opened.append(await open_provider(name, table, expect_marker=used))
            stack.push_async_callback(opened[0].aclose)
            return []

        for finding in await looked(about, "opening", opening):
            yield finding
        if opened:
            # What a folder is given by the first write is taken away again.
            clean = folders.as_it_was(table.path) if isinstance(table, DirectoryProvider) else nullcontext()
            with clean:
                async for finding in _asked(opened[0], table, about, write=write):
                    yield finding


async def _asked(
    provider: Provider, table: ProviderConfig, about: str, *, write: bool
) -> AsyncIterator[Finding]:
    answers = await looked(about, "login", lambda: _login(provider, quiet=not write))
    for finding in answers:
        yield finding
    refused = any(one.found.result is Result.FAIL for one in answers)
    rules = Rules()
    if isinstance(provider, Tells):
        teller = provider
        for finding in await looked(about, "clock", lambda: _clock(teller, refused=refused)):
            yield finding
        if not refused:
            known: list[Rules] = []

            async def asking() -> list[Found]:
                known.append(await teller.rules())
                return [_unfinished(known[0], table)]

            for finding in await looked(about, "unfinished uploads", asking):
                yield finding
            rules = known[0] if known else rules
    if refused:
        return
    kept = rules.kept or _locked(table)
    if not write:
        yield Finding(about, "write", ok("not tried: --no-write"), 0.0)
    elif kept:
        why = warn(
            f"not tried: what is written is kept from being deleted ({kept}), the trial object too",
            "nothing to mend: the first recording will tell; --no-write says that you know",
        )
        yield Finding(about, "write", why, 0.0)
    else:
        async for finding in Trial(about, provider, table).findings():
            yield finding


def _folder(table: DirectoryProvider) -> Look:
    async def look() -> list[Found]:
        return [await on_own_thread(lambda: folders.folder(table))]

    return look


async def _login(provider: Provider, *, quiet: bool) -> list[Found]:
    """Whether it lets us in, and by which login. `quiet`: without a write, where even a probe is one."""
    try:
        if quiet and provider.target.startswith("file:"):
            await provider.stat(".uploaderd-doctor")
        else:
            await provider.probe()
    except CannotLook:
        pass  # the trial tells what may be done
    return [ok(f"{provider.target}, by {provider.login}")]


async def _clock(provider: Tells, *, refused: bool) -> list[Found]:
    """How far ours is off; nothing to say where a provider that `refused` us does not even answer."""
    asked = datetime.now(UTC)
    try:
        told = await provider.time()
    except Fault:
        if refused:
            return []
        raise
    answered = datetime.now(UTC)
    if told is None:
        return [ok("not measured: its replies have no date")]
    ahead = (asked + (answered - asked) / 2 - told).total_seconds() - 0.5  # `Date` leaves the fraction out
    if abs(ahead) <= UNNOTICED + (answered - asked).total_seconds():
        return [ok("agrees with the provider's to the second")]
    off = f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the provider's"
    fix = "set it, and keep it right: timedatectl set-ntp true"
    if abs(ahead) >= REFUSED:
        return [fail(f"{off}: logins are refused, or soon will be", fix)]
    return [warn(off, fix) if abs(ahead) >= DRIFTING else ok(off)]


def _unfinished(rules: Rules, table: ProviderConfig) -> Found:
    match rules.unfinished_end:
        case True:
            return ok("ended by a rule or by the service, if nobody discards them")
        case False:
            return warn(
                "no lifecycle rule ends half-done uploads: what a lost machine leaves is paid for, unseen",
                f"give {_bucket(table)} the rule AbortIncompleteMultipartUpload, 7 days (docs/providers.md)",
            )
    return ok("whether a rule ends them is not told to this login")


def _bucket(table: ProviderConfig) -> str:
    return f"the bucket {table.bucket!r}" if isinstance(table, S3Provider) else "it"


def _locked(table: ProviderConfig) -> str:
    """What the configuration itself makes of each object."""
    if not isinstance(table, S3Provider):
        return ""
    if table.legal_hold:
        return "legal_hold = true"
    return f"lock_mode = {table.lock_mode!r}" if table.lock_mode else ""
