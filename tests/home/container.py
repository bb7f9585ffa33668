"""The image, built from the Dockerfile without an engine, and containers of it: buildah, runc, no network.

The base image is the Debian of `debian.base`; what the official Python images have beyond that, a `python`
on the path, it has too.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.home.debian import HERE, ROOT, architecture, base, run, wheels

NAME: Final = "localhost/uploaderd"
ROOM: Final = 4 << 30
"""Bytes that the layers may take: in memory if it has that much to spare, for vfs copies all the time."""


@dataclass(frozen=True, slots=True)
class Image:
    """`root` is its file system, `config` what it says of itself (OCI's and Docker's names)."""

    root: Path
    config: dict[str, Any]


@contextmanager
def built(folder: Path, machine: str = HERE) -> Iterator[Image]:
    """The image, built from the checkout; all that was made for it is removed in the end.

    For another machine than this the kernel must be able to run its programs (`arm64`).
    """
    memory = Path("/dev/shm")
    storage = folder / "storage"
    if shutil.disk_usage(memory).free > ROOM:
        storage = memory / f"uploaderd-test-{os.getpid()}"
    storage.mkdir()

    def buildah(*arguments: str | Path, timeout: float = 60) -> str:
        where = ["--storage-driver=vfs", f"--root={storage}/layers", f"--runroot={storage}/run"]
        return run(["buildah", *where, *arguments], timeout=timeout).strip()

    try:
        arch = f"--arch={architecture(machine)}"
        scratch = buildah("from", arch, "scratch")
        buildah("add", "--quiet", scratch, base(machine), "/", timeout=300)
        buildah("commit", "--quiet", "--rm", scratch, "localhost/python:3.11-slim", timeout=300)
        options = [arch, "--isolation=chroot", "--format=docker", "--pull-never"]
        options += [f"--volume={wheels(machine)}:/wheels:ro"]
        options += ["--build-arg=PIP_NO_INDEX=1", "--build-arg=PIP_FIND_LINKS=/wheels", f"--tag={NAME}"]
        buildah("build", *options, ROOT, timeout=600)
        config = json.loads(buildah("inspect", "--type=image", NAME))["Docker"]["config"]
        container = buildah("from", arch, "--pull-never", NAME, timeout=300)
        yield Image(Path(buildah("mount", container)), config)
        buildah("umount", container)
    finally:
        shutil.rmtree(storage, ignore_errors=True)


@dataclass
class Container:
    """A context manager: one container, read-only, without capabilities, under the recorder's uid.

    `folders` maps paths in it to folders here, which it may write; `reads` to those it may only read.
    """

    image: Image
    folder: Path
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)
    reads: Mapping[str, Path] = field(default_factory=dict)
    uid: int = 1000
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        self.folder.mkdir()
        (self.folder / "config.json").write_text(json.dumps(self._bundle()))
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*self._runc("run"), f"--bundle={self.folder}", self._id],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            subprocess.run([*self._runc("delete"), "--force", self._id], check=False, capture_output=True)
            self._process.wait()
        if error is not None:
            error.add_note(f"the container said:\n{self.log()[-4000:]}")

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    async def says(self, text: str, *, within: float = 60.0) -> None:
        """Wait until its log has the text."""
        deadline = time.monotonic() + within
        while text not in self.log():
            assert self._process is not None
            assert self._process.poll() is None, f"it ended and never said {text!r}"
            assert time.monotonic() < deadline, f"it did not say {text!r} within {within:g} s"
            await asyncio.sleep(0.05)  # between two looks at the log

    def stop(self) -> None:
        """SIGTERM to its PID 1, as an engine stops a container."""
        run([*self._runc("kill"), self._id, signal.SIGTERM.name])

    async def ended(self, *, within: float = 60.0) -> int:
        """Wait for its end; the exit code."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, within)

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in it, beside its PID 1."""
        return subprocess.run(
            [*self._runc("exec"), self._id, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def _id(self) -> str:
        return f"uploaderd-test-{os.getpid()}-{self.folder.name}"

    def _runc(self, verb: str) -> list[str]:
        return ["runc", f"--root={self.folder.parent}/runc", verb]

    def _bundle(self) -> dict[str, Any]:
        """The container, as the OCI runtime specification has it."""
        env = dict(pair.split("=", 1) for pair in self.image.config["Env"]) | dict(self.env)
        none: list[str] = []
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": self.uid, "gid": self.uid},
                "args": [*self.image.config["Entrypoint"], *(self.command or self.image.config["Cmd"])],
                "env": [f"{name}={value}" for name, value in env.items()],
                "cwd": self.image.config["WorkingDir"] or "/",
                "noNewPrivileges": True,
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), none),
            },
            "root": {"path": str(self.image.root), "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {
                    "destination": "/dev",
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": ["nosuid", "mode=755"],
                },
                _temporary("/run/uploaderd"),
                *(_bound(path, here, "rw") for path, here in self.folders.items()),
                *(_bound(path, here, "ro") for path, here in self.reads.items()),
            ],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]},
        }


def _temporary(path: str, *options: str) -> dict[str, Any]:
    return {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", *options]}


def _bound(path: str, here: Path, how: str) -> dict[str, Any]:
    return {"destination": path, "type": "bind", "source": str(here), "options": ["bind", how]}
