"""How far something is, on stderr: bars on a terminal; anywhere else a line for each hindrance, once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from uploaderd.cli import say

if TYPE_CHECKING:
    from rich.progress import TaskID


@dataclass(frozen=True, slots=True)
class Seen:
    """How far it is.

    Attributes:
        done, of: in recordings, copies or bytes.
        what: becomes of them.
        in_bytes: what `done` and `of` count.
        transfers: bytes moved, and bytes altogether, by name.
        hindrances: what it waits for.
    """

    done: int
    of: int
    what: str
    in_bytes: bool = False
    transfers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    hindrances: Sequence[str] = ()


Show = Callable[[Seen], None]


@contextmanager
def shown() -> Iterator[Show]:
    """What shows it."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bars() as show:
            yield show
        return
    said: set[str] = set()

    def tell(seen: Seen) -> None:
        for line in seen.hindrances:
            if line not in said:
                said.add(line)
                say.message(line)

    yield tell


@contextmanager
def _bars() -> Iterator[Show]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    from uploaderd.report.lines import rate

    class Rate(ProgressColumn):
        """In the units of everything else that is said: rich's own counts in thousands."""

        def render(self, task: Task) -> Text:
            return Text(rate(task.speed))

    name = TextColumn("{task.description}", markup=False)
    whole = Progress(name, BarColumn(), TextColumn("{task.fields[figures]}", markup=False))
    each = Progress(name, BarColumn(), DownloadColumn(binary_units=True), Rate())
    task = whole.add_task("", total=None, figures="")
    tasks: dict[str, TaskID] = {}
    console = Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR")))
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def show(seen: Seen) -> None:
            whole.update(task, completed=seen.done, total=seen.of, figures=_figures(seen))
            for gone in tasks.keys() - seen.transfers.keys():
                each.remove_task(tasks.pop(gone))
            for transfer, (moved, size) in seen.transfers.items():
                if transfer not in tasks:
                    tasks[transfer] = each.add_task(transfer, total=size)
                each.update(tasks[transfer], completed=moved)
            waits = [Text(line, overflow="ellipsis", no_wrap=True) for line in seen.hindrances]
            live.update(Group(whole, each, *waits[: max(0, console.height - len(tasks) - 2)]), refresh=True)

        yield show


def _figures(seen: Seen) -> str:
    from uploaderd.report.lines import size

    if seen.in_bytes:
        return f"{size(seen.done)} of {size(seen.of)} {seen.what}"
    return f"{seen.done:,} of {seen.of:,} {seen.what}"
