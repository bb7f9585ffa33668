"""Progress on a terminal."""

from __future__ import annotations

import io

import pytest

from uploaderd.cli.progress import Seen, shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_count_in_the_units_of_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    mib = 1024 * 1024
    with shown() as show:
        for moved in range(4):
            show(Seen(0, 1, "safe", transfers={"a.mp4 to s3_main": (moved * mib, 8 * mib)}))
    said = terminal.getvalue()
    assert "0 of 1 safe" in said and "3.0/8.0 MiB" in said
    assert "iB/s" in said and "MB/s" not in said and "GB/s" not in said
