"""Figures of a run: into the test report, and as a table at the end of the session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import pytest

Record = Callable[[str, object], None]

_MARK: Final = "figure: "
"""Begins the names of what goes into the table."""


def recorder(request: pytest.FixtureRequest) -> Record:
    """What a test records its figures with: name, value."""

    def record(name: str, value: object) -> None:
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        request.node.user_properties.append((_MARK + name, shown))

    return record


def table(reports: Iterable[object]) -> list[str]:
    """One line a test. Taken from the reports, which come from other processes (xdist), too."""
    lines: dict[str, list[str]] = {}
    for report in reports:
        if isinstance(report, pytest.TestReport) and report.when == "call":
            for name, shown in report.user_properties:
                if name.startswith(_MARK):
                    test = report.nodeid.rpartition("::")[2]
                    lines.setdefault(test, []).append(f"{name.removeprefix(_MARK)} {shown}")
    return [f"{test}: {', '.join(figures)}" for test, figures in lines.items()]
