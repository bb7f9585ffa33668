"""What is said: data on stdout, messages on stderr; colours on a terminal that wants them, nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import typer

from uploaderd.report.lines import Line, Tone

if TYPE_CHECKING:
    from rich.text import Text

STYLES: Final = {
    Tone.PLAIN: "",
    Tone.GOOD: "bold green",
    Tone.LATE: "bold yellow",
    Tone.BAD: "bold red",
    Tone.QUIET: "dim",
}


def data(text: str) -> None:
    """A line on stdout. Ends the command quietly if nobody reads it any more (`... | head`)."""
    try:
        sys.stdout.write(f"{text}\n")
    except BrokenPipeError:
        _nobody_reads()
        raise typer.Exit from None


def lines(shown: Iterable[Line]) -> None:
    """Lines on stdout, in colour where that is wanted."""
    if not coloured():
        for line in shown:
            data(line.text)
        flush()  # whoever follows through a pipe sees it now
        return
    from rich.console import Console

    console = Console(highlight=False)
    for line in shown:
        console.print(_styled(line), soft_wrap=True)


@contextmanager
def redrawn(*, whole_screen: bool) -> Iterator[Callable[[Iterable[Line]], None]]:
    """What draws lines over those drawn before, on a terminal.

    The last ones stay, unless it was the whole screen.
    """
    from rich.console import Console, Group
    from rich.live import Live

    console = Console(highlight=False)
    with Live(console=console, screen=whole_screen, auto_refresh=False) as live:

        def draw(shown: Iterable[Line]) -> None:
            fitting = [_styled(line) for line in shown][: console.height]
            live.update(Group(*fitting), refresh=True)

        yield draw


def _styled(line: Line) -> Text:
    """The line as rich shows it."""
    from rich.text import Text

    if not line.head:
        return Text(line.text, STYLES[line.tone])
    return Text.assemble((line.text[: line.head], STYLES[line.tone]), line.text[line.head :])


def message(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"{text}\n")


def error(text: str, hint: str = "") -> None:
    """What went wrong and, below it, what to do."""
    message(f"error: {text}")
    if hint:
        message(f"  what to do: {hint}")


def terminal() -> bool:
    """Whether stdout is a terminal that can be redrawn."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def coloured() -> bool:
    """Whether colours are wanted (https://no-color.org)."""
    return terminal() and not os.environ.get("NO_COLOR")


def flush() -> None:
    """Write out what is still buffered, before the interpreter does and complains of a closed pipe.

    Raises:
        OSError: the disk is full, say.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _nobody_reads()
    except OSError:
        _nobody_reads()  # else it fails, and is told, once more at the end
        raise


def _nobody_reads() -> None:
    """Let what is still buffered, and all that follows, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
