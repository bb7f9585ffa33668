"""The few words that do something."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from uploaderd.model import (
    TOKEN_METADATA,
    Checksum,
    FileIdentity,
    ObjectInfo,
    ObjectSpec,
    Part,
    Session,
    Token,
    UploadState,
    Word,
)

TOKEN = Token("0" * 32)


@pytest.mark.parametrize("field", ["size", "mtime_ns", "inode"])
def test_a_touched_file_is_another(field: str) -> None:
    one = FileIdentity(size=1, mtime_ns=2, inode=3, device=4)

    touched: dict[str, Any] = {field: 9}

    assert not one.same_stat(replace(one, **touched))


def test_device_and_fingerprint_do_not_make_another_file() -> None:
    one = FileIdentity(size=1, mtime_ns=2, inode=3, device=4)

    assert one.same_stat(FileIdentity(size=1, mtime_ns=2, inode=3, device=9, fingerprint=b"known now"))


def test_a_session_never_shows_its_handle() -> None:
    """A GCS session URI is a bearer secret."""
    session = Session(
        ObjectSpec("a", 1, TOKEN, "video/mp4"), 8, handle="https://upload?upload_id=not-a-real-one"
    )

    assert "upload_id" not in repr(session)
    assert "upload_id" not in f"{session}"


@pytest.mark.parametrize(
    ("etag", "generation", "revision"),
    [("e", None, "e"), ("e", "17", "17"), (None, None, None), ("e", "", "")],
)
def test_the_generation_goes_before_the_etag(
    etag: str | None, generation: str | None, revision: str | None
) -> None:
    assert ObjectInfo("a", 1, etag=etag, generation=generation).revision == revision


def test_a_part_is_as_long_as_what_was_sent() -> None:
    assert Part(1, 0, Checksum(7, 0, 0), "etag", None).size == 7


def test_the_tokens_name_is_one_that_azure_takes() -> None:
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", TOKEN_METADATA)
    assert TOKEN_METADATA.islower(), "S3 lowers names"


def test_words_are_what_people_read() -> None:
    assert f"{UploadState.VERIFIED} {Word.SAFE}" == "verified SAFE"
