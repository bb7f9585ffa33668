"""`uploaderd list`, `history` and `why`: what the ledger knows of recordings."""

from __future__ import annotations

import json
import signal
import time
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final

import typer

from uploaderd.cli import completing, say
from uploaderd.cli.opened import configuration, ledger
from uploaderd.cli.options import ConfigFile, Json, examples, one_of

if TYPE_CHECKING:
    import sqlite3

    from uploaderd.config import Config

FIRST_PAGE: Final = 50

LIST_EXAMPLES: Final = examples(
    "uploaderd list                           the newest recordings",
    "uploaderd list --state waiting           what is not safe yet",
    "uploaderd list --provider s3_main --limit 500",
    "uploaderd list --json | jq -r 'select(.state == \"safe\") | .path'",
)
HISTORY_EXAMPLES: Final = examples(
    "uploaderd history                        what happened last",
    "uploaderd history cam1/18-00.mp4         all about one recording",
    "uploaderd history 18-00 --json           found by a unique part of its name",
)
WHY_EXAMPLES: Final = examples(
    "uploaderd why /srv/recordings/cam1/18-00.mp4",
    "uploaderd why cam1/18-00.mp4             relative to its source",
    "uploaderd why 18-00                      a unique part of its name",
)


def list_(
    context: typer.Context,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="S",
            autocompletion=completing.states,
            help="Only: waiting, safe, failed, lost, held, skipped, superseded.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", autocompletion=completing.sources, help="Only of this source.", show_default=False
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completing.providers,
            help="Only what goes to this provider.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="At most so many. Default: 50; with --json all.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Recordings, newest first. With --json one object a line.

    Below a recording that is not safe: each upload that is not verified, with its error and when it is
    tried again.
    """
    from uploaderd.ledger import read
    from uploaderd.model import RecordingState
    from uploaderd.report.pages import HEADER, recording_lines
    from uploaderd.report.recordings import recording

    one_of(state, RecordingState, "state")
    loaded = configuration(context, config)
    with ledger(loaded) as conn:
        one_of(source, [*loaded.sources, *_ledger_sources(conn, loaded)], "source")
        one_of(provider, [*loaded.providers, *_ledger_providers(conn, loaded)], "provider")
        if as_json:
            for row in read.recordings(conn, state=state, source=source, provider=provider, limit=limit):
                say.data(json.dumps(recording(row, loaded), ensure_ascii=False))
            return
        shown = limit or FIRST_PAGE
        rows = read.recordings(conn, state=state, source=source, provider=provider, limit=shown + 1)
        page = list(islice(rows, shown))
        if not page:
            say.message("no recordings")
            return
        say.lines([HEADER])
        say.lines(line for row in page for line in recording_lines(recording(row, loaded)))
        if next(rows, None) is not None:
            say.message(f"the newest {shown} are shown; --limit N shows more")


def history(
    context: typer.Context,
    recording: Annotated[
        str | None,
        typer.Argument(
            metavar="RECORDING",
            help="Id, path (absolute, or relative to its source) or a unique part of the name.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="The newest so many lines.")] = FIRST_PAGE,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Every attempt and event, with its reason; oldest first. With --json one object a line.

    An attempt's outcome is verified, retrying, failed, stopped (by a clean stop) or interrupted (the
    daemon was killed).
    """
    from uploaderd.report import lookup
    from uploaderd.report.history import history as lines_of
    from uploaderd.report.pages import history_lines

    loaded = configuration(context, config)
    with ledger(loaded) as conn:
        row = lookup.one(conn, loaded, recording).row if recording is not None else None
        found = lines_of(conn, row, limit)
    if as_json:
        for line in found:
            say.data(json.dumps(line, ensure_ascii=False))
        return
    if not found:
        say.message("nothing has happened yet")
    say.lines(line for one in found for line in history_lines(one, named=row is None))
    if len(found) == limit:
        say.message(f"the newest {limit} are shown; --limit N shows more")


def why(
    context: typer.Context,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="Absolute, relative to a source, or a unique part of the name.",
            show_default=False,
        ),
    ],
    config: ConfigFile = None,
) -> None:
    """What holds this file back, what happens next and when.

    Also for files that are not in the ledger: not matched, excluded, still being written and by whom.
    """
    from uploaderd.ledger.lock import holder
    from uploaderd.report.pages import why_lines
    from uploaderd.report.why import why as answer_of

    # The file may be asked for a lease, and its recorder's next open would end us by this signal.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    loaded = configuration(context, config)
    held_by = holder(loaded.ledger.path)
    now = time.time_ns() // 1_000_000
    if loaded.ledger.path.exists():
        with ledger(loaded) as conn:
            answer = answer_of(conn, loaded, held_by, path, now)
    else:
        answer = answer_of(None, loaded, held_by, path, now)
    say.lines(why_lines(answer))


def _ledger_sources(conn: sqlite3.Connection, config: Config) -> list[str]:
    """Sources that the configuration does not name any more."""
    from uploaderd.ledger import read

    return [row.name for row in read.sources(conn) if row.name not in config.sources]


def _ledger_providers(conn: sqlite3.Connection, config: Config) -> list[str]:
    from uploaderd.ledger import read

    return [row.name for row in read.providers(conn) if row.name not in config.providers]
