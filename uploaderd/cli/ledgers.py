"""`uploaderd ledger check` and `ledger backup`."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Annotated, Final, get_args

import typer

from uploaderd.cli import exits, say
from uploaderd.cli.opened import configuration, ledger
from uploaderd.cli.options import ConfigFile, examples

CHECK_EXAMPLES: Final = examples("uploaderd ledger check                   beside a running daemon too")
BACKUP_EXAMPLES: Final = examples(
    "uploaderd ledger backup /mnt/backup/ledger-$(date +%F).db",
)


def check(context: typer.Context, config: ConfigFile = None) -> None:
    """Check the ledger: SQLite's own integrity check, and the hash chains of attempts and events.

    Exit 1 if something is wrong. It reads the whole file: a large ledger takes a while.
    """
    from uploaderd.ledger.chain import Chain, broken_at

    loaded = configuration(context, config)
    sound = True
    with ledger(loaded) as conn:
        wrong = [row[0] for row in conn.execute("PRAGMA integrity_check(10)") if row[0] != "ok"]
        sound = sound and not wrong
        say.data(f"integrity  {'; '.join(wrong) if wrong else 'ok'}")
        for chain in get_args(Chain):
            (rows,) = conn.execute(f"SELECT count(*) FROM {chain}").fetchone()  # noqa: S608 - our own name
            broken = broken_at(conn, chain)
            sound = sound and broken is None
            what = "the chain is whole" if broken is None else f"the chain is broken at row {broken}"
            say.data(f"{chain:9}  {rows:,} rows, {what}")
    if not sound:
        say.error(
            f"the ledger {loaded.ledger.path} is not as it was written",
            "keep it as it is, go back to a backup of it, and find out who or what changed it",
        )
        raise typer.Exit(exits.PROBLEMS)


def backup(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to; must not be there yet.", show_default=False)
    ],
    config: ConfigFile = None,
) -> None:
    """Copy the ledger, whole and consistent, beside a running daemon too.

    Like the ledger, the copy may hold session addresses that are as good as keys: only its owner may
    read it.
    """
    loaded = configuration(context, config)
    with ledger(loaded) as conn:
        try:
            fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise typer.BadParameter(f"{file} is there already; give another name") from None
        try:
            copy = sqlite3.connect(file)
            try:
                conn.backup(copy)
            finally:
                copy.close()
            os.fsync(fd)
        except BaseException:
            file.unlink()  # half a copy is worse than none
            raise
        finally:
            os.close(fd)
    _sync_folder(file.absolute().parent)
    say.data(f"{file}: {file.stat().st_size:,} bytes")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
