"""What Prometheus reads: right to the row, without a path in it, and the same after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.evening import MINUTE, NOW, Evening
from tests.web.conftest import Face, Faces
from uploaderd.config import ConfigError, load
from uploaderd.errors import Fault
from uploaderd.ledger import Ledger, Transaction, audit, connect_readonly, samples
from uploaderd.model import RecordingState
from uploaderd.web.textfile import EVERY_SECONDS

Samples = dict[str, float]


def parsed(text: str) -> Samples:
    """Each sample by its name and labels, those in order: `name{a=1,b=2}`."""
    return {
        sample.name
        + "{"
        + ",".join(f"{key}={sample.labels[key]}" for key in sorted(sample.labels))
        + "}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def metrics(face: Face) -> Samples:
    answer = await face.get("/metrics")
    assert answer.status == 200
    return parsed(await answer.text())


async def test_what_happened_is_told_by_source_and_provider(lived: Evening, faces: Faces) -> None:
    face = await faces.make(lived)
    text = await (await face.get("/metrics")).text()
    assert "17-20" not in text and "cam1" not in text  # no paths
    found = parsed(text)
    expected = {
        **{f"uploaderd_state{{state={word}}}": word == "FAILING" for word in ("SAFE", "BEHIND", "FAILING")},
        **{
            f"uploaderd_recordings{{source=cameras,state={state}}}": count
            for state, count in dict.fromkeys(RecordingState, 1).items()
            if state != "superseded"
        },
        "uploaderd_recordings{source=gate,state=waiting}": 0,
        "uploaderd_recording_bytes{source=cameras,state=waiting}": 104_857_600,
        "uploaderd_alarming_recordings{source=cameras}": 3,
        "uploaderd_alarming_recordings{source=gate}": 0,
        "uploaderd_local_recordings{source=cameras}": 5,
        "uploaderd_local_recording_bytes{source=cameras}": 2 * 104_857_600 + 1000 + 3000,
        "uploaderd_oldest_waiting_timestamp_seconds{}": (NOW - 20 * MINUTE) / 1000,
        "uploaderd_provider_state{provider=nas,state=paused}": 1,
        "uploaderd_provider_state{provider=nas,state=ok}": 0,
        "uploaderd_provider_last_verified_timestamp_seconds{provider=nas}": (NOW - 40 * MINUTE) / 1000 + 2,
        "uploaderd_uploads{provider=s3_main,state=verified}": 1,
        "uploaderd_source_state{source=gate,state=missing}": 1,
        "uploaderd_source_last_sweep_timestamp_seconds{source=cameras}": (NOW - 5 * MINUTE) / 1000,
        "uploaderd_found_total{found_by=event,source=cameras}": 6,
        "uploaderd_found_total{found_by=sweep,source=cameras}": 0,
        "uploaderd_attempts_total{class=,outcome=verified,provider=nas,source=cameras}": 1,
        "uploaderd_attempts_total{class=transient,outcome=retrying,provider=s3_main,source=cameras}": 1,
        "uploaderd_attempts_total{class=provider,outcome=retrying,provider=nas,source=cameras}": 1,
        "uploaderd_attempts_total{class=recording,outcome=failed,provider=s3_main,source=cameras}": 2,
        "uploaderd_sent_bytes_total{provider=s3_main,source=cameras}": 104_857_600 + 33_554_432,
        "uploaderd_sent_bytes_total{provider=s3_main,source=gate}": 0,
        "uploaderd_safe_seconds_bucket{le=1.0,source=cameras}": 0,
        "uploaderd_safe_seconds_bucket{le=2.0,source=cameras}": 1,
        "uploaderd_safe_seconds_bucket{le=300.0,source=cameras}": 1,
        "uploaderd_safe_seconds_count{source=cameras}": 1,
        "uploaderd_safe_seconds_sum{source=cameras}": 2,
        "uploaderd_safe_seconds_count{source=gate}": 0,
        "uploaderd_upload_seconds_bucket{le=0.5,provider=nas,size=256MiB}": 0,
        "uploaderd_upload_seconds_bucket{le=1.0,provider=nas,size=256MiB}": 1,
        "uploaderd_ledger_trouble{}": 0,
        "uploaderd_snapshot_timestamp_seconds{}": NOW / 1000,
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected
    assert found["uploaderd_source_free_bytes{source=cameras}"] > 0
    assert any(name.startswith("uploaderd_build_info{") for name in found)
    assert found["process_resident_memory_bytes{}"] > 0

    openmetrics = await face.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.content_type == "application/openmetrics-text"
    assert (await openmetrics.text()).endswith("# EOF\n")


async def test_what_counts_goes_on_after_a_restart(lived: Evening, faces: Faces) -> None:
    def counted(found: Samples) -> Samples:
        return {
            name: value
            for name, value in found.items()
            if name.startswith("uploaderd_") and any(end in name for end in ("_total{", "_bucket{", "_sum{"))
        }

    before = counted(await metrics(await faces.make(lived)))
    await lived.ledger.close()
    lived.ledger = Ledger(lived.config.ledger.path, lived.now, "test")
    await lived.ledger.open()
    await lived.found(b"new.mp4", 5)
    after = counted(await metrics(await faces.make(lived)))
    found = "uploaderd_found_total{found_by=event,source=cameras}"
    assert after == before | {found: before[found] + 1}


async def test_a_copy_that_was_lost_and_sent_again_says_nothing_of_how_fast_things_go(
    empty: Evening, faces: Faces
) -> None:
    await empty.found(b"a.mp4", 10)
    await empty.verified("s3_main")
    await empty.verified("nas")
    face = await faces.make(empty)
    before = await metrics(face)
    empty.at += 60 * 24 * 60 * MINUTE

    def lose(tx: Transaction) -> None:
        (kept,) = audit.kept(tx.conn, audit.Position(False, 0, 1), None, 1)
        audit.differs(tx, kept.copies[0], Fault("gone", code="gone"), {}, again=True)

    await empty.ledger.run(lose)
    face.clock.advance(2)
    assert (await metrics(face))["uploaderd_recordings{source=cameras,state=safe}"] == 0
    await empty.verified("s3_main")
    face.clock.advance(2)
    after = await metrics(face)
    assert after["uploaderd_recordings{source=cameras,state=safe}"] == 1
    assert after["uploaderd_attempts_total{class=,outcome=verified,provider=s3_main,source=cameras}"] == 2
    histogram = {name for name in before if name.startswith("uploaderd_safe_seconds")}
    assert {name: after[name] for name in histogram} == {name: before[name] for name in histogram}


async def test_an_unreadable_ledger_is_told_of(lived: Evening, faces: Faces) -> None:
    face = await faces.make(lived)
    for file in lived.folder.glob("ledger.db*"):
        file.rename(file.with_name(f"away-{file.name}"))
    found = await metrics(face)
    assert found["uploaderd_ledger_trouble{}"] == 1
    assert found["uploaderd_state{state=FAILING}"] == 1


async def test_the_file_for_node_exporter(lived: Evening, faces: Faces) -> None:
    file = lived.folder / "textfile" / "uploaderd.prom"
    face = await faces.make(lived, metrics_file=file)
    await _slept(face)
    file.parent.mkdir()  # it was not there: which is tried again
    face.clock.advance(EVERY_SECONDS)
    await _slept(face)
    assert file.stat().st_mode & 0o777 == 0o644
    first, before = parsed(file.read_text()), file.stat().st_ino
    assert first["uploaderd_alarming_recordings{source=cameras}"] == 3
    await lived.found(b"late.mp4", 5)
    face.clock.advance(EVERY_SECONDS)
    await _slept(face)
    second = parsed(file.read_text())
    assert second["uploaderd_recordings{source=cameras,state=waiting}"] == 2
    assert (
        second["uploaderd_snapshot_timestamp_seconds{}"]
        == first["uploaderd_snapshot_timestamp_seconds{}"] + 15
    )
    assert file.stat().st_ino != before, "written in place: a reader may see half of it"
    assert [one.name for one in file.parent.iterdir()] == [file.name]


async def _slept(face: Face) -> None:
    """Until the writer has slept in anew: it has written, or given up for now."""
    async with asyncio.timeout(20):
        while not face.clock.sleeping:
            await face.get("/healthz", local=True)


async def test_samples_are_written_only_while_something_changes(empty: Evening) -> None:
    async def take(minutes: int, **sent: int) -> None:
        empty.at = NOW + minutes * MINUTE
        await empty.ledger.run(samples.take, {empty.providers[name]: count for name, count in sent.items()})

    def lately(minutes: int) -> samples.Lately:
        conn = connect_readonly(empty.config.ledger.path)
        try:
            return samples.read(conn, NOW + minutes * MINUTE)
        finally:
            conn.close()

    await take(0, nas=0, s3_main=0)
    assert lately(0) == samples.Lately([], {})
    await empty.found(b"a.mp4", 10)
    await take(1, nas=4, s3_main=0)
    await take(2, nas=6)
    await take(3)
    await take(4)
    await empty.verified("nas", after=0)
    await empty.verified("s3_main", after=0)
    await take(5, s3_main=10)
    first = samples.Backlog(NOW + MINUTE, 1, 10)
    second = samples.Backlog(NOW + 2 * MINUTE, 1, 10)
    last = samples.Backlog(NOW + 5 * MINUTE, 0, 0)
    nas = [samples.Sent(NOW + MINUTE, 4), samples.Sent(NOW + 2 * MINUTE, 6)]
    s3 = [samples.Sent(NOW + 5 * MINUTE, 10)]
    assert lately(6) == samples.Lately([first, second, last], {"nas": nas, "s3_main": s3})
    # Six hours later only what the backlog was then is to be seen; a day later all is forgotten.
    assert lately(6 * 60 + 6) == samples.Lately([last], {})
    await empty.found(b"b.mp4", 10)
    await take(25 * 60)
    assert lately(3) == samples.Lately([], {})


def test_a_metrics_file_that_would_not_be_read_or_would_be_taken_for_a_recording_is_refused(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.toml"
    for path, why in (("m.txt", "does not end in"), ("rec/m.prom", "lies inside the source x")):
        file.write_text(
            f'[web]\nmetrics_file = "{path}"\n[sources.x]\npath = "rec"\n'
            '[providers.nas]\ntype = "directory"\npath = "nas"\n'
        )
        with pytest.raises(ConfigError, match=why):
            load(file, env={})
