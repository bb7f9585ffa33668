"""The configuration and the ledger, as commands need them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from uploaderd.cli.options import ENV_FILE

if TYPE_CHECKING:
    from uploaderd.config import Config
    from uploaderd.config.env_file import EnvFile

QUICKSTART_LEDGER: Final = Path("uploaderd.db")
"""What `run --quickstart` keeps where it was started."""


def named_file(context: typer.Context, config: Path | None) -> Path | None:
    """The `--config` of the command, or that before it."""
    before = context.find_root().obj
    return config if config is not None or not isinstance(before, Path) else before


def environment_file(context: typer.Context) -> EnvFile | None:
    """What `--env-file` named; it has been read once by now."""
    found: EnvFile | None = context.find_root().meta.get(ENV_FILE)
    return found


def configuration(
    context: typer.Context, config: Path | None, *, complete: bool = False, secrets_dir: Path | None = None
) -> Config:
    """The configuration; unless it is to be complete without the secrets, which whoever looks may not have.

    Without one, where `run --quickstart` was started: that one's.

    Raises:
        ConfigError: it cannot be used.
    """
    from uploaderd.config import NoConfigurationError, load

    try:
        return load(named_file(context, config), complete=complete, secrets_dir=secrets_dir)
    except NoConfigurationError:
        if not QUICKSTART_LEDGER.is_file():
            raise
        return load(None, quickstart=True, complete=complete)


@contextmanager
def ledger(config: Config, *, outdated: bool = False) -> Iterator[sqlite3.Connection]:
    """The ledger, to be read; if it is `outdated`, too.

    Raises:
        LedgerError: it is not there, or cannot be read.
    """
    from uploaderd.ledger.reading import connect_readonly, unreadable

    conn = connect_readonly(config.ledger.path, outdated=outdated)
    try:
        yield conn
    except sqlite3.Error as error:
        raise unreadable(config.ledger.path, error) from error
    finally:
        conn.close()
