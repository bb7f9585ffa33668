"""`uploaderd pause`, `resume`, `retry`, `acknowledge` and `release`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, get_args

import typer

from uploaderd.cli import completing, exits, say
from uploaderd.cli.control import perform
from uploaderd.cli.opened import configuration, ledger
from uploaderd.cli.options import ConfigFile, examples, one_of
from uploaderd.report.lines import count

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from uploaderd.config import Config
    from uploaderd.ledger.acts import Kind

PAUSE_EXAMPLES: Final = examples(
    'uploaderd pause nas --reason "new disks"  send nothing there until it is resumed',
    "uploaderd pause cameras                  take nothing of a source",
    "uploaderd pause provider:nas             if a source has that name as well",
)
RESUME_EXAMPLES: Final = examples("uploaderd resume nas")
RETRY_EXAMPLES: Final = examples(
    "uploaderd retry                          all that failed or waits",
    "uploaderd retry cam1/18-00.mp4           one recording, wherever it failed",
    "uploaderd retry --provider s3_main       after its bucket's policy was mended",
)
ACKNOWLEDGE_EXAMPLES: Final = examples(
    'uploaderd acknowledge cam1/18-00.mp4 --reason "test clip, deleted on purpose"',
)
RELEASE_EXAMPLES: Final = examples(
    "uploaderd release cam1/18-00.mp4         truncated, and all there will ever be of it",
)

Recordings = Annotated[
    list[str],
    typer.Argument(
        metavar="RECORDING...",
        help="Id, path (absolute, or relative to its source) or a unique part of the name.",
        show_default=False,
    ),
]
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        autocompletion=completing.either,
        help="Of a provider or a source.",
        show_default=False,
    ),
]


def pause(
    context: typer.Context,
    name: Name,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; shown by status.", show_default=False)
    ] = "",
    config: ConfigFile = None,
) -> None:
    """Send nothing to a provider, or take nothing of a source, until it is resumed. Kept across restarts.

    Uploads to a paused provider stop after the parts that are on their way, and go on from there. Of a
    paused source nothing is looked for and nothing is removed; what is queued already goes out.
    """
    from uploaderd.acts.orders import Pause

    loaded = configuration(context, config)
    kind, name = _kind(loaded, name)
    before = perform(loaded, Pause(kind, name, reason))["before"]
    if before is not None:
        say.message(f"{kind} {name} was paused already, by {before}")
        return
    say.data(f"{kind} {name} is paused; `uploaderd resume {name}` ends that")


def resume(context: typer.Context, name: Name, config: ConfigFile = None) -> None:
    """End a pause. What waited goes on at once."""
    from uploaderd.acts.orders import Resume

    loaded = configuration(context, config)
    kind, name = _kind(loaded, name)
    if perform(loaded, Resume(kind, name))["resumed"]:
        say.data(f"{kind} {name} goes on")
    else:
        say.message(f"nobody had paused {kind} {name}")


def retry(
    context: typer.Context,
    recordings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECORDING]...",
            help="Only these: id, path or a unique part of the name. Default: all.",
            show_default=False,
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completing.providers,
            help="Only uploads to this provider.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completing.sources,
            help="Only recordings of this source.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Try again now what failed or waits for its next attempt, and ask providers in trouble again.

    What failed stays so until somebody says this: whatever was wrong has to be mended first. Exit 1 if
    something that was asked for cannot be tried, because its local file is gone.
    """
    from uploaderd.acts.orders import Retry

    loaded = configuration(context, config)
    with ledger(loaded) as conn:
        names = _names(conn, loaded)
        one_of(provider, names["provider"], "provider")
        one_of(source, names["source"], "source")
        ids = _ids(conn, loaded, recordings) if recordings else None
    done = perform(loaded, Retry(ids, provider, source))
    say.data(f"{count(done['queued'], 'failed upload')} queued again, {done['due']:,} waiting due now")
    for path in done["lost"]:
        say.error(f"{path} is lost: its file vanished", "put it back where it was; the next sweep finds it")
    if done["without_file"]:
        say.error(
            f"{count(done['without_file'], 'upload')} cannot be tried again: the local file is gone",
            "put it back, or acknowledge the recording",
        )
    if done["lost"] or done["without_file"]:
        raise typer.Exit(exits.PROBLEMS)


def acknowledge(
    context: typer.Context,
    recordings: Recordings,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why it is all right; kept in the ledger.", show_default=False)
    ],
    config: ConfigFile = None,
) -> None:
    """Take failed, lost or held recordings out of the alarm, with a reason that stays on record.

    They stay what they are. Exit 1 if one is in no alarm.
    """
    from uploaderd.acts.orders import Acknowledge

    loaded = configuration(context, config)
    with ledger(loaded) as conn:
        ids = _ids(conn, loaded, recordings)
    done = perform(loaded, Acknowledge(ids, reason))
    if done["acknowledged"]:
        say.data(f"{count(done['acknowledged'], 'recording')} acknowledged")
    for path, state in done["not"]:
        say.error(f"{path} is {state}: there is nothing to acknowledge")
    if done["not"]:
        raise typer.Exit(exits.PROBLEMS)


def release(context: typer.Context, recordings: Recordings, config: ConfigFile = None) -> None:
    """Let held recordings into the queue, as they are: a file that looks truncated is sent all the same.

    What is held for another reason (a key that is taken, no provider) goes on by itself once that is
    mended. Exit 1 if one is not held, or releasing it would not help.
    """
    from uploaderd.acts.orders import Release

    loaded = configuration(context, config)
    with ledger(loaded) as conn:
        ids = _ids(conn, loaded, recordings)
    done = perform(loaded, Release(ids))
    if done["released"]:
        say.data(f"{count(done['released'], 'recording')} released; queued when the file is looked at next")
    for path, why, hint in done["not"]:
        say.error(f"{path}: {why}", hint)
    if done["not"]:
        raise typer.Exit(exits.PROBLEMS)


def _ids(conn: sqlite3.Connection, config: Config, wanted: Sequence[str]) -> tuple[str, ...]:
    """The ids of the recordings that are meant, each once.

    Raises:
        Unknown, Ambiguous: as `lookup.one`.
    """
    from uploaderd.report import lookup

    return tuple(dict.fromkeys(lookup.one(conn, config, each).id for each in wanted))


def _names(conn: sqlite3.Connection, config: Config) -> dict[Kind, list[str]]:
    """The providers and sources of the ledger, and those of the configuration that it has not met yet."""
    from uploaderd.ledger import read

    return {
        "provider": list(dict.fromkeys([*config.providers, *(row.name for row in read.providers(conn))])),
        "source": list(dict.fromkeys([*config.sources, *(row.name for row in read.sources(conn))])),
    }


def _kind(config: Config, wanted: str) -> tuple[Kind, str]:
    """What is meant by a name: a provider, or a source.

    Raises:
        typer.BadParameter: neither; or both, and it does not say which.
    """
    from uploaderd.ledger.acts import Kind

    with ledger(config) as conn:
        names = _names(conn, config)
    said, colon, name = wanted.partition(":")
    for kind in get_args(Kind):
        if colon and said == kind:
            one_of(name, names[kind], kind)
            return kind, name
    of: list[Kind] = [kind for kind in get_args(Kind) if wanted in names[kind]]
    if len(of) > 1:
        raise typer.BadParameter(f"a provider and a source are called {wanted!r}; write provider:{wanted}")
    if not of:
        one_of(wanted, [*names["provider"], *names["source"]], "provider or source")
    return of[0], wanted
