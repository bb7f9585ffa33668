"""A directory as the tests use it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.contract import acts
from uploaderd.config import DirectoryProvider
from uploaderd.model import Session
from uploaderd.provider import Provider
from uploaderd.providers.directory import Directory, connect
from uploaderd.reader import OpenRecording

KEY: Final = "cam1/a.mp4"
PART: Final = 64 * 1024


async def directory(target: Path, *, require_mount: bool = False, expect_marker: bool = False) -> Directory:
    config = DirectoryProvider(type="directory", path=target, require_mount=require_mount)
    return await connect("nas", config, expect_marker=expect_marker)


def content(recording: OpenRecording) -> bytes:
    return os.pread(recording.fileno(), recording.size, 0)


def incoming(target: Path) -> list[Path]:
    return list((target / ".uploaderd" / "incoming").iterdir())


async def begun(provider: Provider, recording: OpenRecording, parts: int) -> Session:
    session = await provider.open(acts.spec_of(KEY, recording.size), PART)
    for number in range(parts):
        await acts.put_part(provider, session, recording, number * PART)
    return session
