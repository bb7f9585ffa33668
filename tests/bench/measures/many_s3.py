"""Many small recordings to S3 over TLS, verified, every outcome durable in the ledger."""

from __future__ import annotations

from tests.bench import recordings
from tests.bench.bench import Bench
from tests.bench.comparison import compared
from tests.bench.daemon import Daemon
from tests.bench.figures import MIB, Goal, Result, ratio
from tests.bench.jobs import AT_ONCE, Client, Cloud
from tests.bench.peers.libraries import obstore
from tests.bench.peers.programs import AwsCli, Rclone, S5cmd

_KIB = 1024


def of_1_mib(bench: Bench) -> Result:
    return _measure(bench, bench.pick(2000, 200), MIB, ("s5cmd", "rclone", "aws-cli"), ())


def of_64_kib(bench: Bench) -> Result:
    return _measure(bench, bench.pick(3000, 300), 64 * _KIB, ("aws-cli",), ("s5cmd",))


def _measure(bench: Bench, count: int, size: int, beat: tuple[str, ...], aim: tuple[str, ...]) -> Result:
    files = recordings.folder_of(bench.data, count, size)
    tools = bench.tools
    clients: list[Client] = [Daemon(AT_ONCE), obstore(tools), AwsCli(tools), S5cmd(tools), Rclone(tools)]
    found = compared(bench, clients, Cloud.S3, files)
    result = found.result(f"{count} x {size // _KIB} KiB to S3 over TLS, {AT_ONCE} at once, verified")
    for name in (*beat, *aim):
        said = " (an aim)" if name in aim else ""
        result.goals += [
            Goal(f"wall time, of {name}'s{said}", ratio(found.ours.wall, peer.wall), 1.0, "x")
            for peer in found.peers(name)
        ]
    return result
