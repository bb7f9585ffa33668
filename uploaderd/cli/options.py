"""What several commands take, and how a help text shows examples."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Configuration file. Default: $UPLOADERD_CONFIG, then the usual places (docs/configuration.md).",
        show_default=False,
    ),
]


def _read_env_file(context: typer.Context, path: Path | None) -> Path | None:
    """Before anything looks at the environment. Kept beside the command, for `run` to read again."""
    if path is not None and not context.resilient_parsing:
        import os

        from uploaderd.config.env_file import EnvFile

        file = EnvFile(path)
        file.apply(os.environ)
        context.find_root().meta[ENV_FILE] = file
    return path


ENV_FILE: Final = "uploaderd.env_file"
"""Where a command line keeps what `--env-file` named (`EnvFile`)."""

EnvironmentFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        metavar="FILE",
        help="Variables from a .env, for what the environment itself does not set.",
        show_default=False,
        is_eager=True,
        callback=_read_env_file,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
SecretsDir = Annotated[
    Path | None,
    typer.Option(
        "--secrets-dir",
        metavar="DIR",
        help="Folder with secret files named <table>__<name>__<key>.",
        show_default=False,
    ),
]


def examples(*shown: str) -> str:
    """The end of a help text: commands to try, each with what it does, as they stand."""
    # \b keeps the lines below it from being filled into a paragraph.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in shown)


def one_of(value: str | None, known: Iterable[str], what: str) -> str | None:
    """The value, if it is known.

    Raises:
        typer.BadParameter: it is not; names the nearest that is.
    """
    names = [str(name) for name in known]
    if value is None or value in names:
        return value
    near = get_close_matches(value, names, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else f"; known are: {', '.join(names) or 'none'}"
    raise typer.BadParameter(f"there is no {what} {value!r}{meant}")


def duration(text: str) -> float:
    """Seconds.

    Raises:
        typer.BadParameter: it is no duration.
    """
    from uploaderd.config.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
