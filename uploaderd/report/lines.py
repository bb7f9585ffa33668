"""Lines for people: plain text with a tone, which a terminal may colour; and figures as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Tone(Enum):
    """What a line is about, for whoever colours it."""

    PLAIN = "plain"
    GOOD = "good"
    LATE = "late"
    BAD = "bad"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Line:
    """One line, without its newline. The first `head` characters carry the tone; 0: all of them do."""

    text: str
    tone: Tone = Tone.PLAIN
    head: int = 0


def table(rows: Iterable[Sequence[str]], *, indent: int = 2) -> list[str]:
    """Rows as aligned columns, two spaces between them; the last column is not padded."""
    cells = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))] if cells else []
    return [
        (
            " " * indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: float) -> str:
    """`512 B`, `6.1 GiB`."""
    unit = 0
    while count >= 1023.95 and unit < len(_SIZES) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.1f} {_SIZES[unit]}"


def rate(bytes_per_second: float | None) -> str:
    """`18.0 MiB/s`; `-` where it is not known."""
    return f"{size(bytes_per_second)}/s" if bytes_per_second is not None else "-"


def span(seconds: float) -> str:
    """The two largest units: `3s`, `14m 02s`, `2h 05m`, `3d 04h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600:02d}h"


def count(number: int, word: str) -> str:
    """`1 recording`, `1,204 recordings`, `2 copies`."""
    if number != 1:
        word = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{number:,} {word}"
