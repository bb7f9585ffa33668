"""Figures of a run: into the test report, and as a table at the end of the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

Record = Callable[[str, object], None]

STASH: Final = pytest.StashKey[list[tuple[str, str, object]]]()


def recorder(request: pytest.FixtureRequest) -> Record:
    """What a test records its figures with: name, value."""
    kept = request.config.stash.setdefault(STASH, [])
    test = request.node.name

    def record(name: str, value: object) -> None:
        request.node.user_properties.append((name, value))
        kept.append((test, name, value))

    return record


def table(config: pytest.Config) -> list[str]:
    """One line a test."""
    lines: dict[str, list[str]] = {}
    for test, name, value in config.stash.get(STASH, []):
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        lines.setdefault(test, []).append(f"{name} {shown}")
    return [f"{test}: {', '.join(figures)}" for test, figures in lines.items()]
