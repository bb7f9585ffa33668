"""Content types: those of recorders are ours, not those of whichever machine it is."""

from __future__ import annotations

import pytest

from uploaderd.media import content_type


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("18-00.mp4", "video/mp4"),
        ("18-00.TS", "video/mp2t"),
        ("playlist.m3u8", "application/vnd.apple.mpegurl"),
        ("a.mkv", "video/x-matroska"),
        ("notes.json", "application/json"),
        ("no-extension", "application/octet-stream"),
        ("mp4", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
    ],
)
def test_by_extension(name: str, expected: str) -> None:
    assert content_type(name) == expected
