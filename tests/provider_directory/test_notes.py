"""Token and metadata, with and without extended attributes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.contract import acts
from tests.provider_directory.nas import KEY, content
from uploaderd.errors import KeyTaken
from uploaderd.provider import Deletes
from uploaderd.providers import directory_notes
from uploaderd.providers.directory import Directory
from uploaderd.reader import OpenRecording


def _without_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many network file systems have it."""

    def refused(*args: object, **options: object) -> bytes:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refused)
    monkeypatch.setattr(os, "getxattr", refused)


async def test_without_attributes_the_token_is_in_a_note(
    nas: Directory, target: Path, recording: OpenRecording, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_attributes(monkeypatch)
    spec = acts.spec_of(KEY, recording.size, metadata={"site": "Süd"})
    await acts.put(nas, spec, recording)

    found = await nas.stat(KEY)
    assert found is not None
    assert found.token == spec.token
    [note] = (path for path in (target / ".uploaderd" / "notes").rglob("*") if path.is_file())
    assert "S\\u00fcd" in note.read_text()

    (target / KEY).write_bytes(content(recording))
    os.utime(target / KEY, ns=(1, 1))
    found = await nas.stat(KEY)
    assert found is not None
    assert found.token is None, "a stranger's file inherited our token"


async def test_a_refused_write_leaves_no_note(
    nas: Directory, target: Path, recording: OpenRecording, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_attributes(monkeypatch)
    (target / "cam1").mkdir()
    (target / KEY).write_bytes(b"theirs")

    with pytest.raises(KeyTaken):
        await acts.put(nas, acts.spec_of(KEY, recording.size), recording)

    assert [path for path in (target / ".uploaderd" / "notes").rglob("*") if path.is_file()] == []


async def test_metadata_too_large_for_attributes_goes_into_the_note(
    nas: Directory, target: Path, recording: OpenRecording
) -> None:
    spec = acts.spec_of(
        KEY, recording.size, metadata={"transcript": "x" * 70_000}
    )  # XATTR_SIZE_MAX is 65,536

    await acts.put(nas, spec, recording)

    found = await nas.stat(KEY)
    assert found is not None
    assert found.token == spec.token
    [note] = (path for path in (target / ".uploaderd" / "notes").rglob("*") if path.is_file())
    assert "x" * 70_000 in note.read_text()


async def test_a_torn_note_is_no_token(
    nas: Directory, target: Path, recording: OpenRecording, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_attributes(monkeypatch)
    await acts.put(nas, acts.spec_of(KEY, recording.size), recording)
    [note] = (path for path in (target / ".uploaderd" / "notes").rglob("*") if path.is_file())
    note.write_text(note.read_text()[:20])

    found = await nas.stat(KEY)

    assert found is not None
    assert found.token is None


async def test_delete_removes_object_and_note(
    nas: Directory, target: Path, recording: OpenRecording, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(nas, Deletes)
    _without_attributes(monkeypatch)
    await acts.put(nas, acts.spec_of(KEY, recording.size), recording)

    await nas.delete(KEY)
    await nas.delete(KEY)
    await nas.delete("no/such/folder")

    assert await nas.stat(KEY) is None
    assert [path for path in (target / ".uploaderd" / "notes").rglob("*") if path.is_file()] == []


def test_a_foreign_token_is_not_believed(target: Path) -> None:
    (target / "a").write_bytes(b"a")
    os.setxattr(target / "a", directory_notes.TOKEN_ATTRIBUTE, b"<script>")
    root, fd = os.open(target, os.O_RDONLY), os.open(target / "a", os.O_RDONLY)

    assert directory_notes.token_of(root, fd, "a") is None

    os.close(root)
    os.close(fd)
