"""Content types of recordings, by extension.

Of our own for what recorders write: the system's tables differ from machine to machine, and take
`.ts` for a translation file.
"""

from __future__ import annotations

import mimetypes
from typing import Final

_RECORDINGS: Final = {
    "aac": "audio/aac",
    "avi": "video/x-msvideo",
    "flac": "audio/flac",
    "flv": "video/x-flv",
    "m2ts": "video/mp2t",
    "m3u8": "application/vnd.apple.mpegurl",
    "m4a": "audio/mp4",
    "m4s": "video/iso.segment",
    "m4v": "video/mp4",
    "mka": "audio/x-matroska",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "mpd": "application/dash+xml",
    "mts": "video/mp2t",
    "mxf": "application/mxf",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "srt": "application/x-subrip",
    "ts": "video/mp2t",
    "vtt": "text/vtt",
    "wav": "audio/wav",
    "webm": "video/webm",
}

_builtin: Final = mimetypes.MimeTypes(filenames=())


def content_type(name: str) -> str:
    """The content type for a file name; `application/octet-stream` where nothing better is known."""
    _, dot, extension = name.rpartition(".")
    known = _RECORDINGS.get(extension.lower()) if dot else None
    return known or _builtin.guess_type(name, strict=True)[0] or "application/octet-stream"
