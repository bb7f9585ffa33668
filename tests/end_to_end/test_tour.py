"""The README's tour, walked: its commands as they stand, its configuration, and what it shows as output."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.box import ROOT, until
from tests.end_to_end.daemon import DaemonProcess

README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str, heading: str) -> list[str]:
    """The code blocks below a heading, up to the next of any level."""
    found = re.search(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no {heading!r}"
    return re.findall(rf"^```{language}\n(.*?)^```", found[1], re.MULTILINE | re.DOTALL)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What somebody has who gave the first command: the checkout, and an environment with it installed."""
    for name in ("tests", "uploaderd"):
        (tmp_path / name).symlink_to(ROOT / name)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    python = shlex.quote(sys.executable)
    for name, does in {
        "python": f'exec {python} "$@"',
        "uploaderd": f'exec {python} -m uploaderd "$@"',
        "pip": f'test "$*" = "install -q imageio-ffmpeg" && exec {python} -c "import imageio_ffmpeg"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    return tmp_path


async def test_the_tour_can_be_walked_and_ends_in_safe(clone: Path, tmp_path: Path) -> None:
    first, *others = _blocks("sh", "A quick tour")
    shown = _blocks("text", "A quick tour")
    printed = ""
    (command,) = first.splitlines()
    with DaemonProcess(shlex.split(command), tmp_path / "terminal.log", clone, dict(os.environ)) as daemon:
        await until((clone / "uploaderd.db").exists)
        for block in others:
            done = _sh(block, clone)
            assert done.returncode == 0, (block, done.stderr)
            if "tests.recorder" in block:
                await until(lambda: _all_safe(clone))
            printed += done.stdout
        daemon.signal(signal.SIGINT)
        assert await daemon.ended() == 0
    copies = {path.name for path in (clone / "uploaded" / "recordings").rglob("*") if path.is_file()}
    recorded = {path.name for path in (clone / "recordings").rglob("*") if path.is_file()}
    assert copies == recorded
    assert len(recorded) >= 8
    assert re.search("^SAFE ", printed, re.MULTILINE)
    real = {_shape(line) for line in printed.splitlines()}
    for block in shown:
        assert {_shape(line) for line in block.splitlines()} <= real


def test_its_configuration_is_one(tmp_path: Path) -> None:
    (block,) = _blocks("toml", "In earnest")
    file = tmp_path / "config.toml"
    file.write_text(block)
    done = subprocess.run(
        [sys.executable, "-m", "uploaderd", "config", "check", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_its_last_commands_name_tests_that_exist() -> None:
    for block in _blocks("sh", "With all four providers"):
        for name in re.findall(r"tests/\S+\.py", block):
            assert (ROOT / name).is_file()


def _sh(block: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-e", "-c", block],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _all_safe(clone: Path) -> bool:
    """Whether as much is safe as there was recorded."""
    recorded = sum(path.is_file() for path in (clone / "recordings").rglob("*"))
    return f"{recorded} safe, 0 waiting" in _sh(".venv/bin/uploaderd status", clone).stdout


def _shape(line: str) -> str:
    """A line without what differs from run to run: figures, units and paths; columns count as one blank."""
    line = re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME", line)
    line = re.sub(r"\S*/\S+\.\w+|/\S+", "PATH", line)
    line = re.sub(r"\d[\d.]*( [KMGT]?i?B(/s)?|s|m|h)?", "#", line)
    return re.sub(r"(# ?)+", "# ", re.sub(r"\s+", " ", line)).strip()  # "1m 5s" is one figure too
