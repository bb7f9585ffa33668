"""The same job done by several clients in turns, so that what the machine does meanwhile meets all alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import recordings
from tests.bench.bench import Bench, Sample
from tests.bench.figures import MIB, Result, median, number, ratio
from tests.bench.jobs import Client, Cloud
from tests.bench.meter import FailedError

OURS = "uploaderd"
_BUSY = 0.9


@dataclass(frozen=True, slots=True)
class Medians:
    """Of one client's runs. `start`: CPU seconds of the same client with one byte to send."""

    wall: float
    cpu: float
    start: float
    peak_rss: float
    server_cpu: float
    requests: float

    @property
    def beyond_start(self) -> float:
        return self.cpu - self.start


@dataclass(frozen=True, slots=True)
class Compared:
    """Medians by client, in the order in which they ran; those that failed are missing, and told in notes."""

    by_client: Mapping[str, Medians]
    raw: Sequence[dict[str, Any]]
    notes: Sequence[str]

    @property
    def ours(self) -> Medians:
        return self.by_client[OURS]

    def peers(self, *names: str) -> list[Medians]:
        """Those of the peers whose name begins so that are there."""
        return [found for name, found in self.by_client.items() if name.startswith(names)]

    def result(self, title: str) -> Result:
        columns = ("client", "wall s", "CPU s", "start's", "peak MiB", "server CPU", "requests", "x our CPU")
        rows: list[Sequence[str | float]] = []
        for name, one in self.by_client.items():
            of_ours = ratio(one.cpu, self.ours.cpu)
            figures = (one.wall, one.cpu, one.start, one.peak_rss / MIB, one.server_cpu)
            rows.append((name, *figures, f"{one.requests:.0f}", f"{number(of_ours)}x"))
        notes = [*self.notes, *(f"the server was {note}" for note in self._busy())]
        return Result(title, columns, rows, notes=notes, raw=list(self.raw))

    def _busy(self) -> Iterator[str]:
        """Where a wall time may be the server's rather than the client's."""
        for name, one in self.by_client.items():
            if (share := one.server_cpu / one.wall) > _BUSY:
                yield f"busy for {100 * share:.0f} % of {name}'s wall time, which may be its own"


def compared(bench: Bench, clients: Sequence[Client], cloud: Cloud, files: Path) -> Compared:
    """Every client sends the folder `bench.runs` times, in turns; before, one byte as often."""
    notes: list[str] = []
    able = list(clients)
    one_byte = recordings.folder_of(bench.data, 1, 1)
    raw: list[dict[str, Any]] = []
    taken: dict[str, dict[str, list[Sample]]] = {client.name: {"start": [], "job": []} for client in able}
    for kind, folder in (("start", one_byte), ("job", files)):
        for turn in range(bench.runs):
            for client in tuple(able):
                bench.say(f"{kind} {turn + 1} of {bench.runs}: {client.name} to {cloud}")
                # rclone has the kernel forget what it has read: whoever comes next would read the disk.
                recordings.warm(folder)
                try:
                    sample = bench.sample(client, cloud, folder)
                except FailedError as error:
                    if client.name == OURS:
                        raise
                    bench.say(f"{client.name} failed: {error}")
                    notes.append(f"{client.name} failed: {str(error).splitlines()[-1]}")
                    able.remove(client)
                    continue
                taken[client.name][kind].append(sample)
                raw.append({"kind": kind, **sample.kept()})
    by_client = {
        client.name: _medians(taken[client.name]["job"], taken[client.name]["start"]) for client in able
    }
    return Compared(by_client, raw, notes)


def _medians(job: Sequence[Sample], start: Sequence[Sample]) -> Medians:
    return Medians(
        wall=median(one.used.wall for one in job),
        cpu=median(one.used.cpu for one in job),
        start=median(one.used.cpu for one in start),
        peak_rss=median(one.used.peak_rss for one in job),
        server_cpu=median(one.served.cpu_seconds for one in job),
        requests=median(one.served.requests for one in job),
    )
