"""`uploaderd config check` and `config show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from uploaderd.cli import say
from uploaderd.cli.opened import configuration, named_file
from uploaderd.cli.options import ConfigFile, SecretsDir, examples

CHECK_EXAMPLES: Final = examples(
    "uploaderd config check                   what the daemon would read",
    "uploaderd config check ./new.toml        before it takes the old one's place",
    "uploaderd config check --secrets-dir /etc/uploaderd/secrets",
)
SHOW_EXAMPLES: Final = examples(
    "uploaderd config show                    every key in effect, and where it came from",
    "uploaderd config show --config ./new.toml",
)


def check(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The file to check.", show_default=False)
    ] = None,
    secrets_dir: SecretsDir = None,
    config: ConfigFile = None,
) -> None:
    """Check the configuration, secrets included, without touching disk or network.

    One message per fault, on stderr, and exit 78. Secrets that a service manager gives to the daemon
    alone have to be pointed at with --secrets-dir.
    """
    from uploaderd.config import load

    loaded = load(file or named_file(context, config), secrets_dir=secrets_dir)
    place = loaded.file or "the environment"
    sources, providers = ", ".join(loaded.sources) or "none", ", ".join(loaded.providers) or "none"
    say.data(f"{place} is fine; sources: {sources}; providers: {providers}")


def show(context: typer.Context, config: ConfigFile = None) -> None:
    """Print the configuration in effect, with the origin of each value; secrets appear as SET.

    It is TOML: but for the secrets, it can be used as a configuration file.
    """
    from uploaderd.config import text

    say.data(text(configuration(context, config)).rstrip("\n"))
