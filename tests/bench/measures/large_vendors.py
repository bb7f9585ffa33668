"""One large file to Azure and to Cloud Storage, beside the vendor's own Python client."""

from __future__ import annotations

from tests.bench import recordings
from tests.bench.bench import Bench
from tests.bench.comparison import compared
from tests.bench.daemon import Daemon
from tests.bench.figures import MIB, Goal, Result, ratio
from tests.bench.jobs import Client, Cloud
from tests.bench.peers.libraries import obstore, vendors


def azure(bench: Bench) -> Result:
    return _measure(bench, Cloud.AZURE, "azure-storage-blob")


def gcs(bench: Bench) -> Result:
    return _measure(bench, Cloud.GCS, "google-cloud-storage")


def _measure(bench: Bench, cloud: Cloud, vendor: str) -> Result:
    size = bench.pick(1024, 256) * MIB
    files = recordings.folder_of(bench.data, 1, size)
    clients: list[Client] = [Daemon(), obstore(bench.tools), *vendors(bench.tools, cloud)]
    found = compared(bench, clients, cloud, files)
    result = found.result(f"{size // MIB} MiB to {cloud} over TLS, verified")
    # Against whichever of its two ways is the better one.
    cpu = min(peer.cpu for peer in found.peers(vendor))
    wall = min(peer.wall for peer in found.peers(vendor))
    result.goals += [
        Goal(f"CPU of the whole daemon, of {vendor}'s", ratio(found.ours.cpu, cpu), 1.0, "x"),
        Goal("the same, as an aim", ratio(found.ours.cpu, cpu), 0.7, "x"),
        Goal(f"wall time, of {vendor}'s", ratio(found.ours.wall, wall), 1.0, "x"),
    ]
    return result
