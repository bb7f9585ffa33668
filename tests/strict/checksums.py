"""Digests that grow with the body, and CRCs combined from the parts' own.

Every digest is bytes in network order, as S3 and GCS encode them; Azure's CRC-64 is the same polynomial
as CRC-64/NVME in little-endian order (docs of Put Block, `x-ms-content-crc64`).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable
from typing import Final

from awscrt import checksums as crt

_CRC_WIDTH: Final = {"crc32": 4, "crc32c": 4, "crc64nvme": 8}
_CRC_NEXT: Final[dict[str, Callable[[bytes, int], int]]] = {
    "crc32": zlib.crc32,
    "crc32c": crt.crc32c,
    "crc64nvme": crt.crc64nvme,
}
_CRC_JOIN: Final[dict[str, Callable[[int, int, int], int]]] = {
    "crc32": crt.combine_crc32,
    "crc32c": crt.combine_crc32c,
    "crc64nvme": crt.combine_crc64nvme,
}
_HASHES: Final = {"md5": hashlib.md5, "sha1": hashlib.sha1, "sha256": hashlib.sha256}

ALWAYS: Final = frozenset({"crc32c", "crc64nvme"})
"""Computed for every body: they cost next to nothing, and can be combined."""


class Digests:
    """Several digests over one stream of bytes."""

    def __init__(self, names: Iterable[str]) -> None:
        wanted = frozenset(names)
        self._crcs = {name: 0 for name in _CRC_NEXT if name in wanted}
        self._hashes = {name: make() for name, make in _HASHES.items() if name in wanted}

    def update(self, data: bytes) -> None:
        for name, value in self._crcs.items():
            self._crcs[name] = _CRC_NEXT[name](data, value)
        for running in self._hashes.values():
            running.update(data)

    def values(self) -> dict[str, bytes]:
        """The digests so far, by name."""
        crcs = {name: value.to_bytes(_CRC_WIDTH[name], "big") for name, value in self._crcs.items()}
        return crcs | {name: running.digest() for name, running in self._hashes.items()}


def combine(name: str, runs: Iterable[tuple[bytes, int]]) -> bytes:
    """The CRC of runs of bytes laid end to end, from each run's own CRC and its length in bytes."""
    total = 0
    for value, size in runs:
        total = _CRC_JOIN[name](total, int.from_bytes(value, "big"), size)
    return total.to_bytes(_CRC_WIDTH[name], "big")
