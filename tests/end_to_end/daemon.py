"""One daemon as a process: its log is captured, it is stopped as a service manager stops it."""

from __future__ import annotations

import asyncio
import ctypes
import json
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

STOPPED_WITHIN: Final = 40.0
"""Seconds; more than any `shutdown_grace` used here."""

BUGS: Final = frozenset(
    {
        "a log line could not be written",
        "a part of the daemon failed; it begins again",
        "a part of the daemon was cut off by a mistake; it begins again",
        "an upload ended unexpectedly",
        "crashed: an error that nothing expected",
        "a thread crashed: an error that nothing expected",
        "unrecognised failure; taken for transient",
    }
)
"""Lines that no test here may cause."""

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_LIBC: Final = ctypes.CDLL(None)


class DaemonProcess:
    """A context manager around `uploaderd run`.

    Leaving the block stops it with SIGTERM, unless it has ended, and asserts that it ended with 0 and
    that its log shows none of `BUGS`. A test that wants another end asks for it: `ended`, `kill`.
    """

    def __init__(self, command: Sequence[str], log: Path, folder: Path, env: Mapping[str, str]) -> None:
        self._command = command
        self._log = log
        self._folder = folder
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._told = False

    def __enter__(self) -> Self:
        def with_us() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a killed test run leaves no daemon behind

        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=with_us,  # noqa: PLW1509 - one system call, resolved before the fork
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._leave()
        except AssertionError as failed:
            failed.add_note(self._story())
            raise
        finally:
            self.kill()
        if error is not None:
            error.add_note(self._story())

    def _leave(self) -> None:
        if not self._told and self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(STOPPED_WITHIN)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"it did not stop within {STOPPED_WITHIN:g} s") from None
        if not self._told:
            assert self.process.returncode == 0, f"it ended with {self.process.returncode}"
        bugs = [line for line in self.lines() if line.get("event") in BUGS]
        assert not bugs, f"its log shows what must not be: {bugs}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    # --- what happens to it --------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9`, if it runs."""
        self._told = True
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    async def ended(self, *, within: float = STOPPED_WITHIN) -> int:
        """Wait until it has ended by itself, or by a signal that was sent; its exit code.

        Raises:
            AssertionError: it did not within so many seconds.
        """
        deadline = time.monotonic() + within
        while (code := self.process.poll()) is None:
            assert time.monotonic() < deadline, f"it did not end within {within:g} s"
            await asyncio.sleep(0.02)  # between two looks at the process
        self._told = True
        return code

    # --- what it says --------------------------------------------------------------------------

    def text(self) -> str:
        """All that it printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def lines(self) -> list[dict[str, Any]]:
        """Its log lines; anything that is not one is told as `{"event": None, "text": ...}`."""
        found = []
        for line in self.text().split("\n")[:-1]:  # the last may still be written
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"event": None, "text": line})
        return found

    def said(self, event: str, **facts: object) -> list[dict[str, Any]]:
        """The log lines about an event that have these facts."""
        return [line for line in self.lines() if line["event"] == event and facts.items() <= line.items()]

    async def says(self, event: str, *, within: float = 60.0, **facts: object) -> dict[str, Any]:
        """Wait for a log line; it.

        Raises:
            AssertionError: it did not come within so many seconds, or the daemon ended without it.
        """
        deadline = time.monotonic() + within
        while True:
            running = self.process.poll() is None
            if found := self.said(event, **facts):
                return found[0]
            assert running, f"it ended with {self.process.returncode} and never said {event!r}"
            assert time.monotonic() < deadline, f"it did not say {event!r} within {within:g} s"
            await asyncio.sleep(0.02)  # between two looks at the log

    def _story(self) -> str:
        return f"{' '.join(self._command)} said:\n{self.text()[-8000:]}"
