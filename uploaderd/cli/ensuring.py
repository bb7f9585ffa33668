"""`uploaderd ensure`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from uploaderd.cli import exits, say
from uploaderd.cli.control import perform
from uploaderd.cli.meant import meant
from uploaderd.cli.opened import configuration
from uploaderd.cli.options import ConfigFile, EnvironmentFile, SecretsDir, duration, examples
from uploaderd.cli.progress import Seen, shown
from uploaderd.cli.running import must_have_work
from uploaderd.report.lines import count

if TYPE_CHECKING:
    from uploaderd.acts.orders import Ensure
    from uploaderd.clock import Clock
    from uploaderd.config import Config
    from uploaderd.generation import Generation
    from uploaderd.ledger import Ledger

EXAMPLES: Final = examples(
    "uploaderd ensure                         everything that is there now",
    "uploaderd ensure --timeout 10m           in a cron job; 75 if that is not enough",
    "uploaderd ensure --finished /srv/recordings/cam1/18-00.mp4",
    "uploaderd ensure --force cam1            look at the copies again, restore what is gone",
)


def ensure(
    context: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Files and folders; or recordings, by id or a unique part of the name. Default: everything.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="D", help='Wait no longer, such as "10m"; then exit 75.', show_default=False),
    ] = None,
    finished: Annotated[
        bool, typer.Option("--finished", help="You vouch that the files are finished: skip the quiet time.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Prove again what the ledger believes; upload again what is gone."),
    ] = False,
    secrets_dir: SecretsDir = None,
    env_file: EnvironmentFile = None,  # noqa: ARG001 - read by its callback
    config: ConfigFile = None,
) -> None:
    """Sweep now, queue whatever was missed, and wait until what is there now is safe.

    Exit 0 once it is, 1 if something needs a person, 75 if the time is up. What comes later is not waited
    for; a file that is still written is. Where no daemon runs, this process does the work.
    """
    from uploaderd.acts.orders import Ensure

    seconds = duration(timeout) if timeout is not None else None
    loaded = configuration(context, config)
    wanted = meant(loaded, paths) if paths else None
    order = Ensure(
        files=wanted.files if wanted is not None else None,
        recordings=wanted.recordings if wanted is not None else (),
        finished=finished,
        force=force,
        timeout=seconds,
    )

    with shown() as show:

        def progress(how_far: Mapping[str, Any]) -> None:
            show(_seen(how_far))

        def alone() -> Mapping[str, Any]:
            whole = configuration(context, config, complete=True, secrets_dir=secrets_dir)
            must_have_work(whole)
            return by_ourselves(whole, order, progress)

        done = perform(loaded, order, progress, alone)
    raise typer.Exit(_tell(done))


def by_ourselves(
    config: Config, order: Ensure, progress: Callable[[Mapping[str, Any]], None]
) -> Mapping[str, Any]:
    """Be the daemon for as long as it takes.

    Raises:
        typer.Exit: it was stopped.
        Refused, LedgerError: it cannot be done.
    """
    from uploaderd import web
    from uploaderd.acts.acting import Acting, user
    from uploaderd.acts.carry_out import carry_out
    from uploaderd.cli import ending
    from uploaderd.daemon import Daemon

    results: list[Mapping[str, Any]] = []

    async def tell(how_far: Mapping[str, Any]) -> None:
        progress(how_far)

    async def errand(generation: Generation, ledger: Ledger, clock: Clock) -> int:
        acting = Acting(user(os.geteuid()), config, ledger, clock, lambda: generation)
        results.append(await carry_out(order, acting, tell))
        return exits.OK

    quiet = config.daemon.model_copy(update={"log_level": "error", "log_levels": {}})
    daemon = Daemon(config.model_copy(update={"daemon": quiet}), application=web.application, errand=errand)
    ending.run(daemon.run())
    if not results:
        say.message("stopped; what was half sent goes on from there")
        raise typer.Exit(exits.INTERRUPTED)
    return results[0]


def _tell(done: Mapping[str, Any]) -> int:
    """Say what came of it; the exit code."""
    for source, why in done["missing"].items():
        say.error(f"source {source}: {why}", "nothing is known of its files")
    for path, why in done["failed"].items():
        say.error(f"{path}: {why}")
    if (more := done["failures"] - len(done["failed"])) > 0:
        say.message(f"and {count(more, 'recording')} more that need a person; `uploaderd status` tells")
    if done["late"]:
        say.error(f"the time is up, and {done['waiting']:,} of {count(done['of'], 'recording')} are not safe")
        for path, why in done["unfinished"].items():
            say.message(f"  {path}: {why}")
        for provider, why in done["troubles"].items():
            say.message(f"  {provider}: {why}")
    for provider, why in done["unproven"].items():
        say.error(f"{provider} could not be asked for all of its copies: {why}")
    if done["failures"] or done["missing"]:
        return exits.PROBLEMS
    if done["late"] or done["unproven"]:
        return exits.TRY_AGAIN
    say.data(f"safe: {count(done['of'], 'recording')}" if done["of"] else "safe: everything was already")
    return exits.OK


def _seen(how_far: Mapping[str, Any]) -> Seen:
    if (proving := how_far.get("proving")) is not None:
        return Seen(proving["checked"], proving["of"], "copies asked for again")
    return Seen(
        done=how_far["of"] - how_far["waiting"],
        of=how_far["of"],
        what="safe",
        transfers={
            f"{one['path']} to {one['provider']}": (one["bytes_sent"], one["size"])
            for one in how_far["uploading"]
        },
        hindrances=[
            *(f"waiting for {provider}: {why}" for provider, why in how_far["troubles"].items()),
            *(f"waiting for {path}: {why}" for path, why in how_far["unfinished"].items()),
        ],
    )
