"""Memory stays flat while a large file goes to three providers at once.

    TESTS_MEMORY_MIB=4096 python -m pytest -s tests/end_to_end/test_memory.py

takes a file of 4 GiB, and 12 GiB of temporary disk for the endpoint that keeps what it gets.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.end_to_end.box import Box
from tests.strict import StrictProcess

MIB: Final = 1024 * 1024
SIZE: Final = int(os.environ.get("TESTS_MEMORY_MIB", "256")) * MIB

FLAT: Final = 100 * MIB
"""Above idle, at most, for whatever size: three providers x four parts x a socket's and the reader's
windows, and what the allocator keeps. A whole part in memory anywhere would be at least 12 x 8 MiB more."""


async def test_a_large_file_to_three_providers(
    box: Box, record_property: Callable[[str, object], None]
) -> None:
    folder = box.source()
    with StrictProcess() as endpoint:
        state = endpoint.state()
        box.providers = _three_clouds(endpoint, state, box.folder)
        with box.run() as daemon:
            # Idle with everything loaded, and a connection of each used: a small file has gone through.
            (folder / "small.ts").write_bytes(b"small")
            await box.until_safe(1)
            idle = _kib(daemon.pid, "VmRSS")
            Path(f"/proc/{daemon.pid}/clear_refs").write_text("5")  # proc(5): the peak begins anew
            _write_sparse(folder / "large.ts", SIZE)
            began = time.monotonic()
            rows = await box.until_safe(2, within=60 + SIZE / (10 * MIB))
            seconds = time.monotonic() - began
            peak = _kib(daemon.pid, "VmHWM")
        row = rows["large.ts"]
        assert {upload.bytes_sent for upload in row.uploads.values()} == {SIZE}
        after = endpoint.state()
        assert after["crashes"] == []
        stored = [
            after[cloud][kind][name]["objects"][row.uploads[cloud].key]["size"]
            for cloud, kind, name in (
                ("s3", "buckets", "recordings"),
                ("azure", "containers", "recordings"),
                ("gcs", "buckets", "recordings"),
            )
        ]
        assert stored == [SIZE] * 3

    above = (peak - idle) / 1024
    figures = {
        "file (MiB)": SIZE // MIB,
        "idle RSS (MiB)": round(idle / 1024, 1),
        "peak RSS (MiB)": round(peak / 1024, 1),
        "above idle (MiB)": round(above, 1),
        "seconds until safe at three": round(seconds, 1),
    }
    for name, value in figures.items():
        record_property(name, value)
    print(figures)  # noqa: T201 - figures are for people to note
    assert peak > idle, "the peak was not measured"
    assert above * MIB < FLAT


def _three_clouds(endpoint: StrictProcess, state: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    for cloud in ("s3", "azure", "gcs"):
        endpoint.create_bucket(cloud, "recordings")
    key_file = folder / "gcs.json"
    key_file.write_text(json.dumps(state["gcs"]["credentials"]))
    return {
        "s3": {
            "type": "s3",
            "bucket": "recordings",
            "region": state["s3"]["region"],
            "endpoint_url": endpoint.url,
            "access_key_id": state["s3"]["access_key"],
            "secret_access_key": state["s3"]["secret_key"],
        },
        "azure": {
            "type": "azure",
            "container": "recordings",
            "connection_string": state["azure"]["connection_string"],
        },
        "gcs": {
            "type": "gcs",
            "bucket": "recordings",
            "endpoint_url": state["gcs"]["url"],
            "credentials_file": str(key_file),
        },
    }


def _write_sparse(path: Path, size: int) -> None:
    """A file of that size with something of its own in each MiB's beginning; mostly holes."""
    with path.open("wb") as file:
        for offset in range(0, size, 16 * MIB):
            os.pwrite(file.fileno(), secrets.token_bytes(16), offset)
        file.truncate(size)


def _kib(pid: int, field: str) -> int:
    """A field of /proc/PID/status, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise AssertionError(f"/proc/{pid}/status has no {field}")
