"""Whole or truncated? What a real ffmpeg writes, cut wherever it may be cut, and whatever else there is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recorder import ffmpeg_binary
from uploaderd import containers
from uploaderd.containers import WINDOW, flaw

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-pix_fmt", "yuv420p", "-c:a", "aac")
VP8 = ("-c:v", "libvpx", "-g", "15", "-c:a", "libopus")
FRAGMENTED = ("-f", "mp4", "-movflags", "frag_keyframe+empty_moov")

MADE = {
    "plain.mp4": H264,
    "plain.mov": H264,
    "faststart.mp4": (*H264, "-movflags", "faststart"),
    "fragmented.mp4": (*H264, *FRAGMENTED),
    "no_index_of_fragments.mp4": (*H264, "-movflags", "frag_keyframe+empty_moov+skip_trailer"),
    "hybrid.mp4": (*H264, "-movflags", "hybrid_fragmented"),
    "plain.mkv": H264,
    "plain.webm": VP8,
    "live.webm": (*VP8, "-f", "webm", "-live", "1"),
    "live.mkv": (*H264, "-f", "matroska", "-live", "1"),
    "plain.ts": H264,
    "plain.m2ts": (*H264, "-mpegts_m2ts_mode", "1"),
}
"""Each name, and how ffmpeg makes it."""

BY_PIPE = ("live.webm", "live.mkv")
"""Written where nothing can be gone back to: sizes stay unknown."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("made")
    contents = {}
    for name, options in MADE.items():
        target = "-" if name in BY_PIPE else str(folder / name)
        command = [ffmpeg_binary(), "-hide_banner", "-loglevel", "error", "-y"]
        command += ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=15:duration=3"]
        command += ["-f", "lavfi", "-i", "sine=duration=3", *options, target]
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
        contents[name] = done.stdout if target == "-" else Path(target).read_bytes()
    return contents


def told(content: bytes, name: str = "a") -> str | None:
    return flaw(lambda offset, size: content[offset : offset + size], len(content), name.encode())


CLEAN_ENDS = {
    "plain.mp4": 0,
    "plain.mov": 0,
    "faststart.mp4": 0,
    "hybrid.mp4": 0,
    "plain.mkv": 0,
    "plain.webm": 0,
    # After the index, each fragment, and the index of fragments.
    "fragmented.mp4": 4,
    "no_index_of_fragments.mp4": 3,
    # After each cluster.
    "live.webm": 3,
    "live.mkv": 3,
}
"""How often such a file may be cut in two and still end cleanly: after a whole fragment or cluster."""


@pytest.mark.parametrize("name", MADE)
def test_what_is_whole_looks_whole(made: dict[str, bytes], name: str) -> None:
    assert told(made[name], name) is None
    assert told(made[name], "by-its-content") is None
    assert told(made[name] + b"\0" * 1000, name) is not None, "the space that was set aside for more"


@pytest.mark.parametrize("name", CLEAN_ENDS)
def test_cut_anywhere_it_is_truncated(made: dict[str, bytes], name: str) -> None:
    """At each of its bytes."""
    content = made[name]
    whole = [size for size in range(1, len(content)) if told(content[:size], name) is None]
    assert len(whole) == CLEAN_ENDS[name], whole


@pytest.mark.parametrize(("name", "packet"), [("plain.ts", 188), ("plain.m2ts", 192)])
def test_packets_are_whole_or_not(made: dict[str, bytes], name: str, packet: int) -> None:
    content = made[name]
    sizes = range(max(1, len(content) - 20 * packet), len(content))
    assert [size for size in sizes if told(content[:size], name) is None] == [
        size for size in sizes if size % packet == 0
    ]
    assert [size for size in range(1, 3 * packet) if told(content[:size], name) is None] == [
        packet,
        2 * packet,
    ]


@pytest.mark.parametrize(
    ("name", "where"),
    [("plain.mp4", "moov"), ("fragmented.mp4", "fragment"), ("plain.mkv", "missing"), ("plain.ts", "packet")],
)
def test_it_says_what_is_missing(made: dict[str, bytes], name: str, where: str) -> None:
    content = made[name]
    end = content.index(b"moov") - 4 if where == "moov" else len(content) - 10
    if where == "fragment":
        end = content.rindex(b"mdat") - 4
    assert where in str(told(content[:end], name))


def test_a_hole_in_the_middle_is_seen(made: dict[str, bytes]) -> None:
    """The index at the end names where each fragment should be."""
    content = made["fragmented.mp4"]
    second = content.index(b"moof", content.index(b"moof") + 4)
    assert told(content[: second - 100] + content[second + 100 :], "a.mp4") is not None
    assert told(made["plain.ts"][:940] + b"\0" * 18800, "a.ts") is not None


def test_parts_of_a_stream_are_whole_by_themselves(made: dict[str, bytes]) -> None:
    """What HLS and DASH keep in files of their own: an index without fragments, and the reverse."""
    content = made["fragmented.mp4"]
    begin = content.index(b"moof") - 4
    assert told(content[:begin], "init.mp4") is None
    end = content.index(b"moof", begin + 8) - 4
    segment = b"\0\0\0\x10stypmsdh\0\0\0\0" + content[begin:end]
    assert told(segment, "1.m4s") is None
    for size in range(1, len(segment)):
        assert told(segment[:size], "1.m4s") is not None, size


def test_what_is_no_container_is_not_judged() -> None:
    assert told(b"text", "notes.txt") is None
    assert told(b"", "a.txt") is None
    # By its name it should be one.
    for name in ("a.mp4", "a.MKV", "a.ts", "a.mov", "a.webm", "a.m2ts"):
        assert told(b"\0" * 100_000, name) is not None, name
    # Its content says what it is, whatever its name.
    assert "cluster" in str(told(bytes.fromhex("1a45dfa380 18538067 01ffffffffffffff"), "a.mp4"))


def test_a_day_of_fragments_is_not_walked_through(made: dict[str, bytes]) -> None:
    reads = 0
    fragments = 20_000
    content = made["fragmented.mp4"]
    first = content.index(b"moof") - 4
    fragment = b"\0\0\0\x08moof" + (1 << 20).to_bytes(4, "big") + b"mdat"
    step = 8 + (1 << 20)
    end = first + fragments * step
    last = end - step
    tfra = bytes(12) + (1).to_bytes(4, "big") + bytes(8) + last.to_bytes(8, "big") + bytes(3)
    tfra = (8 + len(tfra)).to_bytes(4, "big") + b"tfra\1" + tfra[1:]
    mfra = (8 + len(tfra) + 16).to_bytes(4, "big") + b"mfra" + tfra + b"\0\0\0\x10mfro" + bytes(4)
    mfra += len(mfra + bytes(4)).to_bytes(4, "big")
    size = end + len(mfra)

    def read(offset: int, length: int) -> bytes:
        nonlocal reads
        reads += 1
        assert length <= WINDOW
        if offset < first:
            return content[offset : min(first, offset + length)]
        if offset >= end:
            return mfra[offset - end :][:length]
        return fragment[(offset - first) % step :][:length]

    assert flaw(read, size, b"a.mp4") is None
    assert reads < 20
    # Without that index each one is looked at.
    assert flaw(read, end, b"a.mp4") is None
    assert reads > fragments


def test_there_is_an_end_to_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MOST", 100)
    assert told(b"\0\0\0\x08free" * 101, "a.mp4") is None
    assert "moov" in str(told(b"\0\0\0\x08free" * 100, "a.mp4"))


heads = st.sampled_from(
    [
        b"",
        b"\0\0\0\x18ftypisom\0\0\0\0isomiso2",
        b"\0\0\0\x08moov\0\0\0\x08moof\0\0\0\x08mdat",
        bytes.fromhex("1a45dfa380"),
        bytes.fromhex("1a45dfa380 18538067ff 1f43b675ff"),
        b"\x47" + bytes(187) + b"\x47" + bytes(187),
    ]
)
names = st.sampled_from(["a.mp4", "a.mkv", "a.ts", "a"])
tails = st.one_of(st.just(b""), st.just(b"\0\0\0\x10mfro\0\0\0\0\0\0\0\x20"))


@settings(max_examples=500, deadline=None)
@given(heads, st.binary(max_size=2000), tails, names)
def test_no_bytes_make_it_fail(head: bytes, middle: bytes, tail: bytes, name: str) -> None:
    content = head + middle + tail
    answer = told(content, name)
    assert answer is None or len(answer) < 200


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_flipped_byte_makes_it_fail(made: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(MADE)))
    content = bytearray(made[name])
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, min(len(content) - 1, 3000)))] = data.draw(st.integers(0, 255))
    told(bytes(content), name)


def test_a_file_that_shrinks_meanwhile_is_no_fault_of_the_parser() -> None:
    """Somebody cut it after its size was asked for."""
    for name in ("a.mp4", "a.mkv", "a.ts"):
        assert flaw(lambda offset, size: b"", 1000, name.encode()) is not None
