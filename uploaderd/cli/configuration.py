"""`uploaderd config check` and `config show`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from uploaderd.cli import say
from uploaderd.cli.opened import configuration, named_file
from uploaderd.cli.options import ConfigFile, EnvironmentFile, SecretsDir, examples

CHECK_EXAMPLES: Final = examples(
    "uploaderd config check                   what the daemon would read",
    "uploaderd config check ./new.toml        before it takes the old one's place",
    "uploaderd config check --secrets-dir /etc/uploaderd/secrets",
    "uploaderd config check --env-file .env   the variables of a .env, without a file of ours",
    "uploaderd config check --without-secrets ./new.toml   on another machine than the daemon's",
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
    without_secrets: Annotated[
        bool,
        typer.Option(
            "--without-secrets",
            help="Do not miss what only the daemon has: secrets, and variables that keys take up.",
        ),
    ] = False,
    env_file: EnvironmentFile = None,  # noqa: ARG001 - read by its callback
    config: ConfigFile = None,
) -> None:
    """Check the configuration, secrets included, without touching disk or network.

    One message per fault, on stderr, and exit 78. Secrets that a service manager gives to the daemon
    alone have to be pointed at with --secrets-dir, or left out of it with --without-secrets.
    """
    from uploaderd.config import load

    env = dict(os.environ)
    if without_secrets:
        # Named to a unit's other commands too, which may not read it (systemd 252, ExecReload=).
        env.pop("CREDENTIALS_DIRECTORY", None)
    path = file or named_file(context, config)
    loaded = load(path, env=env, secrets_dir=secrets_dir, complete=not without_secrets)
    place = loaded.file or "the environment"
    sources, providers = ", ".join(loaded.sources) or "none", ", ".join(loaded.providers) or "none"
    say.data(f"{place} is fine; sources: {sources}; providers: {providers}")


def show(
    context: typer.Context,
    env_file: EnvironmentFile = None,  # noqa: ARG001 - read by its callback
    config: ConfigFile = None,
) -> None:
    """Print the configuration in effect, with the origin of each value; secrets appear as SET.

    It is TOML: but for the secrets, it can be used as a configuration file.
    """
    from uploaderd.config import text

    say.data(text(configuration(context, config)).rstrip("\n"))
