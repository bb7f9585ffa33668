"""What a measure comes to: a table for people, goals with ratios, and the raw figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

MIB = 2**20
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Goal:
    """Something to be reached: `value` at most (or at least) `bound`. `unit` follows both when shown."""

    text: str
    value: float
    bound: float
    unit: str = ""
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def shown(self) -> str:
        """One line: reached or not, and by how much."""
        compared = "at least" if self.at_least else "at most"
        word = "reached" if self.reached else "MISSED "
        said = f"{number(self.value)}{self.unit}"
        return f"  {word}  {said:>10}  {self.text} ({compared} {number(self.bound)}{self.unit})"


@dataclass(slots=True)
class Result:
    """Of one measure. `rows` are in the order of `columns`; `raw` is one entry for each run."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str | float]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: list[dict[str, Any]] = field(default_factory=list)

    def shown(self) -> str:
        """As text, for a terminal."""
        cells = [list(self.columns), *([_cell(value) for value in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [self.title]
        for row in cells:
            padded = (
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  " + "  ".join(padded).rstrip())
        return "\n".join([*lines, *(goal.shown() for goal in self.goals), *(f"  {n}" for n in self.notes)])

    def kept(self) -> dict[str, Any]:
        """As JSON has it."""
        goals = [asdict(goal) | {"reached": goal.reached} for goal in self.goals]
        return asdict(self) | {"goals": goals}


def median(values: Iterable[float]) -> float:
    return float(statistics.median(values))


def ratio(ours: float, theirs: float) -> float:
    return ours / theirs if theirs > 0 else math.inf


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all are not above."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def number(value: float) -> str:
    """With as many digits as say something."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 4)}f}"


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else number(value)
