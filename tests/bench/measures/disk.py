"""How often the disk is read when three providers get the same recording and the page cache is cold."""

from __future__ import annotations

from tests.bench import recordings
from tests.bench.bench import Bench
from tests.bench.daemon import Place, configured, run_command
from tests.bench.endpoint import Link
from tests.bench.figures import MIB, Goal, Result, median
from tests.bench.jobs import Cloud

_RATE = 100e6
"""Bytes a second of each provider: similar ones, slower than the disk."""


def measure(bench: Bench) -> Result:
    size = bench.pick(1024, 128) * MIB
    files = recordings.folder_of(bench.data, 1, size)
    read: list[float] = []
    raw = []
    for turn in range(bench.runs):
        bench.say(f"disk: {turn + 1} of {bench.runs}")
        link = Link(rate=_RATE)
        with (
            bench.workspace() as workspace,
            bench.endpoint(link) as s3,
            bench.endpoint(link) as azure,
            bench.endpoint(link) as gcs,
        ):
            ends = {Cloud.S3: s3, Cloud.AZURE: azure, Cloud.GCS: gcs}
            places = [Place(cloud, end.url, end.authority) for cloud, end in ends.items()]
            command = run_command(
                workspace, configured(workspace, files, places), "--until-safe", "--expect", "1"
            )
            recordings.cool(files)
            used = bench.run(command)
        read.append(used.disk_read / size)
        raw.append({"disk_read": used.disk_read, "size": size})
    return Result(
        f"{size // MIB} MiB to three providers at {_RATE / 1e6:g} MB/s each, cold page cache",
        ("bytes read for each byte of recording",),
        [(median(read),)],
        [Goal("bytes read for each byte of recording", median(read), 1.05)],
        raw=raw,
    )
