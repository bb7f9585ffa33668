"""A booted Debian: systemd as PID 1, in namespaces of its own, without a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.home.debian import ROOT, copy

UNIT: Final = "uploaderd.service"
PATIENCE: Final = 60.0
"""Seconds after which a test that waits has failed."""


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Machine:
    """`root` is its file system as we see it, `pid` its PID 1 as we count."""

    root: Path
    pid: int

    def run(
        self, command: str, *, user: str = "root", env: Mapping[str, str] | None = None, timeout: float = 120
    ) -> Ended:
        """A shell command inside, until it ends."""
        done = subprocess.run(
            [*self._inside(user), "/bin/sh", "-e", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
            env=self._environment(env),
        )
        return Ended(done.returncode, done.stdout)

    def must(
        self, command: str, *, user: str = "root", env: Mapping[str, str] | None = None, timeout: float = 120
    ) -> str:
        """`run`; what it printed.

        Raises:
            AssertionError: it failed.
        """
        ended = self.run(command, user=user, env=env, timeout=timeout)
        if ended.code:
            journal = self.run("journalctl --no-pager --lines=40 --output=cat").text
            raise AssertionError(f"{command!r} ended with {ended.code}:\n{ended.text}\njournal:\n{journal}")
        return ended.text

    def start(self, command: str, *, user: str = "root") -> subprocess.Popen[str]:
        """A shell command inside, that goes on; its standard input is a pipe."""
        return subprocess.Popen(
            [*self._inside(user), "/bin/sh", "-e", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment(None),
        )

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """A file of root's."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def shows(self, unit: str = UNIT) -> dict[str, str]:
        """What `systemctl show` knows of a unit."""
        lines = self.must(f"systemctl show {unit}").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def main_pid(self, unit: str = UNIT) -> int:
        """Of the unit, as the machine counts; 0 while there is none."""
        return int(self.shows(unit)["MainPID"])

    def journal(self, unit: str = UNIT) -> str:
        return self.must(f"journalctl --no-pager --output=cat --unit={unit}")

    def recordings(self) -> dict[str, Any]:
        """`uploaderd list --json`, by path."""
        lines = self.must("uploaderd list --json").splitlines()
        return {line["path"]: line for line in map(json.loads, lines)}

    def until(self, command: str, wanted: str, *, within: float = PATIENCE) -> str:
        """Repeat a command until it prints something that the pattern finds; what it printed."""
        deadline = time.monotonic() + within
        while True:
            text = self.run(command).text
            if re.search(wanted, text, re.MULTILINE):
                return text
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{command!r} did not print {wanted!r} within {within:g} s, but:\n{text}\n"
                    + self.run("journalctl --no-pager --lines=60 --output=cat").text
                )
            time.sleep(0.1)  # between two looks

    def _inside(self, user: str) -> list[str]:
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd")
        enter = ["nsenter", f"--target={self.pid}", *spaces]
        return [*enter, *(["runuser", "-u", user, "--"] if user != "root" else [])]

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        """Nothing of ours."""
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **(more or {})}


@contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """A copy of the Debian, booted; it is powered off in the end."""
    with copy(folder) as root:
        console = folder / "console"
        command = ["systemd-nspawn", "--quiet", f"--directory={root}", "--boot", "--private-network"]
        command += ["--register=no", "--keep-unit", "--console=pipe", "--link-journal=no"]
        command += [f"--machine=uploaderd-test-{os.getpid()}", "--resolv-conf=off", "--timezone=off"]
        with console.open("wb") as printed:
            nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT
            )
        try:
            machine = Machine(root, _leader(nspawn, console))
            machine.until("systemctl is-system-running", r"^(running|degraded)$")
            yield machine
        finally:
            nspawn.terminate()  # nspawn asks its PID 1 to power off
            try:
                nspawn.wait(30)
            except subprocess.TimeoutExpired:
                nspawn.kill()
                nspawn.wait()


def installed(machine: Machine) -> None:
    """Carry out what docs/install.md says, but for the start."""
    text = (ROOT / "docs" / "install.md").read_text()
    program, units, _ = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for block in (program, units):
        machine.must(f"cd /usr/src/uploaderd\n{block}", env=offline, timeout=300)


def _leader(nspawn: subprocess.Popen[bytes], console: Path) -> int:
    """The machine's PID 1: nspawn's child, once it is systemd."""
    deadline = time.monotonic() + PATIENCE
    children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
    while time.monotonic() < deadline:
        assert nspawn.poll() is None, f"it did not boot: {console.read_text(errors='replace')}"
        for pid in children.read_text().split():
            try:
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return int(pid)
            except FileNotFoundError:
                pass
        time.sleep(0.05)  # between two looks
    raise AssertionError(f"it did not boot: {console.read_text(errors='replace')}")
