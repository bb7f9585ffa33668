"""What is shipped: a wheel and an sdist that build from one another, install into nothing, and work."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SHIPPED = (
    "CHANGELOG.md",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "config.example.toml",
    "docs/install.md",
    "docs/operations.md",
    "pyproject.toml",
    "systemd/uploaderd.service",
    "tests/run.py",
    "uploaderd/__main__.py",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both; the wheel is built from the sdist, as a distribution would."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT), cwd=folder)
    return folder


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_sdist_has_what_a_packager_needs_and_nothing_of_ours(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert not set(SHIPPED) - names
    assert not [
        name for name in names if name.startswith((".venv", ".git/", ".cache")) or name.endswith(".pyc")
    ]


def test_the_wheel_is_the_program_alone(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0].partition("-")[0] for name in archive.namelist()}
        assert tops == {"uploaderd"}
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_installed_into_an_empty_environment_it_runs_the_demo(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"), cwd=tmp_path)
    python = str(tmp_path / "venv" / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel), cwd=tmp_path)
    run(python, "-m", "pip", "check", cwd=tmp_path)
    # Nothing of the person who runs the tests: no checkout, no variables, no home.
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    uploaderd = str(tmp_path / "venv" / "bin" / "uploaderd")
    assert run(uploaderd, "--version", cwd=tmp_path, env=bare).startswith("uploaderd ")
    assert "safe" in run(uploaderd, "demo", cwd=tmp_path, env=bare).lower()
