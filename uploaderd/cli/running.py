"""`uploaderd run` and `demo`."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from uploaderd.cli import exits, say
from uploaderd.cli.opened import environment_file, named_file
from uploaderd.cli.options import ConfigFile, EnvironmentFile, SecretsDir, examples

if TYPE_CHECKING:
    from uploaderd.config import Config
    from uploaderd.daemon import Daemon

RUN_EXAMPLES: Final = examples(
    "uploaderd run                            until it is told to stop",
    "uploaderd run --quickstart               ./recordings into ./uploaded, without a configuration",
    "uploaderd run --env-file .env            configured by other systems' variables (docs/drop-in.md)",
    "uploaderd run --until-safe               send what is there, then end",
    "uploaderd run --until-safe --expect 12   wait for twelve recordings first",
)
DEMO_EXAMPLES: Final = examples("uploaderd demo                           needs no account and no network")


def run(
    context: typer.Context,
    quickstart: Annotated[
        bool,
        typer.Option(
            "--quickstart",
            help="Without a configuration: watch ./recordings, copy into ./uploaded, keep ./uploaderd.db.",
        ),
    ] = False,
    until_safe: Annotated[
        bool,
        typer.Option("--until-safe", help="End once all recordings are safe (0), or need a person (1)."),
    ] = False,
    expect: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="With --until-safe: wait until at least N were recorded.",
            show_default=False,
        ),
    ] = None,
    secrets_dir: SecretsDir = None,
    env_file: EnvironmentFile = None,  # noqa: ARG001 - read by its callback
    config: ConfigFile = None,
) -> None:
    """The daemon: watch, queue, upload, prove.

    SIGTERM and Ctrl-C stop it cleanly, a second one at once; SIGHUP reads the configuration again, and
    a bad one keeps the old one. On a ledger that another daemon holds it ends with 75.
    """
    if expect is not None and not until_safe:
        raise typer.BadParameter("--expect says when --until-safe may end; give both")
    from uploaderd.config import load

    variables = environment_file(context)
    file = named_file(context, config)

    def read() -> Config:
        if variables is not None:
            variables.apply(os.environ)
        return load(file, secrets_dir=secrets_dir, quickstart=quickstart)

    loaded = read()
    must_have_work(loaded)
    if quickstart:
        _make_folders(loaded)
    from uploaderd import web
    from uploaderd.cli import ending
    from uploaderd.daemon import Daemon

    daemon = Daemon(
        loaded,
        application=web.application,
        reload=None if quickstart else read,
        until_safe=(expect or 0) if until_safe else None,
    )
    raise typer.Exit(ending.run(_until_it_ended(daemon)))


def demo(context: typer.Context, config: ConfigFile = None) -> None:
    """A simulated recorder, two local providers and the real daemon, live on screen, for some ten seconds.

    All of it is in a temporary directory, which is removed at the end; the demo has a configuration of
    its own. Ends with 0 when every recording is safe at both providers.
    """
    if named_file(context, config) is not None:
        say.message("the demo has a configuration of its own; --config changes nothing here")
    from uploaderd.demo import Demo

    try:
        if say.terminal():
            with say.redrawn(whole_screen=False) as draw:
                done = Demo(draw=draw, say=None).run()
        else:
            done = Demo(draw=None, say=lambda line: say.lines([line])).run()
    except KeyboardInterrupt:
        say.message("stopped; everything that the demo made is removed")
        raise typer.Exit(exits.INTERRUPTED) from None
    say.lines(done.lines)
    raise typer.Exit(exits.OK if done.well else exits.PROBLEMS)


async def _until_it_ended(daemon: Daemon) -> int:
    """Run it; its exit status."""
    status = await daemon.run()
    # The process takes its objects with it: the cloud libraries' are no garbage worth looking through.
    gc.freeze()
    return status


def must_have_work(config: Config) -> None:
    """Refuse to start where there is nothing to watch or nowhere to send to.

    Raises:
        ConfigError: that is the case.
    """
    from uploaderd.config import ConfigError

    if missing := [table for table in ("sources", "providers") if not getattr(config, table)]:
        raise ConfigError([_nothing_to_do(config, table) for table in missing])


def _nothing_to_do(config: Config, table: str) -> str:
    what = {
        "sources": "no source is configured, so there is nothing to watch",
        "providers": "no provider is configured, so there is nowhere to send recordings to",
    }
    return (
        f"{config.file or 'the environment'}: {table}: {what[table]}; add a [{table}.NAME] table"
        " (config.example.toml shows one)"
    )


def _make_folders(config: Config) -> None:
    """What --quickstart watches and copies into. In any other run a missing folder is a missing mount."""
    from uploaderd.config import DirectoryProvider

    folders = [Path(source.path) for source in config.sources.values()]
    folders += [one.path for one in config.providers.values() if isinstance(one, DirectoryProvider)]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    # Beside a person's prompt, and not in a log: its lines are JSON, and tell the folders too.
    if sys.stderr.isatty():
        say.message("watching " + ", ".join(str(source.path) for source in config.sources.values()))
