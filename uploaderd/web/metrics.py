"""How things stand, for Prometheus: `/metrics`.

Base units; sources and providers are labels, paths never are. What counts comes from the ledger's tallies
and so goes on over restarts; nothing is counted over a table.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import product
from typing import Final

from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from uploaderd import __version__
from uploaderd.ledger import tally
from uploaderd.ledger.tally import Spread, Tallies
from uploaderd.model import (
    FailureClass,
    FoundBy,
    ProviderState,
    RecordingState,
    SourceState,
    UploadState,
    Word,
)
from uploaderd.report.model import Status
from uploaderd.web.reading import Now

Labels = tuple[str, ...]

_INFINITY: Final = float("inf")

_OUTCOMES: Final = (
    ("verified", ""),
    ("retrying", FailureClass.TRANSIENT),
    ("failed", FailureClass.RECORDING),
)
"""Outcomes of attempts, and their classes, that are told from the start: a rate needs a first value."""


def exposition(now: Now, accept: str = "") -> tuple[bytes, str]:
    """All metrics as text, and its content type: the one that the header `Accept` asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(now))
    registry.register(PROCESS_COLLECTOR)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Told(Collector):
    """Tells of one moment."""

    def __init__(self, now: Now) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        now, status = self._now, self._now.status
        yield _gauge(
            "build_info", "The program's version; always 1.", ("version", "python"),
            [((__version__, platform.python_version()), 1)],
        )  # fmt: skip
        yield _gauge(
            "snapshot_timestamp_seconds", "When these figures were taken.", (), [((), now.at / 1000)]
        )
        yield _one_of("state", "The one word of `uploaderd status`.", (), [((), status["state"])], Word)
        yield _gauge(
            "ledger_trouble", "Whether the ledger cannot be read or written.", (),
            [((), status["ledger"]["problem"] is not None)],
        )  # fmt: skip
        if now.ledger_free is not None:
            yield _gauge("ledger_free_bytes", "Room on the ledger's disk.", (), [((), now.ledger_free)])
        yield from _providers(status)
        yield from _sources(status)
        yield from _webhooks(status)
        if now.tallies is not None:
            yield from _recordings(status, now.tallies)
            yield from _attempts(status, now.tallies)


def _providers(status: Status) -> Iterator[Metric]:
    lines = status["providers"]
    states = [((one["name"],), one["state"]) for one in lines]
    yield _one_of("provider_state", "The provider's state.", ("provider",), states, ProviderState)
    yield _gauge(
        "provider_last_verified_timestamp_seconds",
        "When an upload there was last verified.",
        ("provider",),
        [((one["name"],), _seconds(one["last_verified_at"])) for one in lines if one["last_verified_at"]],
    )
    yield _gauge(
        "provider_rate_bytes_per_second",
        "How fast bytes go there now; see uploaderd_sent_bytes_total for what went.",
        ("provider",),
        [((one["name"],), one["rate_bytes_per_second"] or 0.0) for one in lines],
    )
    yield _gauge(
        "uploads",
        "Uploads by how they stand: verified and failed ones too, as far as the history is kept.",
        ("provider", "state"),
        [
            ((one["name"], state), count)
            for one in lines
            for state, count in (
                (UploadState.VERIFIED, one["verified"]),
                ("waiting", one["waiting"]),
                (UploadState.FAILED, one["failed"]),
            )
        ],
    )


def _sources(status: Status) -> Iterator[Metric]:
    lines = status["sources"]
    states = [((one["name"],), one["state"]) for one in lines]
    yield _one_of("source_state", "The source's state.", ("source",), states, SourceState)
    yield _gauge(
        "source_last_sweep_timestamp_seconds",
        "When the source's folders were last compared with the ledger as a whole.",
        ("source",),
        [((one["name"],), _seconds(one["last_sweep_at"])) for one in lines if one["last_sweep_at"]],
    )
    yield _gauge(
        "source_last_recording_timestamp_seconds",
        "When the source's newest recording was found.",
        ("source",),
        [((one["name"],), _seconds(one["last_recording_at"])) for one in lines if one["last_recording_at"]],
    )
    yield _gauge(
        "source_silent",
        "Whether nothing came for longer than `expect_every` allows.",
        ("source",),
        [((one["name"],), one["silent_since"] is not None) for one in lines],
    )
    yield _gauge(
        "source_free_bytes",
        "Room on the file system that the recordings are on.",
        ("source",),
        [((one["name"],), one["free_bytes"]) for one in lines if one["free_bytes"] is not None],
    )


def _webhooks(status: Status) -> Iterator[Metric]:
    lines = status["webhooks"]
    if not lines:
        return
    yield _gauge(
        "webhook_failing", "Whether the receiver did not take the last message that it was sent.",
        ("webhook",), [((one["name"],), one["problem"] is not None) for one in lines],
    )  # fmt: skip
    yield _gauge(
        "webhook_waiting_messages", "Messages that wait to be delivered.",
        ("webhook",), [((one["name"],), one["waiting"]) for one in lines],
    )  # fmt: skip
    yield _counter(
        "webhook_delivered_messages", "Messages that the receiver took.",
        ("webhook",), [((one["name"],), one["delivered"]) for one in lines],
    )  # fmt: skip
    yield _counter(
        "webhook_given_up_messages", "Messages that were given up.",
        ("webhook",), [((one["name"],), one["given_up"]) for one in lines],
    )  # fmt: skip


def _recordings(status: Status, tallies: Tallies) -> Iterator[Metric]:
    names = [one["name"] for one in status["sources"]]
    count, size = _zeros(names, RecordingState), _zeros(names, RecordingState)
    alarming, local, local_size = _zeros(names), _zeros(names), _zeros(names)
    for one in tallies.recordings:
        state, source = (one.source, one.state), (one.source,)
        count[state] = count.get(state, 0) + one.count
        size[state] = size.get(state, 0) + one.bytes
        if one.present:
            local[source] = local.get(source, 0) + one.count
            local_size[source] = local_size.get(source, 0) + one.bytes
        if one.state in ("failed", "lost", "held") and not one.acknowledged:
            alarming[source] = alarming.get(source, 0) + one.count
    yield _gauge(
        "recordings", "Recordings by state; `waiting` is the queue.", ("source", "state"), count.items()
    )
    yield _gauge("recording_bytes", "Their bytes, by state.", ("source", "state"), size.items())
    yield _gauge(
        "alarming_recordings", "Failed, lost or held ones that nobody acknowledged.", ("source",),
        alarming.items(),
    )  # fmt: skip
    yield _gauge("local_recordings", "Recordings whose local file is there.", ("source",), local.items())
    yield _gauge("local_recording_bytes", "Their bytes.", ("source",), local_size.items())
    oldest = status["recordings"]["oldest_waiting_at"]
    yield _gauge(
        "oldest_waiting_timestamp_seconds",
        "When the recording finished that has been waiting for longest; absent while none waits.",
        (),
        [((), _seconds(oldest))] if oldest is not None else [],
    )
    found = _zeros(names, FoundBy) | {(one.source, one.found_by): one.count for one in tallies.found}
    yield _counter(
        "found", "Recordings found: by an event, a sweep, or an order to make sure.",
        ("source", "found_by"), found.items(),
    )  # fmt: skip
    safe: dict[Labels, Spread] = {(name,): Spread({}) for name in names}
    safe |= {(name,): spread for name, spread in tallies.safe.items()}
    yield _histogram(
        "safe_seconds",
        "From finished to safe, once a recording.",
        ("source",),
        tally.SAFE_SECONDS,
        safe.items(),
    )


def _attempts(status: Status, tallies: Tallies) -> Iterator[Metric]:
    sources = [one["name"] for one in status["sources"]]
    providers = [one["name"] for one in status["providers"]]
    ended: dict[Labels, int] = {
        (source, provider, outcome, failure): 0
        for source, provider, (outcome, failure) in product(sources, providers, _OUTCOMES)
    }
    sent = _zeros(sources, providers)
    for one in tallies.attempts:
        ended[one.source, one.provider, one.outcome, one.failure] = one.count
        pair = (one.source, one.provider)
        sent[pair] = sent.get(pair, 0) + one.bytes
    yield _counter(
        "attempts", "Attempts at uploads that ended, by outcome and, of those that failed, by class.",
        ("source", "provider", "outcome", "class"), ended.items(),
    )  # fmt: skip
    yield _counter(
        "sent_bytes", "Bytes put on the wire by attempts that ended, whatever came of them.",
        ("source", "provider"), sent.items(),
    )  # fmt: skip
    yield _histogram(
        "upload_seconds",
        "Duration of the attempts that ended verified, by the recording's size: at most that, or larger.",
        ("provider", "size"),
        tally.UPLOAD_SECONDS,
        tallies.uploads.items(),
    )


def _zeros(*labels: Iterable[str]) -> dict[Labels, int]:
    """Nought for each: what has not happened yet is told too, or nobody could see it happen."""
    return dict.fromkeys(product(*labels), 0)


def _gauge(name: str, text: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> Metric:
    family = GaugeMetricFamily(f"uploaderd_{name}", text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _counter(name: str, text: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> Metric:
    family = CounterMetricFamily(f"uploaderd_{name}", text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _one_of(
    name: str,
    text: str,
    labels: Labels,
    found: Iterable[tuple[Labels, str]],
    states: Iterable[str],
) -> Metric:
    """A state as Prometheus wants it: 1 for the one it is, 0 for each that it is not."""
    return _gauge(
        name,
        f"{text} 1 for the one it is.",
        (*labels, "state"),
        [((*of, state), float(state == is_)) for of, is_ in found for state in map(str, states)],
    )


def _histogram(
    name: str,
    text: str,
    labels: Labels,
    bounds: Iterable[float],
    found: Iterable[tuple[Labels, Spread]],
) -> Metric:
    family = HistogramMetricFamily(f"uploaderd_{name}", text, labels=labels)
    for of, spread in found:
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound in sorted({*map(float, bounds), *spread.counts, _INFINITY}):
            total += spread.counts.get(bound, 0)
            buckets.append(("+Inf" if bound == _INFINITY else str(bound), total))
        family.add_metric(of, buckets, spread.seconds)
    return family


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
