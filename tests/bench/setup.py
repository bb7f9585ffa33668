"""What the bench needs: two small C programs, and the peers from their packages.

The peers live in an environment of their own, so that none of them becomes something the product or
its tests need.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_PEERS: Final = ("awscli", "azure-storage-blob", "google-cloud-storage", "obstore", "s5cmd")
_DEBIAN: Final = {"gcc": "gcc", "rclone": "rclone"}
"""Programs, and the packages that bring them."""
INTERPRETER: Final = os.path.realpath(sys.executable)
"""One for uploaderd and for the peers in Python: how it was built is a fifth of what they all cost."""


class SetupError(Exception):
    """Something is missing that only the machine's owner can install; says what and how."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Where things are. `python` is the peers' own."""

    sink: Path
    meter: Path
    python: Path
    aws: Path
    s5cmd: Path
    rclone: Path

    def versions(self) -> dict[str, str]:
        """The peers and their versions, for the record."""
        listed = subprocess.run(
            [self.python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True
        )
        found = {one["name"]: one["version"] for one in json.loads(listed.stdout) if one["name"] in _PEERS}
        told = subprocess.run([self.rclone, "version"], capture_output=True, text=True, check=True).stdout
        s5cmd = subprocess.run([self.s5cmd, "version"], capture_output=True, text=True, check=True).stdout
        return found | {"rclone": told.split()[1], "s5cmd": s5cmd.strip()}


def prepared(folder: Path) -> Tools:
    """Build and install into `folder` what is not there yet.

    Raises:
        SetupError: a Debian package is missing and cannot be installed from here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _install_packages()
    sink, meter = folder / "sink", folder / "meter"
    sources = sorted((_HERE / "sink").glob("*.c"))
    headers = sorted((_HERE / "sink").glob("*.h"))
    _build(sink, sources, headers, "-lssl", "-lcrypto")
    _build(meter, [_HERE / "meter.c"], [])
    bin_ = _peers(folder / "peers")
    rclone = shutil.which("rclone")
    assert rclone is not None
    return Tools(sink, meter, bin_ / "python", bin_ / "aws", bin_ / "s5cmd", Path(rclone))


def _build(program: Path, sources: list[Path], headers: list[Path], *libraries: str) -> None:
    newest = max(file.stat().st_mtime for file in (*sources, *headers))
    if program.exists() and program.stat().st_mtime > newest:
        return
    flags = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE")
    subprocess.run(["gcc", *flags, *sources, "-o", program, *libraries], check=True)


def _peers(environment: Path) -> Path:
    bin_ = environment / "bin"
    stamp = environment / "installed"
    wanted = " ".join((INTERPRETER, *_PEERS))
    if not stamp.exists() or stamp.read_text() != wanted:
        _say(f"installing {', '.join(_PEERS)}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        subprocess.run([bin_ / "python", *pip, *_PEERS], check=True)
        stamp.write_text(wanted)
    return bin_


def _install_packages() -> None:
    missing = [package for program, package in _DEBIAN.items() if shutil.which(program) is None]
    if not Path("/usr/include/openssl/ssl.h").exists():
        missing.append("libssl-dev")
    if not missing:
        return
    command = ["apt-get", "install", "-y", "-q", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(f"the bench needs {', '.join(missing)}: run `sudo {' '.join(command)}`")
    _say(" ".join(command))
    for one in (["apt-get", "update", "-q"], command):
        subprocess.run(
            one, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdout=sys.stderr
        )


def _say(text: str) -> None:
    sys.stderr.write(f"tests.bench: {text}\n")
