"""Checksums, against other implementations and against themselves cut in pieces."""

from __future__ import annotations

import base64
import hashlib

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd import checksum
from uploaderd.model import Checksum


@st.composite
def cut_up(draw: st.DrawFn) -> list[bytes]:
    content = draw(st.binary(max_size=5_000))
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=6)))
    return [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]


def test_check_values() -> None:
    """Of the catalogue of parametrised CRC algorithms: CRC-32/ISCSI and CRC-64/NVME."""
    found = checksum.of(b"123456789")

    assert found == Checksum(9, crc32c=0xE3069283, crc64nvme=0xAE8B14860A799888)


@given(st.binary(max_size=5_000))
def test_crc32c_agrees_with_googles(content: bytes) -> None:
    assert checksum.of(content).crc32c == google_crc32c.value(content)


@given(cut_up())
def test_pieces_combine_to_the_whole(pieces: list[bytes]) -> None:
    assert checksum.combine(map(checksum.of, pieces)) == checksum.of(b"".join(pieces))


@given(cut_up(), st.booleans())
def test_streaming_gives_the_same(pieces: list[bytes], md5: bool) -> None:
    whole = b"".join(pieces)
    running = checksum.Running(md5=md5)
    for piece in pieces:
        running.update(bytearray(piece))

    assert checksum.same(running.value(), checksum.of(whole))
    assert running.value().md5 == (hashlib.md5(whole).digest() if md5 else None)


checksums = st.builds(
    Checksum,
    size=st.integers(0, 5 * 2**40),
    crc32c=st.integers(0, 2**32 - 1),
    crc64nvme=st.integers(0, 2**64 - 1),
)


@given(checksums, checksums, checksums)
def test_combining_is_associative_beyond_4_gib_too(a: Checksum, b: Checksum, c: Checksum) -> None:
    assert checksum.combine([checksum.combine([a, b]), c]) == checksum.combine([a, checksum.combine([b, c])])


def test_nothing_combines_to_empty() -> None:
    assert checksum.combine([]) == checksum.EMPTY == checksum.of(b"")


def test_an_md5_of_parts_is_never_passed_off_as_the_wholes() -> None:
    part = Checksum(1, 2, 3, md5=b"0123456789abcdef")

    assert checksum.combine([part]).md5 is None


@pytest.mark.parametrize("other", [Checksum(9, 2, 3), Checksum(1, 9, 3), Checksum(1, 2, 9)])
def test_same_compares_all_three(other: Checksum) -> None:
    one = Checksum(1, 2, 3)

    assert not checksum.same(one, other)
    assert checksum.same(one, Checksum(1, 2, 3, md5=b"x"))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_base64_is_big_endian_and_comes_back(crc32c: int, crc64nvme: int) -> None:
    assert base64.b64decode(checksum.b64_crc32c(crc32c)) == crc32c.to_bytes(4, "big")
    assert checksum.parse_b64(checksum.b64_crc32c(crc32c)) == crc32c
    assert checksum.parse_b64(checksum.b64_crc64nvme(crc64nvme)) == crc64nvme


@pytest.mark.parametrize("text", ["not base64!", "AAA", "ÄÄÄÄ"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  binascii's own text
        checksum.parse_b64(text)
