"""A Debian to install into: its root made once by debootstrap, and the wheels that the lock file names.

Both are kept in .cache/home. A test gets its own copy of the root, as an overlay over the one that is kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from packaging.markers import Marker

from tests.needs import lacking

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / ".cache" / "home"
RELEASE: Final = os.environ.get("TESTS_DEBIAN", "bookworm")
PYTHON: Final = {"bookworm": "3.11.2", "trixie": "3.13.5"}[RELEASE]
"""Of that release."""
PACKAGES: Final = "systemd,systemd-sysv,dbus,python3,python3-venv,procps,ca-certificates"
HERE: Final = platform.machine()
"""What this machine is, as Python and pip call it."""
LOCKS: Final = (ROOT / ".ci" / "requirements.lock", ROOT / ".ci" / "build.lock")
SHIPPED: Final = ("uploaderd", "systemd", ".ci", "pyproject.toml", "README.md", "LICENSE", "Dockerfile")
"""What of the checkout an installation needs."""


def architecture(machine: str) -> str:
    """What Debian and the image formats call it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}[machine]


def needs(*tools: str) -> None:
    """Leave the test out where it cannot run: not as root, or without a tool. In CI, root suffices."""
    if os.geteuid() != 0:
        lacking("boots and mounts: only as root", demanded=False)
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        lacking(f"not installed: {', '.join(missing)} (python3 tests/run.py --setup installs them on Debian)")


def base(machine: str = HERE, release: str = RELEASE) -> Path:
    """The root, made if it is not there yet. It takes a minute, and an archive to fetch from."""
    kept = CACHE / f"{release}-{machine}-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:8]}"
    if kept.exists():
        return kept
    with _alone():
        if not kept.exists():
            _make(kept, machine, release)
    return kept


def _make(kept: Path, machine: str, release: str) -> None:
    # Under another name first: one that was not finished must not be taken for one.
    making = CACHE / f"making-{os.getpid()}"
    command = ["debootstrap", f"--arch={architecture(machine)}", "--variant=minbase", f"--include={PACKAGES}"]
    done = run([*command, release, making], timeout=900)
    (making / "var" / "log" / "debootstrap.log").write_text(done)
    shutil.rmtree(making / "var" / "cache" / "apt")
    (making / "usr" / "bin" / "python").symlink_to("python3")  # as the official Python images have it
    making.rename(kept)


@contextmanager
def _alone() -> Iterator[None]:
    """Only one process at a time fills the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wheels(machine: str = HERE) -> Path:
    """A folder with the locked wheels, for the base's Python, fetched if they are not there yet.

    Only what the locks name is fetched, with the hash that they give: if one is incomplete, nothing that
    is installed from the folder alone gets far.
    """
    return fetched("wheels", *LOCKS, machine=machine)


def fetched(what: str, *locks: Path, machine: str = HERE) -> Path:
    """The folder in the cache with the wheels that the locks name."""
    text = "".join(lock.read_text() for lock in locks)
    kept = CACHE / f"{what}-{machine}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    with _alone():
        if not kept.exists():
            making = CACHE / f"making-{what}-{os.getpid()}"
            making.mkdir()
            fetch(text, making, machine)
            making.rename(kept)
    return kept


def fetch(lock: str, to: Path, machine: str) -> None:
    """Fetch the wheels that a lock names, for the base's Python on that machine."""
    wanted = to / "wanted.txt"
    wanted.write_text(applicable(lock, machine))
    tags = [f"--platform={kind}_{machine}" for kind in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", f"--python-version={PYTHON}", *tags, f"--dest={to}", f"-r{wanted}"]
    run(command, timeout=300)
    wanted.unlink()


def applicable(lock: str, machine: str) -> str:
    """The lock without what is meant for other systems; pip would ask the Python that runs it."""
    there = {
        "implementation_name": "cpython",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "python_full_version": PYTHON,
        "python_version": PYTHON.rpartition(".")[0],
        "sys_platform": "linux",
    }
    kept = []
    for entry in re.findall(r"^[a-z0-9].*?(?=^\S|\Z)", lock, re.MULTILINE | re.DOTALL):
        what, _, hashes = entry.partition(" \\\n")
        name, _, marker = what.partition(" ; ")
        if not marker or Marker(marker).evaluate(there):
            kept.append(f"{name} \\\n{hashes}")
    return "".join(kept)


@contextmanager
def copy(folder: Path) -> Iterator[Path]:
    """A root of one's own, with the checkout in /usr/src/uploaderd and the wheels in /wheels."""
    with layered(base(), folder) as root:
        checkout = root / "usr" / "src" / "uploaderd"
        checkout.mkdir(parents=True)
        for name in SHIPPED:
            place = ROOT / name
            if place.is_dir():
                shutil.copytree(place, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(place, checkout / name)
        (root / "wheels").mkdir()
        run(["mount", "--bind", wheels(), root / "wheels"])
        try:
            yield root
        finally:
            run(["umount", root / "wheels"])


@contextmanager
def layered(lower: Path, folder: Path) -> Iterator[Path]:
    """A root that may be changed, over one that is kept. What changes is in the folder."""
    parts = [folder / name for name in ("upper", "work", "root")]
    for part in parts:
        part.mkdir()
    upper, work, root = parts
    run(["mount", "-t", "overlay", "overlay", f"-olowerdir={lower},upperdir={upper},workdir={work}", root])
    try:
        yield root
    finally:
        run(["umount", root])


def run(command: Sequence[str | Path], *, timeout: float = 60) -> str:
    """What it printed.

    Raises:
        AssertionError: it failed; tells what it printed.
    """
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{done.args!r} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    return done.stdout
