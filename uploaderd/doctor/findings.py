"""What a look came to: result, what was found, and what to do; and how long a look may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import Final, Literal, TypedDict, TypeVar

from uploaderd.errors import Fault, UploaderdError
from uploaderd.model import FailureClass
from uploaderd.waiting import on_own_thread

T = TypeVar("T")

LOOK_SECONDS: Final = 20.0
"""How long a look may take: a mount or a provider that hangs must not hide what the others say."""


class Result(StrEnum):
    """The order is that of gravity."""

    OK = "ok"
    WARN = "warn"
    """It works, and may not do so for long, or gives less than it could."""
    FAIL = "fail"
    """Uploads, or the proof of them, do not work."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that was found; `fix` is what to do, empty where all is well."""

    result: Result
    text: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was found, where (`subject`: "ledger", "source cameras") and by which check."""

    subject: str
    check: str
    found: Found
    seconds: float


Word = Literal["ok", "warn", "fail"]


class FindingLine(TypedDict):
    """A check of `doctor --json`; `fix` is null where there is nothing to do."""

    subject: str
    check: str
    result: Word
    found: str
    fix: str | None
    seconds: float


class Report(TypedDict):
    """`doctor --json`. `result` is the gravest one; `user` is who asked, and `daemon` whether one runs."""

    schema_version: Literal[1]
    result: Word
    at: str
    version: str
    user: str
    daemon: bool
    counts: dict[str, int]
    checks: list[FindingLine]


def ok(text: str) -> Found:
    return Found(Result.OK, text)


def warn(text: str, fix: str) -> Found:
    return Found(Result.WARN, text, fix)


def fail(text: str, fix: str) -> Found:
    return Found(Result.FAIL, text, fix)


Look = Callable[[], Awaitable[Iterable[Found]]]


async def looked(subject: str, check: str, look: Look, seconds: float = LOOK_SECONDS) -> list[Finding]:
    """Look, for at most so many seconds; what that came to. An error is a finding, too."""
    began = monotonic()
    found: Iterable[Found]
    try:
        async with asyncio.timeout(seconds):
            found = await look()
    except TimeoutError:
        found = [fail(f"no answer in {seconds:g} s", "see whether it hangs: a dead mount, a filtered port")]
    except Fault as fault:
        found = [of_fault(fault)]
    except (OSError, UploaderdError) as error:
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        hint = getattr(error, "hint", "") or "mend that, and ask again"
        found = [fail(f"{where}{getattr(error, 'strerror', None) or error}", hint)]
    took = round(monotonic() - began, 3)
    return [Finding(subject, check, one, took) for one in found]


def of_fault(fault: Fault, result: Result = Result.FAIL) -> Found:
    """A provider's fault, as it is shown by `status`."""
    if fault.hint:
        return Found(result, fault.message, fault.hint)
    if fault.http_status is None and fault.failure is FailureClass.TRANSIENT:
        return Found(result, fault.message, "check the network, the firewall and the provider's endpoint_url")
    return Found(result, fault.message, "it may pass by itself: ask again in a minute")


def blocking(work: Callable[[], Iterable[Found]]) -> Look:
    """A look that may block."""

    async def look() -> Iterable[Found]:
        return await on_own_thread(lambda: list(work()))

    return look
