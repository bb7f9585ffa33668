"""Does a recording look whole? Its container is looked at, never its pictures.

A recorder that dies, or a disk that is full, leaves a file that ends where nothing should: within a box
(MP4, MOV), within an element (Matroska, WebM) or within a packet (MPEG-TS), or one without the index
that is written last. Headers are read, a few bytes each, and skipped from one to the next.

Formats: ISO/IEC 14496-12 (boxes), QuickTime File Format, RFC 8794 (EBML), RFC 9559 (Matroska),
ISO/IEC 13818-1 (transport streams; M2TS puts four bytes before each packet).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

Read = Callable[[int, int], bytes]
"""(offset, size) -> the bytes that are there: fewer than `size` only where the file ends."""

WINDOW: Final = 4096
"""Bytes read at once, so that headers close to each other cost one read."""

MOST: Final = 1_000_000
"""Headers looked at in one file. A file of more (days of it, unfinished) is not judged: some seconds are
enough to spend on a look."""


def flaw(read: Read, size: int, name: bytes) -> str | None:
    """What shows that the file is not whole; None if it looks whole, or is of no kind that is known here.

    Args:
        read: reads from the file.
        size: of the file; what lies beyond is not looked at.
        name: the file's, whose ending counts where its first bytes do not tell what it is.

    Raises:
        OSError: whatever `read` raises.
    """
    file = _File(read, size)
    check = _by_content(file) or _BY_ENDING.get(name.rpartition(b".")[2].lower())
    if check is None:
        return None
    try:
        check(file)
    except _Flawed as flawed:
        return str(flawed)
    except _TooLong:
        return None
    return None


class _Flawed(Exception):
    """What is wrong, as a sentence about the file."""


class _TooLong(Exception):
    """It has more headers than are looked at."""


class _File:
    """Reads headers, and counts them."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._window = b""
        self._begin = 0
        self._left = MOST
        self.size = size

    def at(self, offset: int, size: int) -> bytes:
        """So many bytes (a header's worth), fewer at the end of the file."""
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        begin = offset - self._begin
        if begin < 0 or begin + size > len(self._window):
            self._window, self._begin, begin = self._read(offset, max(size, WINDOW)), offset, 0
        return self._window[begin : begin + size]

    def step(self) -> None:
        """One more header.

        Raises:
            _TooLong: that was the last one that is looked at.
        """
        self._left -= 1
        if self._left < 0:
            raise _TooLong


# --- MP4, MOV --------------------------------------------------------------------------------------

_FIRST_BOXES: Final = frozenset((b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"wide", b"skip", b"free"))


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    begin: int
    body: int
    end: int


def _mp4(file: _File) -> None:
    """Top-level boxes tile the file, with an index, and media data for it.

    An index that announces fragments (`mvex`) may stand alone: streaming keeps it in a file of its own,
    as it does fragments without an index, in files that begin with `styp`. Each fragment is a `moof`
    and the `mdat` that follows.
    """
    index = fragmented = media = unfinished = segment = False
    position = 0
    while position < file.size:
        box = _box(file, position, file.size)
        position = box.end
        match box.kind:
            case b"styp" if box.begin == 0:
                segment = True
            case b"moov":
                index = True
                fragmented = any(child.kind == b"mvex" for child in _boxes(file, box.body, box.end))
            case b"moof":
                if not unfinished and (last := _last_fragment(file)) is not None and last > box.begin:
                    position = last
                    continue
                unfinished = True
            case b"mdat":
                media, unfinished = True, False
    if unfinished:
        raise _Flawed("its last fragment has no media data")
    if not index and not segment:
        raise _Flawed("it has no index (moov), which a recorder writes last")
    if segment and not index and not media:
        raise _Flawed("it ends before its first fragment")
    if index and not fragmented and not media:
        raise _Flawed("it has an index (moov), but no media data (mdat)")


def _boxes(file: _File, begin: int, end: int) -> Iterator[_Box]:
    while begin < end:
        box = _box(file, begin, end)
        yield box
        begin = box.end


def _box(file: _File, begin: int, end: int) -> _Box:
    """The box at `begin`, in one that ends at `end` (or the file that does).

    Raises:
        _Flawed: there is none, or it is not whole.
    """
    file.step()
    head = file.at(begin, 16)[: end - begin]
    size, kind, body = int.from_bytes(head[:4], "big"), head[4:8], begin + 8
    if size == 1:
        size, body = int.from_bytes(head[8:16], "big"), begin + 16
    if len(head) < 8 or len(head) < body - begin:
        raise _Flawed(f"it ends within the header of a box, at byte {begin}")
    if not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind):
        raise _Flawed(f"no box begins at byte {begin}, where one should")
    if size == 0:
        size = end - begin  # to the end, whatever that is
    elif size < body - begin:
        raise _Flawed(f"no box begins at byte {begin}, where one should")
    if begin + size > end:
        raise _Flawed(f"{begin + size - end} bytes of its {kind.decode('latin-1')} box are missing")
    return _Box(kind, begin, body, begin + size)


def _last_fragment(file: _File) -> int | None:
    """Where the last fragment begins that the index at the file's end (`mfra`) names; None without one.

    It is written last and holds offsets from the beginning: where it leads to a fragment, nothing is
    missing before that. A day's recording then need not be walked through.
    """
    tail = file.at(file.size - 16, 16)
    if tail[:8] != b"\0\0\0\x10mfro":
        return None
    begin = file.size - int.from_bytes(tail[12:16], "big")
    try:
        mfra = _box(file, begin, file.size) if begin > 0 else None
        if mfra is None or mfra.kind != b"mfra":
            return None
        found = [_last_entry(file, box) for box in _boxes(file, mfra.body, mfra.end) if box.kind == b"tfra"]
        last = max((offset for offset in found if offset is not None), default=None)
        return last if last is not None and _box(file, last, begin).kind == b"moof" else None
    except _Flawed:
        return None


def _last_entry(file: _File, tfra: _Box) -> int | None:
    """Offset of the last fragment of one track (ISO/IEC 14496-12, 8.8.10)."""
    head = file.at(tfra.body, 16)
    wide = 8 if head[:1] == b"\1" else 4
    lengths, entries = int.from_bytes(head[8:12], "big"), int.from_bytes(head[12:16], "big")
    size = 2 * wide + sum((lengths >> shift & 3) + 1 for shift in (4, 2, 0))
    at = tfra.body + 16 + (entries - 1) * size
    if entries == 0 or at + size > tfra.end:
        return None
    return int.from_bytes(file.at(at + wide, wide), "big")


# --- Matroska, WebM --------------------------------------------------------------------------------

_EBML: Final = 0x1A45DFA3
_SEGMENT: Final = 0x18538067
_CLUSTER: Final = 0x1F43B675
_KNOWN: Final = frozenset(
    (
        *(_EBML, _SEGMENT, _CLUSTER),
        *(0xEC, 0xBF),  # void, CRC-32: anywhere
        # SeekHead, Info, Tracks, Cues, Chapters, Attachments, Tags
        *(0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1043A770, 0x1941A469, 0x1254C367),
        # in a cluster: Timestamp, SilentTracks, Position, PrevSize, SimpleBlock, BlockGroup, EncryptedBlock
        *(0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF),
    )
)


def _matroska(file: _File) -> None:
    """The segment's size says where the file ends; one of unknown size (live) ends with a whole element.

    Elements of unknown size have no end of their own: what they contain is walked as if it stood beside.
    """
    position, live, clusters, segments = 0, False, 0, 0
    while position < file.size:
        file.step()
        kind, body, end = _element(file, position)
        if kind not in _KNOWN or (position == 0) != (kind == _EBML and segments == 0):
            raise _Flawed(f"no element begins at byte {position}, where one should")
        segments += kind == _SEGMENT
        clusters += kind == _CLUSTER
        if end is None:
            if kind not in (_SEGMENT, _CLUSTER):
                raise _Flawed(f"an element at byte {position} has no size")
            live = live or kind == _SEGMENT
            end = body
        if end > file.size:
            raise _Flawed(f"{end - file.size} bytes are missing at its end")
        position = end
    if not segments:
        raise _Flawed("it ends before its segment")
    if live and not clusters:
        raise _Flawed("it ends before its first cluster")


def _element(file: _File, begin: int) -> tuple[int, int, int | None]:
    """Id, where its content begins, and where it ends: None if its size is unknown.

    Raises:
        _Flawed: the file ends within its header, or none begins there.
    """
    head = file.at(begin, 12)
    if not head:
        raise _Flawed(f"it ends at byte {begin}, where an element should begin")
    id_length = 9 - head[0].bit_length()
    if id_length > 4:
        raise _Flawed(f"no element begins at byte {begin}, where one should")
    size_head = head[id_length : id_length + 1]
    size_length = 9 - size_head[0].bit_length() if size_head else 8
    if size_length > 8:
        raise _Flawed(f"no element begins at byte {begin}, where one should")
    body = begin + id_length + size_length
    if len(head) < id_length + size_length:
        raise _Flawed(f"it ends within the header of an element, at byte {begin}")
    unknown = (1 << 7 * size_length) - 1
    size = int.from_bytes(head[id_length : id_length + size_length], "big") & unknown
    return int.from_bytes(head[:id_length], "big"), body, None if size == unknown else body + size


# --- MPEG-TS ---------------------------------------------------------------------------------------

_SYNC: Final = b"\x47"
_SAMPLES: Final = 64
"""Packets looked at along the file, beside the last ones."""


def _transport(file: _File) -> None:
    """Whole packets from the first to the last."""
    packet, lead = 188, 0
    if not _synced(file, 188, 0, 0):
        packet, lead = 192, 4
        if not _synced(file, 192, 4, 0):
            raise _Flawed("it does not begin with an MPEG-TS packet")
    if left := file.size % packet:
        raise _Flawed(f"it ends {left} bytes into a packet of {packet}")
    count = file.size // packet
    looked_at = {number * count // _SAMPLES for number in range(_SAMPLES)}
    for number in sorted(looked_at | set(range(max(0, count - 4), count))):
        if file.at(number * packet + lead, 1) != _SYNC:
            raise _Flawed(f"no packet begins at byte {number * packet}, where one should")


def _synced(file: _File, packet: int, lead: int, begin: int) -> bool:
    """Whether the packets at `begin` and after it begin as packets do, as far as the file goes."""
    first, second = begin + lead, begin + packet + lead
    return file.at(first, 1) == _SYNC and (second >= file.size or file.at(second, 1) == _SYNC)


# --- which of them ---------------------------------------------------------------------------------

_Check = Callable[[_File], None]


def _by_content(file: _File) -> _Check | None:
    head = file.at(0, 8)
    if head[:4] == _EBML.to_bytes(4, "big"):
        return _matroska
    if head[4:8] in _FIRST_BOXES:
        return _mp4
    for packet, lead in ((188, 0), (192, 4)):
        # A single sync byte is nothing: one in 256 files has it.
        if file.size > 3 * packet and all(file.at(number * packet + lead, 1) == _SYNC for number in range(4)):
            return _transport
    return None


_BY_ENDING: Final[dict[bytes, _Check]] = {
    **dict.fromkeys((b"mp4", b"m4v", b"m4a", b"m4s", b"mov", b"qt", b"3gp", b"3g2", b"f4v"), _mp4),
    **dict.fromkeys((b"mkv", b"mka", b"mk3d", b"webm"), _matroska),
    **dict.fromkeys((b"ts", b"m2ts", b"mts", b"m2t"), _transport),
}
