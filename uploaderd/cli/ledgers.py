"""`uploaderd ledger`: check, backup, export, rebuild."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from uploaderd.cli import exits, say
from uploaderd.cli.opened import configuration, ledger, named_file
from uploaderd.cli.options import ConfigFile, SecretsDir, examples

if TYPE_CHECKING:
    from uploaderd.model import Milliseconds
    from uploaderd.rebuilding import Looked

CHECK_EXAMPLES: Final = examples("uploaderd ledger check                   beside a running daemon too")
BACKUP_EXAMPLES: Final = examples(
    "uploaderd ledger backup /mnt/backup/ledger-$(date +%F).db",
    "uploaderd ledger backup --force /mnt/backup/ledger.db",
)
EXPORT_EXAMPLES: Final = examples(
    "uploaderd ledger export history.jsonl    all of it",
    'uploaderd ledger export --since 30d | jq \'select(.type == "attempt" and .outcome == "failed")\'',
)

REBUILD_EXAMPLES: Final = examples(
    "uploaderd ledger rebuild                 while no daemon runs",
    "uploaderd ledger rebuild --force         though the ledger that is there is sound",
)


def check(context: typer.Context, config: ConfigFile = None) -> None:
    """Check the ledger: the file itself, the hash chains of the history, the counters, the states.

    Exit 1 if something is wrong. It reads the whole file several times: a large ledger takes a while.
    """
    from uploaderd.ledger.integrity import examine

    loaded = configuration(context, config)
    sound = True
    with ledger(loaded, outdated=True) as conn:
        for finding in examine(conn):
            sound = sound and not finding.wrong
            say.data(f"{finding.what:10}  {'WRONG' if finding.wrong else 'ok':5}  {finding.seen}")
            for fault in finding.wrong:
                say.data(f"{'':19}{fault}")
            say.flush()
    if not sound:
        say.error(
            f"the ledger {loaded.ledger.path} is not as it was written",
            "keep a copy of it as it is; then go back to a backup, or `uploaderd ledger rebuild`"
            " (docs/operations.md tells when to do which)",
        )
        raise typer.Exit(exits.PROBLEMS)


def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    config: ConfigFile = None,
) -> None:
    """Copy the ledger, whole and consistent, beside a running daemon too, and check the copy.

    Like the ledger, the copy may hold session addresses that are as good as keys: only its owner may
    read it. FILE appears once the copy is whole.
    """
    from uploaderd.ledger.copying import copy

    loaded = configuration(context, config)
    if file.resolve() == loaded.ledger.path.resolve():
        raise typer.BadParameter(f"{file} is the ledger itself")
    with ledger(loaded, outdated=True) as conn:
        try:
            size = copy(conn, file, replace=force)
        except FileExistsError:
            raise typer.BadParameter(f"{file} is there already; give another name, or --force") from None
    say.data(f"{file}: {size:,} bytes, checked")


def export(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="[FILE]",
            help="Where to; must not be there yet. Default, or -: standard output.",
            show_default=False,
        ),
    ] = Path("-"),
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            help='Only from then on: a time ("2026-03-01", in UTC) or how long ago ("30d").',
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Print the ledger as JSON lines: recordings with their uploads, attempts, events.

    Attempts and events come with their hashes, so that the chain can be checked without uploaderd
    (docs/operations.md shows how). What retention has pruned is in the folder LEDGER.archive.
    """
    from uploaderd.ledger.export import lines

    loaded = configuration(context, config)
    start = _moment(since) if since is not None else None
    with ledger(loaded, outdated=True) as conn:
        if file == Path("-"):
            for line in lines(conn, start):
                say.data(line)
            return
        try:
            with open(file, "x", encoding="utf-8", opener=_private) as target:
                target.writelines(f"{line}\n" for line in lines(conn, start))
        except FileExistsError:
            raise typer.BadParameter(f"{file} is there already; give another name") from None


def rebuild(
    context: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", help="Even if the ledger that is there is sound; its history is lost.")
    ] = False,
    secrets_dir: SecretsDir = None,
    config: ConfigFile = None,
) -> None:
    """Make a new ledger from the sources and a look at their keys at the providers.

    The old one is put aside, not removed. Copies that are there with the same content are adopted;
    nothing is sent. What is not there stays queued for the daemon, which must not run meanwhile. Exit 1
    if a source or provider could not be looked at: the daemon will, once it runs.
    """
    from uploaderd import __version__
    from uploaderd.cli import ending
    from uploaderd.clock import SystemClock
    from uploaderd.config import load
    from uploaderd.logs import register_secret
    from uploaderd.logs.setup import configure as configure_logs
    from uploaderd.rebuilding import rebuild as carry_out

    loaded = load(named_file(context, config), secrets_dir=secrets_dir)
    for secret in loaded.secrets():
        register_secret(secret)
    configure_logs(level="error")
    if not force:
        _must_be_damaged(loaded.ledger.path)
    done = ending.run(carry_out(loaded, SystemClock(), __version__, _progress))
    if done.aside is not None:
        say.message(f"the ledger that was there is now {loaded.ledger.path.with_name(done.aside)}")
    for name, looked in done.providers.items():
        left_out = f", {looked.left_out:,} files could not be compared" if looked.left_out else ""
        say.data(f"{name}: {looked.adopted:,} adopted, {looked.missing:,} not there{left_out}")
        if looked.problem:
            say.error(f"{name} could not be asked for everything: {looked.problem}")
    for name, problem in done.sources.items():
        say.error(f"source {name}: {problem}")
    if not done.complete:
        say.message("the daemon looks at the rest by itself, once that is mended")
        raise typer.Exit(exits.PROBLEMS)


def _must_be_damaged(path: Path) -> None:
    """Refuse what would only lose its history.

    Raises:
        typer.BadParameter: the ledger is sound.
        LedgerHeld: a daemon runs.
        LedgerTooNew: it is no damage that keeps it from being read.
    """
    import sqlite3

    from uploaderd.errors import LedgerError, LedgerHeld, LedgerTooNew
    from uploaderd.ledger.integrity import examine
    from uploaderd.ledger.lock import holder
    from uploaderd.ledger.reading import connect_readonly

    if holder(path) is not None:
        raise LedgerHeld(f"a daemon holds the ledger {path}", "stop it first")
    if not path.exists():
        return
    try:
        with closing(connect_readonly(path, outdated=True)) as conn:
            if any(finding.wrong for finding in examine(conn)):
                return
    except LedgerTooNew:
        raise
    except (LedgerError, sqlite3.Error):
        return
    raise typer.BadParameter(
        f"the ledger {path} is sound; a new one would have no history. --force makes one all the same"
    )


def _progress(providers: Mapping[str, Looked]) -> None:
    """How far it is, on a terminal."""
    if sys.stderr.isatty():
        told = ", ".join(f"{name} {one.adopted + one.missing:,}" for name, one in providers.items())
        sys.stderr.write(f"\rlooked for: {told}\x1b[K")
        sys.stderr.flush()


def _private(path: str, flags: int) -> int:
    """Open for the owner alone: names of recordings tell who met whom."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _moment(text: str) -> Milliseconds:
    """A point in time, or a span before now.

    Raises:
        typer.BadParameter: it is neither.
    """
    from uploaderd.config.units import parse_duration
    from uploaderd.model import Milliseconds

    try:
        return Milliseconds(time.time_ns() // 1_000_000 - int(parse_duration(text) * 1000))
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time such as 2026-03-01 and no span such as 30d") from None
    return Milliseconds(int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000))
