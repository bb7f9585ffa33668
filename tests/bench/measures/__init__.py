"""The measures by name: one a row of what must be reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tests.bench.bench import Bench
from tests.bench.figures import Result
from tests.bench.measures import (
    disk,
    known_files,
    large_s3,
    large_vendors,
    latency,
    limit,
    link,
    many_s3,
    memory,
    million,
    neighbour,
    sixteen_million,
    status,
)

MEASURES: Final[Mapping[str, Callable[[Bench], Result]]] = {
    "large_s3": large_s3.measure,
    "large_azure": large_vendors.azure,
    "large_gcs": large_vendors.gcs,
    "memory": memory.measure,
    "many_1mib": many_s3.of_1_mib,
    "many_64kib": many_s3.of_64_kib,
    "latency": latency.measure,
    "disk": disk.measure,
    "neighbour": neighbour.measure,
    "link": link.measure,
    "limit": limit.measure,
    "million": million.measure,
    "sweep": known_files.sweep,
    "idle": known_files.idle,
    "status": status.measure,
    "sixteen_million": sixteen_million.measure,
}

ASKED_FOR: Final = frozenset({"sixteen_million"})
"""Only by name: half an hour to make what is measured, as long to measure it, and 60 GB of disk."""
