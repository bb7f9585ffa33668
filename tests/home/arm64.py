"""The image for arm64, built from the Dockerfile and run on another machine, under emulation.

    python -m tests.home.arm64

Takes six minutes the first time and two and a half after it, so the suite leaves it out; what of it breaks
without anybody's doing, a wheel that is not there for arm64, `test_locks` looks at. Needs root, what
`tests.home` needs, and Debian's qemu-user-static.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.home.container import Container, built
from tests.home.debian import HERE, run

MACHINE: Final = "aarch64"
TOOLS: Final = ("debootstrap", "buildah", "runc", "qemu-aarch64-static")
FORMATS: Final = Path("/proc/sys/fs/binfmt_misc")
"""Where the kernel is told what runs a program that it cannot run itself: binfmt_misc."""
HOW: Final = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
"""Of qemu-user-static; it has qemu opened now (F), so that it need not be in the container."""


def main() -> int:
    if os.geteuid() != 0:
        sys.exit("mounts and runs containers: only as root")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        sys.exit(f"not installed: {', '.join(missing)}")
    with emulation(), tempfile.TemporaryDirectory(prefix="uploaderd-arm64-") as folder:
        return asyncio.run(demo(Path(folder)))


@contextmanager
def emulation() -> Iterator[None]:
    """The kernel runs that machine's programs; afterwards as before."""
    if HERE == MACHINE:
        yield
        return
    if not (FORMATS / "register").exists():
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", FORMATS])
    ours = FORMATS / "qemu-aarch64"
    if ours.exists():
        yield
        return
    (FORMATS / "register").write_bytes(HOW.read_bytes().strip())
    try:
        yield
    finally:
        ours.write_text("-1")


async def demo(folder: Path) -> int:
    """Build, look what it is, and let it do its work: the exit code of `uploaderd demo`."""
    with built(folder, MACHINE) as image:
        python = ["chroot", str(image.root), "/opt/uploaderd/bin/python", "-c"]
        machine = run([*python, "import platform; print(platform.machine())"]).strip()
        print(f"built on {HERE}, runs on {machine}", flush=True)
        with Container(image, folder / "demo", ("demo",)) as container:
            code = await container.ended(within=300)
        print(container.log())
        return code


if __name__ == "__main__":
    sys.exit(main())
