"""A folder of another disk or of a mounted network file system, as a provider.

A session is a file in `.uploaderd/incoming`, named by the upload's token and written in order; it is
given its name in the target, without replacing anything, once its content was read back past the
page cache and found to be what the recording has. Every part is synced and read back as it is
written, so a part that was acknowledged is on disk. What lies beyond, after a crash, may be wrong:
completion reads back whatever this process did not, and throws the session away if it differs. A
session that nobody touched for a month is forgotten, as the clouds do it after a week.

`ObjectInfo.etag` is inode, mtime and size. `stat` tells no checksum, because that would be a read of
the whole file: `put` and `complete` tell what they read back, `read` reads it again. The token
lies in an extended attribute (see `directory_notes`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from uploaderd import addresses, checksum
from uploaderd.config import DirectoryProvider
from uploaderd.errors import CannotLook, Corrupted, Fault, SessionGone
from uploaderd.model import Checksum, HeldPart, ObjectInfo, ObjectSpec, Part, Session
from uploaderd.provider import Body, Limits
from uploaderd.providers import bounds
from uploaderd.providers import directory_objects as objects
from uploaderd.providers.directory_faults import fault_of
from uploaderd.providers.directory_file import OpenFile
from uploaderd.providers.directory_tree import INCOMING, Target, components, sync_folder

T = TypeVar("T")

_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_STEP: Final = 64 * 2**20
"""Bytes of an earlier process that are read back, and remembered as proven, at a time."""

_HELD: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


async def connect(name: str, config: DirectoryProvider, *, expect_marker: bool = False) -> Directory:
    """The provider; touches nothing yet.

    `expect_marker`: the ledger remembers that this provider was used before, so a target without
    the marker is an empty mount point and not a new folder.
    """
    return Directory(name, config, expect_marker=expect_marker)


class Directory:
    """Satisfies `provider.Provider`, `Strays` and `Deletes`."""

    def __init__(self, name: str, config: DirectoryProvider, *, expect_marker: bool) -> None:
        self._name = name
        self._target_name = config.target
        self._target = Target(config.path, require_mount=config.require_mount, expect_marker=expect_marker)
        self._config = config
        self._limits = bounds.directory(config)
        # Its own threads: a mount that hangs holds up nothing but itself.
        self._threads = ThreadPoolExecutor(2 * config.max_uploads + 2, thread_name_prefix=f"provider-{name}")
        # By handle: what this process wrote and read back, by offset.
        self._proven: dict[str, dict[int, Checksum]] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def login(self) -> str:
        return f"the daemon's own user (uid {os.geteuid()})"

    @property
    def target(self) -> str:
        return self._target_name

    def address(self, key: str) -> str:
        return addresses.address(self._config, key) or ""

    async def open(self, spec: ObjectSpec, part_size: int) -> Session:
        components(spec.key)
        self._proven[spec.token] = {}
        async with self._new_file(spec):
            return Session(spec, part_size, handle=spec.token)

    async def parts(self, session: Session) -> Sequence[HeldPart]:
        async with self._held_file(session) as file:
            size = min(os.fstat(file.fileno()).st_size, session.spec.size)
        return [HeldPart(number=1, offset=0, size=size, etag="")] if size else []

    async def put_part(self, session: Session, number: int, body: Body) -> Part:
        proven = self._proven.setdefault(session.handle, {})
        async with self._held_file(session) as file:
            held = await file.run("truncating", lambda: _cut(file.fileno(), body.offset))
            if held < body.offset:
                raise Fault(
                    f"{self._where(session.spec.key)}: {held} bytes held, part begins at {body.offset}",
                    code="gap",
                )
            for later in [offset for offset in proven if offset >= body.offset]:
                del proven[later]
            await self._write(file, session.spec, body)
            proven[body.offset] = body.checksum
        return Part(number, body.offset, body.checksum, etag="", checked="crc64nvme")

    async def complete(self, session: Session, parts: Sequence[Part], content: Checksum) -> ObjectInfo:
        size = sum(part.size for part in parts)
        async with self._held_file(session) as file:
            # What a part that nobody acknowledged left behind the others.
            held = await file.run("truncating", lambda: _cut(file.fileno(), size))
            await file.sync()
            if held < size or not checksum.same(await self._content(session, file, size), content):
                # With it goes the session: what is wrong in it cannot be told from what is right.
                await self.abort(session)
                raise self._corrupted(session.spec)
            info = await self._finish(session.spec, file, content)
        self._proven.pop(session.handle, None)
        return info

    async def put(self, spec: ObjectSpec, body: Body) -> ObjectInfo:
        components(spec.key)
        try:
            async with self._new_file(spec) as file:
                await self._write(file, spec, body)
                return await self._finish(spec, file, body.checksum)
        except Fault:
            await self._discard(spec)
            raise

    async def abort(self, session: Session) -> bool:
        self._proven.pop(session.handle, None)
        await self._discard(session.spec)
        return True

    async def strays(
        self,
        spec: ObjectSpec,
        seconds: float,  # noqa: ARG002 -- the name tells whose it is, whenever it was begun
        but: Session | None = None,
    ) -> Sequence[Session]:
        session = Session(spec, 0, handle=spec.token)
        if but is not None:
            return ()  # opening made it anew, under the same name
        try:
            async with self._held_file(session):
                return (session,)
        except SessionGone:
            return ()

    async def stat(self, key: str) -> ObjectInfo | None:
        def looked() -> ObjectInfo | None:
            with self._target.opened(writing=False) as root:
                return objects.info_of(root, key)

        try:
            return await self._run("looking at", key, looked)
        except Fault as fault:
            if fault.code == "EACCES":
                raise CannotLook(fault.message, code=fault.code, hint=fault.hint) from fault
            raise

    async def read(
        self,
        key: str,
        version_id: str | None = None,  # noqa: ARG002  a folder keeps no versions
    ) -> AsyncIterator[bytes]:
        """The content as the disk has it; a fault with the code ENOENT where no object is."""
        file = OpenFile(self._threads, self._where(key), lambda: objects.open_to_read(self._target, key))
        async with file:
            async for window in file.windows():
                yield window

    async def delete(self, key: str, version_id: str | None = None) -> None:  # noqa: ARG002
        await self._run("deleting", key, lambda: objects.delete(self._target, key))

    async def probe(self) -> None:
        """Write, sync and remove a tiny file; and whatever was forgotten beside it."""

        def probed() -> None:
            name = f"probe-{secrets.token_hex(8)}".encode()
            with self._target.opened(writing=True) as root, self._target.own(root, INCOMING) as incoming:
                fd = os.open(name, _NEW, 0o600, dir_fd=incoming)
                try:
                    os.write(fd, b"uploaderd")
                    os.fsync(fd)
                    now = os.fstat(fd).st_mtime
                finally:
                    os.close(fd)
                    os.unlink(name, dir_fd=incoming)
                objects.forget_old(incoming, now)

        await self._run("probing", ".uploaderd", probed)

    async def aclose(self) -> None:
        self._threads.shutdown(wait=False)

    # How it is done.

    def _where(self, key: str) -> str:
        return os.fsencode(self._target.path / key).decode("utf-8", "backslashreplace")

    async def _run(self, doing: str, key: str, work: Callable[[], T]) -> T:
        def guarded() -> T:
            try:
                return work()
            except OSError as error:
                raise fault_of(error, doing, self._where(key)) from error

        return await asyncio.get_running_loop().run_in_executor(self._threads, guarded)

    def _new_file(self, spec: ObjectSpec) -> OpenFile:
        """An empty temporary file; what an earlier session of the same upload left is dropped."""

        def opened() -> int:
            temporary = spec.token.encode()
            with self._target.opened(writing=True) as root, self._target.own(root, INCOMING) as incoming:
                try:
                    os.unlink(temporary, dir_fd=incoming)
                except FileNotFoundError:
                    pass
                fd = os.open(temporary, _NEW, 0o666, dir_fd=incoming)
                sync_folder(incoming)
                return fd

        return OpenFile(self._threads, self._where(spec.key), opened)

    def _held_file(self, session: Session) -> OpenFile:
        """The session's temporary file. Entering raises SessionGone."""

        def opened() -> int:
            with self._target.opened(writing=True) as root, self._target.own(root, INCOMING) as incoming:
                try:
                    return os.open(session.handle.encode(), _HELD, dir_fd=incoming)
                except FileNotFoundError as error:
                    raise SessionGone(
                        f"the half-done copy of {session.spec.key!r} in {self._target_name} is gone",
                        code="ENOENT",
                    ) from error

        return OpenFile(self._threads, self._where(session.spec.key), opened)

    async def _write(self, file: OpenFile, spec: ObjectSpec, body: Body) -> None:
        """Write a body at its offset, and prove that the disk has it."""
        await file.write(body, body.offset)
        await file.sync()
        if not checksum.same(await file.read_back(body.offset, body.size), body.checksum):
            await file.run("truncating", lambda: os.ftruncate(file.fileno(), body.offset))
            raise self._corrupted(spec)

    async def _content(self, session: Session, file: OpenFile, size: int) -> Checksum:
        """Checksum of the session's content; reads back what this process did not prove yet.

        What was read back is remembered: a huge file that was written before a restart may need
        more tries than one.
        """
        proven = self._proven.setdefault(session.handle, {})
        pieces: list[Checksum] = []
        position = 0
        while position < size:
            if position not in proven:
                next_proven = min((offset for offset in proven if offset > position), default=size)
                step = min(next_proven - position, _STEP)
                proven[position] = await file.read_back(position, step)
            pieces.append(proven[position])
            position += pieces[-1].size
        return checksum.combine(pieces)

    async def _finish(self, spec: ObjectSpec, file: OpenFile, content: Checksum) -> ObjectInfo:
        return await file.run("placing", lambda: objects.finish(self._target, spec, file.fileno(), content))

    def _corrupted(self, spec: ObjectSpec) -> Corrupted:
        return Corrupted(
            f"what was read back for {self._where(spec.key)} is not what was sent",
            code="crc64nvme",
            hint="if it happens again, check the disk or mount there, and the machine's memory",
        )

    async def _discard(self, spec: ObjectSpec) -> None:
        await self._run("discarding", spec.key, lambda: objects.discard(self._target, spec.token))


def _cut(fd: int, size: int) -> int:
    """Drop whatever is beyond `size`; the bytes that there are then."""
    held = os.fstat(fd).st_size
    if held > size:
        os.ftruncate(fd, size)
    return min(held, size)
