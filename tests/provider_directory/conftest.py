"""A target folder, a provider on it, and a recording of two parts and a half."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.provider_directory.nas import PART, directory
from uploaderd.providers.directory import Directory
from uploaderd.reader import OpenRecording


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


@pytest_asyncio.fixture
async def nas(target: Path) -> AsyncIterator[Directory]:
    provider = await directory(target)
    yield provider
    await provider.aclose()


@pytest_asyncio.fixture
async def recording(tmp_path: Path) -> AsyncIterator[OpenRecording]:
    """Two parts and a half of bytes that do not repeat."""
    (tmp_path / "a.mp4").write_bytes(os.urandom(2 * PART + PART // 2))
    async with await OpenRecording.open(bytes(tmp_path), b"a.mp4") as recording:
        yield recording
