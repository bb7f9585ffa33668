"""`uploaderd verify`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from uploaderd.cli import exits, say
from uploaderd.cli.control import on_ledger, perform
from uploaderd.cli.meant import meant
from uploaderd.cli.opened import configuration
from uploaderd.cli.options import ConfigFile, SecretsDir, examples
from uploaderd.cli.progress import Seen, shown
from uploaderd.report.lines import count, size, span

if TYPE_CHECKING:
    from uploaderd.cli.progress import Show

EXAMPLES: Final = examples(
    "uploaderd verify                         are all copies still there?",
    "uploaderd verify cam1/18-00.mp4",
    "uploaderd verify --deep --rate 80Mbit/s  read everything back, and compare",
    "uploaderd verify --deep --resume         go on where that was cut off",
    "uploaderd verify --repair                and upload again what is not there as it was",
)


def verify(
    context: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Files, folders or recordings (id, or a unique part of the name). Default: everything.",
            show_default=False,
        ),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read the copies back, and compare; says the bytes first.")
    ] = False,
    rate: Annotated[
        str | None,
        typer.Option(metavar="R", help='With --deep: no faster, such as "40Mbit/s".', show_default=False),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Upload again what is not there as it was.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a run over everything was cut off.")
    ] = False,
    secrets_dir: SecretsDir = None,
    config: ConfigFile = None,
) -> None:
    """Ask the providers again for every copy that is believed to be there.

    What is gone or is another object by now is on record at once, and needs a person, unless --repair has
    it uploaded again. Exit 1 if there is such a copy, or one of which only its content can tell; 69 if a
    provider could not be asked.
    """
    from uploaderd.acts.orders import Verify

    if rate is not None and not deep:
        raise typer.BadParameter("--rate is about reading back; give --deep, too")
    if resume and paths:
        raise typer.BadParameter("--resume goes on with a run over everything; give no PATH")
    limit = _rate(rate)
    loaded = configuration(context, config)
    wanted = meant(loaded, paths) if paths else None
    order = Verify(
        recordings=wanted.recordings if wanted is not None else None,
        files=wanted.files if wanted is not None else (),
        deep=deep,
        rate=limit,
        repair=repair,
        resume=resume,
    )
    try:
        with shown() as show:

            def progress(how_far: Mapping[str, Any]) -> None:
                _show(how_far, show, deep=deep, rate=limit)

            def alone() -> Mapping[str, Any]:
                whole = configuration(context, config, complete=True, secrets_dir=secrets_dir)
                return on_ledger(whole, order, progress)

            done = perform(loaded, order, progress, alone)
    except KeyboardInterrupt:
        again = " --deep" if deep else ""
        say.message("stopped" if paths else f"stopped; `uploaderd verify{again} --resume` goes on from there")
        raise typer.Exit(exits.INTERRUPTED) from None
    raise typer.Exit(_tell(done, deep=deep))


def _show(how_far: Mapping[str, Any], show: Show, *, deep: bool, rate: int | None) -> None:
    if "begins" in how_far:
        for line in _begins(how_far["begins"], deep=deep, rate=rate):
            say.message(line)
    elif deep:
        show(Seen(how_far["bytes"], how_far["of_bytes"], "read back", in_bytes=True))
    else:
        show(Seen(how_far["checked"], how_far["of"], "copies asked for"))


def _begins(begins: Mapping[str, Any], *, deep: bool, rate: int | None) -> list[str]:
    in_use = {name: one for name, one in begins.items() if one["in_use"]}
    lines = [
        f"{name} is not in use: {count(one['copies'], 'copy')} there cannot be asked for"
        for name, one in begins.items()
        if not one["in_use"]
    ]
    if deep:
        whole = sum(one["bytes"] for one in in_use.values())
        each = ", ".join(f"{name} {size(one['bytes'])}" for name, one in in_use.items())
        takes = f"; at this rate some {span(whole / rate)}" if rate else ""
        lines.append(f"reading back {size(whole)} ({each or 'nothing'}){takes}")
    return lines


def _tell(done: Mapping[str, Any], *, deep: bool) -> int:
    """Say what came of it; the exit code."""
    for one in done["differences"]:
        then = (
            "it is uploaded again"
            if one["again"]
            else "`uploaderd retry` uploads it again, if its file is there"
        )
        say.error(f"{one['path']}: {one['message']}", then)
    if (more := done["different"] - len(done["differences"])) > 0:
        say.message(f"and {more:,} more; `uploaderd history` has all of them")
    for one in done["doubts"]:
        say.error(
            f"{one['path']}: {one['message']}", "`uploaderd verify --deep PATH` reads it back and tells"
        )
    if (more := done["doubtful"] - len(done["doubts"])) > 0:
        say.message(f"and {more:,} more like that")
    for provider, copies in done["unasked"].items():
        say.error(f"{provider} could not be asked for {count(copies, 'copy')}: {done['why'][provider]}")
    read = f", {size(done['bytes'])} read back" if deep else ""
    good = done["checked"] - done["different"] - done["doubtful"]
    be = "is" if done["checked"] == 1 else "are"
    say.data(f"{good:,} of {count(done['checked'], 'copy')} {be} there{read}")
    if done["different"] or done["doubtful"]:
        return exits.PROBLEMS
    return exits.UNAVAILABLE if done["unasked"] else exits.OK


def _rate(text: str | None) -> int | None:
    from uploaderd.config.units import parse_rate

    try:
        return parse_rate(text) if text is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
