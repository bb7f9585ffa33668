"""What the endpoint holds: bytes in memory while they are few, in files of a temporary folder when many.

A 4 GiB upload must not need 4 GiB of the server's memory. Nothing is copied when parts become an object: a
`Content` is a list of slices of what was received.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from tests.strict.checksums import ALWAYS, Digests, combine

IN_MEMORY: Final = 256 * 1024
"""Bytes of one body that are kept in memory; a longer body goes to a file."""
_WINDOW: Final = 1024 * 1024


class _Run:
    """The bytes of one received body, never changed. A file goes when nothing refers to it any more."""

    def __init__(self, held: bytes | Path) -> None:
        self._held = held
        if isinstance(held, Path):
            weakref.finalize(self, held.unlink, missing_ok=True)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        if isinstance(self._held, bytes):
            yield self._held[start:stop]
            return
        with self._held.open("rb") as file:
            file.seek(start)
            while start < stop and (data := file.read(min(_WINDOW, stop - start))):
                start += len(data)
                yield data


@dataclass(frozen=True)
class _Slice:
    run: _Run
    start: int
    stop: int
    flip: int | None = None  # offset in the run of a byte whose lowest bit reads wrong

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        at = self.start + start
        for data in self.run.read(at, self.start + stop):
            if self.flip is not None and at <= self.flip < at + len(data):
                spoiled = bytearray(data)
                spoiled[self.flip - at] ^= 1
                yield bytes(spoiled)
            else:
                yield data
            at += len(data)


@dataclass(frozen=True)
class Content:
    """Bytes, and the digests that were true of them when they arrived (a spoiled copy keeps the old ones)."""

    slices: tuple[_Slice, ...]
    digests: dict[str, bytes]

    @property
    def size(self) -> int:
        return sum(piece.stop - piece.start for piece in self.slices)

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, in windows of at most 1 MiB."""
        end = self.size if stop is None else stop
        offset = 0
        for piece in self.slices:
            length = piece.stop - piece.start
            first, last = max(start - offset, 0), min(end - offset, length)
            if first < last:
                yield from piece.read(first, last)
            offset += length

    def bytes(self) -> bytes:
        return b"".join(self.read())

    def truncated(self, size: int) -> Content:
        """The same content cut to `size` bytes, its digests left as they were: a lie to be caught."""
        kept: list[_Slice] = []
        for piece in self.slices:
            length = min(piece.stop - piece.start, size)
            if length > 0:
                kept.append(replace(piece, stop=piece.start + length))
            size -= length
        return replace(self, slices=tuple(kept))

    def flipped(self, at: int) -> Content:
        """The same content with one bit wrong in byte `at`, its digests left as they were."""
        pieces = list(self.slices)
        for index, piece in enumerate(pieces):
            length = piece.stop - piece.start
            if at < length:
                pieces[index] = replace(piece, flip=piece.start + at)
                break
            at -= length
        return replace(self, slices=tuple(pieces))


def joined(contents: Iterable[Content]) -> Content:
    """Contents laid end to end; every CRC that all of them carry is combined, hashes are left out."""
    parts = list(contents)
    names = frozenset.intersection(*(frozenset(part.digests) for part in parts)) if parts else ALWAYS
    sizes = [part.size for part in parts]
    digests = {
        name: combine(name, zip((part.digests[name] for part in parts), sizes, strict=True))
        for name in names
        if name.startswith("crc")
    }
    return Content(tuple(piece for part in parts for piece in part.slices), digests)


class Writer:
    """Takes a body chunk by chunk; `finish` gives the content, `discard` forgets what came."""

    def __init__(self, folder: Path, digests: Iterable[str]) -> None:
        self.size = 0
        self._folder = folder
        self._digests = Digests(ALWAYS.union(digests))
        self._buffer: bytearray | None = bytearray()
        self._file: BinaryIO | None = None
        self._path: Path | None = None

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self._digests.update(data)
        if self._buffer is not None and self.size <= IN_MEMORY:
            self._buffer += data
            return
        if self._file is None:
            handle, name = tempfile.mkstemp(dir=self._folder)
            self._file, self._path = open(handle, "wb", buffering=0), Path(name)  # noqa: SIM115 - closed by finish
        if self._buffer is not None:
            self._file.write(self._buffer)
            self._buffer = None
        self._file.write(data)

    def digests(self) -> dict[str, bytes]:
        return self._digests.values()

    def finish(self) -> Content:
        held: bytes | Path
        if self._file is not None and self._path is not None:
            self._file.close()
            held = self._path
        else:
            held = bytes(self._buffer or b"")
        return Content((_Slice(_Run(held), 0, self.size),), self._digests.values())

    def discard(self) -> None:
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)


class Store:
    """The temporary folder; it goes with `close`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="strict-", ignore_cleanup_errors=True)

    @property
    def folder(self) -> Path:
        return Path(self._folder.name)

    def writer(self, *digests: str) -> Writer:
        return Writer(self.folder, digests)

    def content(self, data: bytes, *digests: str) -> Content:
        writer = self.writer(*digests)
        writer.write(data)
        return writer.finish()

    def close(self) -> None:
        self._folder.cleanup()
