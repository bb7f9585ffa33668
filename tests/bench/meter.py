"""Run a command on its core and learn what it used (`meter.c`)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `environment` is all it gets beside PATH: nothing of the person's own set-up. `status` is
    what it is to end with."""

    words: Sequence[str | Path]
    environment: Mapping[str, str]
    folder: Path
    status: int = 0


@dataclass(frozen=True, slots=True)
class Used:
    """Seconds of the clock and of the processor (children included); bytes of peak memory and of disk."""

    status: int
    wall: float
    user: float
    system: float
    peak_rss: int
    disk_read: int
    disk_written: int

    @property
    def cpu(self) -> float:
        return self.user + self.system


class FailedError(Exception):
    """A command did not do what it was to do; holds the end of what it printed."""


class Metered:
    """A context manager around a command that runs until it is stopped; `used` is there after it.

    Raises:
        FailedError: it ended with something else than it was to.
    """

    def __init__(self, meter: Path, core: int, command: Command) -> None:
        self._told = command.folder / "used.json"
        self._printed = command.folder / "printed"
        self._words = [meter, str(core), self._told, *command.words]
        self._environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(command.folder),
            **command.environment,
        }
        self._folder = command.folder
        self._status = command.status
        self._process: subprocess.Popen[bytes] | None = None
        self._used: Used | None = None

    @property
    def used(self) -> Used:
        assert self._used is not None
        return self._used

    @property
    def pid(self) -> int:
        """The command's own."""
        meter = self._running.pid
        return int(Path(f"/proc/{meter}/task/{meter}/children").read_text().split()[0])

    @property
    def printed(self) -> str:
        return self._printed.read_text(errors="replace")

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def __enter__(self) -> Self:
        with self._printed.open("wb") as printed:
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder,
            )
        return self

    def alive(self) -> bool:
        return self._running.poll() is None

    def until(self, reached: Callable[[], bool], timeout: float, pause: float = 0.05) -> None:
        """Look every `pause` seconds until it is so.

        Raises:
            FailedError: the command ended before, or time is up.
        """
        deadline = time.monotonic() + timeout
        while not reached():
            if not self.alive() or time.monotonic() > deadline:
                raise FailedError(f"what was waited for did not come: {self._story()}")
            time.sleep(pause)

    def wait(self, timeout: float) -> None:
        try:
            self._running.wait(timeout)
        except subprocess.TimeoutExpired:
            raise FailedError(f"not done within {timeout:g} s: {self._story()}") from None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.alive():
            self._running.send_signal(signal.SIGTERM)
            try:
                self._running.wait(60)
            except subprocess.TimeoutExpired:
                self._running.kill()
                self._running.wait()
        if kind is not None:
            return
        self._used = Used(**json.loads(self._told.read_text()))
        if self._used.status != self._status:
            raise FailedError(f"ended with {self._used.status}: {self._story()}")

    def _story(self) -> str:
        return f"{' '.join(map(str, self._words[3:]))}\n{self.printed[-3000:]}"


def run(meter: Path, core: int, command: Command, timeout: float = 900.0) -> Used:
    """Run it to its end.

    Raises:
        FailedError: it ended with something else than it was to, or not in time.
    """
    with Metered(meter, core, command) as metered:
        metered.wait(timeout)
    return metered.used
