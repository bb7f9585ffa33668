"""CRC-32C and CRC-64/NVME, kept together, streamed and combined.

CRC-64/NVME serves S3 (`x-amz-checksum-crc64nvme`) and Azure (`x-ms-content-crc64`), CRC-32C serves
GCS and S3. Both come from AWS' C library, which also combines the checksums of neighbouring parts
without their bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Final

from awscrt import checksums as crt

from uploaderd.model import Checksum

EMPTY: Final = Checksum(size=0, crc32c=0, crc64nvme=0)


class Running:
    """The checksum of a stream, window by window."""

    __slots__ = ("_crc32c", "_crc64nvme", "_md5", "_size")

    def __init__(self, *, md5: bool = False) -> None:
        self._size = 0
        self._crc32c = 0
        self._crc64nvme = 0
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    def update(self, window: bytes | bytearray) -> None:
        self._crc32c = crt.crc32c(window, self._crc32c)
        self._crc64nvme = crt.crc64nvme(window, self._crc64nvme)
        self._size += len(window)
        if self._md5 is not None:
            self._md5.update(window)

    def value(self) -> Checksum:
        return Checksum(
            self._size,
            self._crc32c,
            self._crc64nvme,
            self._md5.digest() if self._md5 is not None else None,
        )


def of(data: bytes) -> Checksum:
    """Checksum of bytes that are in memory."""
    return Checksum(len(data), crt.crc32c(data), crt.crc64nvme(data))


def combine(pieces: Iterable[Checksum]) -> Checksum:
    """Checksum of the pieces' concatenation; MD5 cannot be combined and is dropped."""
    size, crc32c, crc64nvme = 0, 0, 0
    for piece in pieces:
        crc32c = crt.combine_crc32c(crc32c, piece.crc32c, piece.size)
        crc64nvme = crt.combine_crc64nvme(crc64nvme, piece.crc64nvme, piece.size)
        size += piece.size
    return Checksum(size, crc32c, crc64nvme)


def same(a: Checksum, b: Checksum) -> bool:
    """Whether both describe the same content (MD5 aside)."""
    return (a.size, a.crc32c, a.crc64nvme) == (b.size, b.crc32c, b.crc64nvme)


def b64_crc32c(value: int) -> str:
    """As S3 and GCS write it: base64 of four bytes, big-endian."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def b64_crc64nvme(value: int) -> str:
    """As S3 writes it: base64 of eight bytes, big-endian."""
    return base64.b64encode(value.to_bytes(8, "big")).decode()


def parse_b64(text: str) -> int:
    """Reverse of the two above.

    Raises:
        ValueError: not base64.
    """
    return int.from_bytes(base64.b64decode(text, validate=True), "big")
