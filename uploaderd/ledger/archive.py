"""Where pruned rows go: a folder beside the ledger with a file of JSON lines for each month.

Lines are appended and synced before their rows leave the ledger. A crash in between exports them again:
a line may be there twice, but none is missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from uploaderd.ledger.writer import Transaction
from uploaderd.model import Milliseconds

_BLOCK: Final = 1 << 16


def folder_of(tx: Transaction, ledger: Path) -> Path:
    """The ledger's archive: `<ledger>.archive`, or that with a number if an earlier ledger's is there.

    Rows are numbered in each ledger anew: in one file those of two could not be told apart.
    """
    row = tx.conn.execute("SELECT value FROM meta WHERE name = 'archive'").fetchone()
    if row is None:
        number = 1
        while (folder := ledger.with_name(f"{ledger.name}.archive{_ending(number)}")).exists():
            number += 1
        tx.conn.execute("INSERT INTO meta (name, value) VALUES ('archive', ?)", (_ending(number),))
        return folder
    return ledger.with_name(f"{ledger.name}.archive{row[0]}")


def _ending(number: int) -> str:
    return f"-{number}" if number > 1 else ""


class Archive:
    """The archive in that folder, which is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, lines: Iterable[tuple[Milliseconds, str]]) -> None:
        """Append lines, each to the month (UTC) of its time; they are on the disk afterwards. Blocks.

        Raises:
            OSError: they are not, or not all.
        """
        months: dict[str, list[str]] = {}
        for at, line in lines:
            months.setdefault(datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m"), []).append(line)
        if not months:
            return
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for month, own in months.items():
            self._append(self.folder / f"{month}.jsonl", own)
        for folder in (self.folder, self.folder.parent):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    @staticmethod
    def _append(path: Path, lines: list[str]) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(fd, "r+b") as file:
            # Half a line was never synced, so its row is in the ledger still, and comes again below.
            file.seek(file.truncate(_whole_lines(file)))
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            os.fsync(fd)


def _whole_lines(file: BinaryIO) -> int:
    """The length of the file up to and with its last line's end."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        if (last := file.read(end - start).rfind(b"\n")) >= 0:
            return start + last + 1
        end = start
    return 0
