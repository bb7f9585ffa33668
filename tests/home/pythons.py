"""The whole suite with newer Pythons than this machine's: those of Debian 13 and of Debian's next.

    python -m tests.home.pythons                 # both
    python -m tests.home.pythons trixie -k sweep  # one release; what follows goes to pytest

A quarter of an hour each, so the suite itself leaves it out. tests/home is left out of it: that brings a
Debian of its own (TESTS_DEBIAN=trixie for the newer one). Needs root and debootstrap; fetches from Debian's
archive and the package index, as this machine is set up to (proxies, certificates, pip's and apt's
configuration).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.home.debian import ROOT, base, layered, run

RELEASES: Final = ("trixie", "sid")
TESTS: Final = ("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--ignore", "tests/home", "-q")
TOOLS: Final = ("acl", "curl", "e2fsprogs", "ffmpeg", "fuse3", "git", "strace", "util-linux-extra")
"""Debian packages with programs that tests call and that `tests/run.py` takes for granted."""
THIS_MACHINES: Final = ("resolv.conf", "hosts", "pip.conf", "apt/apt.conf.d", "ssl/certs")
"""What of /etc says how to get at archives."""

INSIDE: Final = """
set -e
cd "$1"
for place in proc sys dev; do mount --rbind /$place $place; done
mount --bind "$2" tmp
pivot_root . mnt
umount --lazy /mnt
cd /usr/src/uploaderd
shift 2
exec "$@"
"""
"""No chroot: a process in one cannot have user namespaces, which some tests need (unshare(2), EPERM)."""


def main(arguments: list[str]) -> int:
    if os.geteuid() != 0:
        sys.exit("mounts, and changes the root: only as root")
    if shutil.which("debootstrap") is None:
        sys.exit("not installed: debootstrap")
    releases = [name for name in arguments if name in RELEASES] or RELEASES
    words = [word for word in arguments if word not in RELEASES]
    return max([suite(release, words) for release in releases])


def suite(release: str, words: list[str]) -> int:
    """Carry the suite out there; its exit code."""
    with (
        tempfile.TemporaryDirectory(prefix="uploaderd-pythons-") as folder,
        layered(base(release=release), Path(folder)) as root,
    ):
        for name in THIS_MACHINES:
            take(Path("/etc") / name, root / "etc" / name)
        for name in run(["git", "-C", ROOT, "ls-files"]).splitlines():
            take(ROOT / name, root / "usr" / "src" / "uploaderd" / name)
        temporary = Path(folder) / "tmp"  # an overlay is no place for tests of what a file system does
        temporary.mkdir()
        inside = ["unshare", "--mount", "sh", "-c", INSIDE, "sh", str(root), str(temporary)]
        run([*inside, "apt-get", "update", "--quiet"], timeout=300)
        install = ["apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *TOOLS]
        run([*inside, "env", "DEBIAN_FRONTEND=noninteractive", *install], timeout=900)
        return subprocess.run([*inside, "python3", "tests/run.py", *TESTS, *words], check=False).returncode


def take(what: Path, to: Path) -> None:
    """Copy a file or folder, if there is one, over what may be there."""
    if what.exists():
        to.parent.mkdir(parents=True, exist_ok=True)
        copying = ["cp", "--recursive", "--dereference", "--remove-destination", "--no-target-directory"]
        run([*copying, what, to])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
