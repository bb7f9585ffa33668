"""A disk that hangs, as a dead NFS mount does: the thread in the kernel never comes back. strace plays it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.end_to_end.box import Box, until
from tests.end_to_end.places import content_of
from tests.needs import tool


@pytest.mark.parametrize("where", ["target", "source"])
async def test_it_stops_all_the_same_and_the_next_start_goes_on(box: Box, where: str) -> None:
    tool("strace")
    folder = box.source(
        quiet_for="10ms", key="{path}", cleanup={"policy": "delete-when-safe", "keep_for": "0s"}
    )
    target = box.folder / "nas"
    target.mkdir()
    box.providers["nas"] = {"type": "directory", "path": str(target), "same_device_counts": True}
    box.daemon["shutdown_grace"] = "1s"
    content = content_of(3_000_000, where)
    (folder / "a.mp4").write_bytes(content)
    # -D: the daemon stays our child, and gets our signals. Of its calls on these paths the first hangs.
    call, hangs = {"target": ("fsync", target), "source": ("unlinkat", folder)}[where]
    log = box.folder / "strace.log"
    tracing = ["strace", "-D", "-f", "-qq", "-o", str(log), "-P", str(hangs)]
    tracing += ["-e", f"trace={call}", "-e", f"inject={call}:delay_enter=600s"]
    with box.run(before=tracing) as daemon:
        await box.until(lambda: log.exists() and call in log.read_text())
        status = Path(f"/proc/{daemon.pid}/status")
        (tracer,) = re.findall(r"^TracerPid:\s+(\d+)$", status.read_text(), re.MULTILINE)
        daemon.signal(signal.SIGTERM)
        # The tracer, which plays the mount, would have to be told of its end first.
        await until(lambda: "State:\tZ" in status.read_text(), within=20)
        os.kill(int(tracer), signal.SIGKILL)
        await daemon.ended()
    with box.run("--until-safe") as daemon:
        assert await daemon.ended() == 0
    assert (target / "a.mp4").read_bytes() == content
