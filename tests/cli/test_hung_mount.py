"""A mount whose server is gone answers nothing, not even that it is gone. Nobody waits for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.box import Box
from tests.end_to_end.conftest import box
from tests.watch.test_network import mounted

__all__ = ["box"]


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Path]:
    """A folder whose file system has stopped to answer."""
    folder, mountpoint = tmp_path / "far", tmp_path / "hung"
    folder.mkdir()
    mountpoint.mkdir()
    with mounted(folder, mountpoint) as server:
        server.send_signal(signal.SIGSTOP)
        yield mountpoint


async def test_a_source_that_hangs_keeps_nothing_from_the_others(box: Box, hung: Path) -> None:
    folder, nas = box.source(), box.folder / "nas"
    nas.mkdir()
    (folder / "1.ts").write_bytes(b"recorded")
    box.sources["far"] = {"path": str(hung)}
    box.providers["nas"] = {"type": "directory", "path": str(nas)}
    box.daemon["shutdown_grace"] = "1s"
    with box.run():
        await box.until_safe(1)
    assert (await box.uploaderd("ensure", "1.ts")).out == "safe: 1 recording\n"
    absolute = await box.uploaderd("why", str(hung / "2.ts"))
    assert absolute.code == 0 and "does not answer: its mount hangs" in absolute.out
    late = await box.uploaderd("ensure", str(hung))
    assert (late.code, late.out) == (75, "") and "does not answer: its mount hangs" in late.err


async def test_a_provider_that_hangs_keeps_no_command_from_ending(box: Box, hung: Path) -> None:
    box.source()
    near = box.folder / "near"
    near.mkdir()
    (near / "1.ts").write_bytes(b"recorded")
    for name, path in (("far", hung), ("near", near)):
        box.providers[name] = {"type": "directory", "path": str(path)}
    box.write()
    said = await box.uploaderd("url", "--key", "1.ts")
    assert (said.code, said.out) == (0, f"{(near / '1.ts').as_uri()}\n")
