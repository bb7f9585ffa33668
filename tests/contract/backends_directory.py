"""The directory, on the file system of the tests' temporary folder."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.contract.place import Backend, Found, Place
from uploaderd.model import TOKEN_METADATA


class Folder:
    """A vendor's own client for a folder: the kernel."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def get(self, key: str) -> Found | None:
        path = self._path / key
        if not path.exists():
            return None
        attributes = {name: os.getxattr(path, name).decode() for name in os.listxattr(path)}
        ours = {
            name.removeprefix("user.uploaderd."): value
            for name, value in attributes.items()
            if name.startswith("user.uploaderd.")
        }
        return Found(
            content=path.read_bytes(),
            content_type=attributes.get("user.mime_type", ""),
            token=attributes.get(f"user.{TOKEN_METADATA}"),
            metadata=ours,
        )

    async def put(self, key: str, content: bytes) -> None:
        path = self._path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    async def keys(self) -> set[str]:
        return {
            str(path.relative_to(self._path))
            for path in self._path.rglob("*")
            if path.is_file() and path.relative_to(self._path).parts[0] != ".uploaderd"
        }

    async def leftovers(self) -> int:
        return sum(1 for path in (self._path / ".uploaderd" / "incoming").rglob("*") if path.is_file())


@asynccontextmanager
async def _folder(server: object, tmp_path: Path) -> AsyncIterator[Place]:
    target = tmp_path / "target"
    target.mkdir()
    yield Place(
        settings={"type": "directory", "path": str(target), "require_mount": False},
        vendor=Folder(target),
        part_size=256 * 1024,
        missing_bucket={"type": "directory", "path": str(tmp_path / "missing"), "require_mount": False},
    )


BACKENDS = [Backend("directory", None, _folder, lenient=frozenset({"login", "signing"}))]
