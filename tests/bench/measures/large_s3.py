"""One large file to S3 over TLS, its whole checksum verified, the ledger written."""

from __future__ import annotations

from tests.bench import recordings
from tests.bench.bench import Bench
from tests.bench.comparison import compared
from tests.bench.daemon import Daemon
from tests.bench.figures import MIB, Goal, Result, ratio
from tests.bench.jobs import Client, Cloud
from tests.bench.peers.libraries import obstore
from tests.bench.peers.programs import AwsCli, Rclone, S5cmd


def measure(bench: Bench) -> Result:
    size = bench.pick(1024, 256) * MIB
    files = recordings.folder_of(bench.data, 1, size)
    tools = bench.tools
    clients: list[Client] = [Daemon(), obstore(tools), AwsCli(tools), S5cmd(tools), Rclone(tools)]
    found = compared(bench, clients, Cloud.S3, files)
    result = found.result(f"{size // MIB} MiB to S3 over TLS, full-object checksum verified")
    ours = found.ours
    for peer in found.peers("obstore"):
        result.goals += [
            Goal("CPU of the whole daemon, of obstore's", ratio(ours.cpu, peer.cpu), 1.5, "x"),
            Goal("the same beyond each one's start", ratio(ours.beyond_start, peer.beyond_start), 1.5, "x"),
            Goal("wall time, of obstore's (an aim)", ratio(ours.wall, peer.wall), 1.0, "x"),
        ]
    for name in ("rclone", "s5cmd"):
        result.goals += [
            Goal(f"CPU, of {name}'s", ratio(ours.cpu, p.cpu), 0.5, "x") for p in found.peers(name)
        ]
    for name in ("aws-cli", "s5cmd"):
        result.goals += [
            Goal(f"wall time, of {name}'s", ratio(ours.wall, p.wall), 1.0, "x") for p in found.peers(name)
        ]
    return result
