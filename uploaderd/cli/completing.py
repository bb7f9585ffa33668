"""What the shell offers after Tab: names of the configuration, states. Nothing, if there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from uploaderd.cli.opened import configuration

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from uploaderd.config import Config


def providers(context: typer.Context, incomplete: str) -> list[str]:
    return _offered(_configuration(context).providers, incomplete)


def sources(context: typer.Context, incomplete: str) -> list[str]:
    return _offered(_configuration(context).sources, incomplete)


def either(context: typer.Context, incomplete: str) -> list[str]:
    """A provider or a source."""
    loaded = _configuration(context)
    return _offered([*loaded.providers, *loaded.sources], incomplete)


def states(incomplete: str) -> list[str]:
    from uploaderd.model import RecordingState

    return _offered(RecordingState, incomplete)


def _offered(names: Iterable[str], incomplete: str) -> list[str]:
    return [str(name) for name in names if str(name).startswith(incomplete)]


def _configuration(context: typer.Context) -> Config:
    """The configuration; an empty one where it cannot be read: a message would garble the command line."""
    from uploaderd.config import Config, ConfigError

    file: Path | None = context.params.get("config")
    try:
        return configuration(context, file)
    except ConfigError:
        return Config()
