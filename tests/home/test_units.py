"""The units, as systemd itself judges them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.home.debian import ROOT
from tests.needs import tool
from uploaderd.config import Daemon
from uploaderd.config.units import parse_duration

UNITS = ROOT / "systemd"
SERVICES = ("uploaderd.service", "uploaderd@.service")
ALL = (*SERVICES, "uploaderd-ensure.service", "uploaderd-ensure.timer")
MOST = 15
"""Tenths of systemd's exposure level, 0 to 100."""


@pytest.fixture(autouse=True)
def analyze() -> None:
    tool("systemd-analyze")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units and the drop-in, with a program that is there."""
    shutil.copytree(UNITS, tmp_path / "units")
    for name in ALL:
        unit = tmp_path / "units" / name
        unit.write_text(unit.read_text().replace("/opt/uploaderd/bin/uploaderd", shutil.which("true") or ""))
    return tmp_path / "units"


@pytest.mark.parametrize("name", ALL)
def test_verify_finds_nothing(installed: Path, name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", installed / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ALL[:3])
@pytest.mark.parametrize("drop_in", [True, False])
def test_exposure(installed: Path, name: str, drop_in: bool) -> None:
    if not drop_in:
        shutil.rmtree(installed / "uploaderd.service.d")
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST}", "--no-pager"]
    done = subprocess.run([*command, installed / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_template_is_the_service_but_for_its_name() -> None:
    def settings(name: str) -> list[str]:
        return [line for line in (UNITS / name).read_text().splitlines() if line and not line.startswith("#")]

    service, template = (settings(name) for name in SERVICES)
    template.remove("Environment=UPLOADERD_CONFIG=/etc/uploaderd/%i.toml")
    assert [line.replace("/%i", "").replace(" for %i", "") for line in template] == service


@pytest.mark.parametrize("name", ALL)
def test_each_setting_is_explained(name: str) -> None:
    """By a comment above it, or above the group that it stands in."""
    explained = False
    for line in (UNITS / name).read_text().splitlines():
        if not line or line.startswith("["):
            explained = line in ("[Unit]", "[Install]")
            continue
        explained = explained or line.startswith("#")
        assert explained, line


@pytest.mark.parametrize("name", SERVICES)
def test_a_stop_has_more_time_than_the_grace(name: str) -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\S+)$", (UNITS / name).read_text(), re.MULTILINE)
    assert parse_duration(seconds) > Daemon().shutdown_grace
