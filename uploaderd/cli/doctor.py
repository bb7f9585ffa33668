"""`uploaderd doctor`."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final

import typer

from uploaderd.cli import exits, say
from uploaderd.cli.opened import configuration
from uploaderd.cli.options import ConfigFile, Json, SecretsDir, examples
from uploaderd.report.lines import Line, Tone, count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from uploaderd.config import Config
    from uploaderd.doctor.findings import Finding, Report

EXAMPLES: Final = examples(
    "uploaderd doctor                         will it work? With a real small upload to each provider",
    "uploaderd doctor --no-write              without writing an object anywhere",
    "uploaderd doctor --json | jq '.checks[] | select(.result != \"ok\")'",
)

_TONES: Final = {"ok": Tone.GOOD, "warn": Tone.LATE, "fail": Tone.BAD}


def doctor(
    context: typer.Context,
    no_write: Annotated[
        bool,
        typer.Option(
            "--no-write",
            help="Write no object: for buckets whose lock would keep it, and logins that may not delete.",
        ),
    ] = False,
    as_json: Json = False,
    secrets_dir: SecretsDir = None,
    config: ConfigFile = None,
) -> None:
    """Will it work? Look at everything that uploads depend on, and say what to mend.

    Configuration, permissions, clock, disk, watch limits, file systems; and at each provider a real small
    upload, which is proven, read back, fetched by a signed URL, and deleted. No check takes longer than
    20 s. The daemon may run meanwhile, or not. Exit 1 if anything fails; warnings alone are 0.
    """
    from uploaderd.cli import ending

    try:
        findings = ending.run(_examine(context, config, secrets_dir, write=not no_write, quiet=as_json))
    except KeyboardInterrupt:
        say.message("stopped; what it wrote is deleted again")
        raise typer.Exit(exits.INTERRUPTED) from None
    raise typer.Exit(exits.PROBLEMS if any(one.found.result == "fail" for one in findings) else exits.OK)


async def _examine(
    context: typer.Context, file: Path | None, secrets_dir: Path | None, *, write: bool, quiet: bool
) -> Sequence[Finding]:
    """Carry it out, and show it as it comes; or, `quiet`, as JSON at its end."""
    from uploaderd.cli.control import quiet_logs
    from uploaderd.doctor.examining import examine, report, unusable
    from uploaderd.ledger.lock import holder

    findings: list[Finding] = []
    subject = ""

    def show(one: Finding) -> None:
        nonlocal subject
        findings.append(one)
        if not quiet:
            say.lines(_lines(one, before=subject))
        subject = one.subject

    loaded, lacks = _configuration(context, file, secrets_dir)
    running = False
    if loaded is None:
        for one in unusable(lacks):
            show(one)
    else:
        quiet_logs(loaded)
        with suppress(PermissionError):
            running = holder(loaded.ledger.path) is not None
        async for one in examine(loaded, lacks, write=write):
            show(one)
    told = report(findings, now=time.time_ns() // 1_000_000, daemon=running)
    if quiet:
        say.data(json.dumps(told, ensure_ascii=False))
    else:
        say.lines([Line(""), _sum(told)])
    return findings


def _configuration(
    context: typer.Context, file: Path | None, secrets_dir: Path | None
) -> tuple[Config | None, Sequence[str]]:
    """The configuration as this user can read it, and what is wrong with it or missing in it."""
    from uploaderd.config import ConfigError

    try:
        return configuration(context, file, complete=True, secrets_dir=secrets_dir), ()
    except ConfigError as error:
        lacks = error.faults
    try:
        return configuration(context, file, secrets_dir=secrets_dir), lacks
    except ConfigError as error:
        return None, error.faults


def _lines(one: Finding, *, before: str) -> Iterator[Line]:
    """A finding, below its subject, which is said once; `before`: that of the last one."""
    if before and before != one.subject:
        yield Line("")
    if before != one.subject:
        yield Line(one.subject[:1].upper() + one.subject[1:], Tone.QUIET)
    word = one.found.result
    yield Line(f"{word:4}  {one.check:18}  {one.found.text}", _TONES[word], head=4)
    if one.found.fix:
        yield Line(f"      {'fix':18}  {one.found.fix}")


def _sum(told: Report) -> Line:
    counts = told["counts"]
    text = f"{counts['ok']} ok, {count(counts['warn'], 'warning')}, {count(counts['fail'], 'failure')}"
    word = told["result"]
    return Line(f"{word.upper()}  {text}; asked as {told['user']}", _TONES[word], head=len(word))
