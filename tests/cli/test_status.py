"""The status model: the one word, what programs parse, what people read, and what it costs."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.cli import golden
from tests.cli.evening import LIVE, NOW, Evening
from tests.cli.many import fill
from tests.cli.shapes import conforms
from tests.ledger.steps import counted
from uploaderd.config import Config, load
from uploaderd.errors import LedgerError
from uploaderd.ledger import connect_readonly, health
from uploaderd.ledger.lock import Holder
from uploaderd.model import Milliseconds
from uploaderd.report import model
from uploaderd.report.disks import Disk
from uploaderd.report.status import status
from uploaderd.report.text import status_lines
from uploaderd.report.word import judge

HOLDER = Holder(412, "0.1.0", NOW - 3_725_000)
DISKS = {"cameras": Disk(there=True, free=8_000_000_000), "gate": Disk(there=False), "": Disk(True, 10**10)}

# The contract's own words (DESIGN, "Command line"): every key must be there, under this name, of this kind.
PROMISED = json.loads("""
{"schema_version": 1, "state": "BEHIND", "daemon": {"running": true, "pid": 412, "version": "0.1.0"},
 "recordings": {"total": 420, "safe": 412, "waiting": 8, "failed": 0, "lost": 0, "held": 0,
                "waiting_bytes": 6549825536, "oldest_waiting_at": "2026-11-20T17:46:00Z"},
 "providers": [{"name": "s3_main", "type": "s3", "state": "ok", "verified": 420, "waiting": 0, "failed": 0,
                "rate_bytes_per_second": 18874368.0, "last_verified_at": "2026-11-20T18:00:03Z",
                "problem": null}],
 "uploading": [{"path": "cam1/18-00.mp4", "source": "cameras", "provider": "s3_main", "bytes_sent": 1,
                "size": 2, "resumed_from": 0}],
 "sources": [{"name": "cameras", "path": "/srv/recordings", "state": "ok",
              "last_sweep_at": "2026-11-20T17:58:00Z", "free_bytes": 1}]}
""")


def kept(promise: Any, found: Any, where: str = "") -> None:
    """Every key of the promise is found, with a value of the same kind (or null where that is promised)."""
    if isinstance(promise, dict):
        for key, value in promise.items():
            assert key in found, f"{where}.{key} is missing"
            kept(value, found[key], f"{where}.{key}")
    elif isinstance(promise, list):
        assert found, f"{where} is empty: nothing to compare"
        kept(promise[0], found[0], where)
    elif promise is not None:
        assert type(found) is type(promise), f"{where}: {found!r}"


def text(found: model.Status) -> str:
    return "".join(f"{line.text}\n" for line in status_lines(found))


async def test_json(
    lived: Evening, conn: sqlite3.Connection, disks: Callable[[dict[str, Disk]], None]
) -> None:
    disks(DISKS)
    found = status(conn, lived.config, HOLDER, LIVE, NOW)
    conforms(found, model.Status)
    kept(PROMISED, json.loads(json.dumps(found)))
    golden.same("status.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n", lived.folder)


async def test_the_daemon_knows_of_later_sweeps_than_the_ledger(
    lived: Evening, conn: sqlite3.Connection
) -> None:
    live = {**LIVE, "sources": {"cameras": {"last_sweep": {"at": NOW - 1_000}}}}
    found = [
        status(conn, lived.config, HOLDER, one, NOW)["sources"][0]["last_sweep_at"] for one in (LIVE, live)
    ]
    assert found == ["2026-11-20T17:55:00Z", "2026-11-20T17:59:59Z"]


async def test_text(
    lived: Evening, conn: sqlite3.Connection, disks: Callable[[dict[str, Disk]], None]
) -> None:
    disks(DISKS)
    golden.same("status.txt", text(status(conn, lived.config, HOLDER, LIVE, NOW)), lived.folder)


async def test_without_a_daemon_live_values_are_null_and_nothing_is_uploading(
    lived: Evening, conn: sqlite3.Connection, disks: Callable[[dict[str, Disk]], None]
) -> None:
    disks(DISKS)
    lived.at = NOW + 13_000
    await lived.begun("s3_main")  # killed in the middle of it
    found = status(conn, lived.config, None, None, NOW)
    conforms(found, model.Status)
    assert found["state"] == "STOPPED"
    assert found["daemon"] == {"running": False, "pid": None, "version": None, "started_at": None}
    assert [one["rate_bytes_per_second"] for one in found["providers"]] == [None, None]
    assert found["uploading"] == []
    golden.same("stopped.txt", text(found), lived.folder)


async def test_a_daemon_without_a_socket_shows_what_the_ledger_knows(
    lived: Evening, conn: sqlite3.Connection
) -> None:
    lived.at = NOW + 13_000
    claim = await lived.begun("s3_main")
    found = status(conn, lived.config, HOLDER, None, NOW)
    conforms(found, model.Status)
    assert [(one["path"], one["bytes_sent"], one["eta_seconds"]) for one in found["uploading"]] == [
        (claim.path.decode(), None, None)
    ]
    assert "? of 100.0 MiB" in text(found)


async def test_folders_that_cannot_be_looked_into_trouble_their_source(
    lived: Evening, conn: sqlite3.Connection
) -> None:
    """Though nobody can ask the daemon, which may be stuck."""
    await lived.ledger.run(health.unseen, lived.sources["cameras"], "locked/: Permission denied")
    found = text(status(conn, lived.config, HOLDER, None, NOW))
    below = found.partition("Sources")[2].partition("  gate ")[0]
    assert "cause   folders that cannot be looked into (locked/: Permission denied)" in below
    assert "remedy  let the daemon's user read them" in below


def test_before_the_first_run(tmp_path: Path) -> None:
    """There is a configuration, and nothing else."""
    (tmp_path / "in").mkdir()
    config = _config(tmp_path, '[sources.a]\npath = "in"\n[sources.b]\npath = "gone"\n')
    found = status(None, config, None, None, NOW)
    conforms(found, model.Status)
    assert found["state"] == "STOPPED"
    assert [(one["name"], one["state"]) for one in found["sources"]] == [("a", "ok"), ("b", "missing")]
    assert [(one["name"], one["state"]) for one in found["providers"]] == [
        ("near", "ok"),
        ("off", "disabled"),
    ]
    assert (found["sources"][0]["free_bytes"] or 0) > 0
    assert found["sources"][1]["free_bytes"] is None


async def test_an_idle_daemon_is_safe(evening: Evening, conn: sqlite3.Connection) -> None:
    (evening.folder / "gate").mkdir()
    await evening.found(b"a.mp4", 5)
    assert status(conn, evening.config, HOLDER, None, evening.at)["state"] == "SAFE"
    await evening.verified("s3_main")
    await evening.verified("nas")
    found = status(conn, evening.config, HOLDER, LIVE, evening.at)
    assert (found["state"], found["reasons"]) == ("SAFE", [])
    assert text(found).startswith("SAFE  nothing waits so far; the first sweep has not ended yet\n")
    for id_ in evening.sources.values():
        await evening.ledger.run(health.swept, id_, Milliseconds(evening.at))
    found = status(conn, evening.config, HOLDER, LIVE, evening.at)
    assert text(found).startswith("SAFE  everything that was found is at every provider that it requires\n")


async def test_a_broken_ledger_is_failing(evening: Evening) -> None:
    broken = LedgerError("the ledger is damaged (SQLITE_CORRUPT)", "see `uploaderd ledger check`")
    found = status(None, evening.config, HOLDER, None, NOW, fault=broken)
    conforms(found, model.Status)
    assert found["state"] == "FAILING"
    assert "cause   the ledger is damaged" in text(found)
    assert "remedy  see `uploaderd ledger check`" in text(found)


async def test_a_ledger_that_the_daemon_cannot_write_is_failing(
    evening: Evening, conn: sqlite3.Connection
) -> None:
    problem = {"class": "transient", "message": "the disk that holds the ledger is full", "hint": "free some",
               "since": "2026-11-20T17:59:00Z"}  # fmt: skip
    found = status(conn, evening.config, HOLDER, {**LIVE, "ledger": problem}, NOW)
    assert (found["state"], found["ledger"]["problem"]) == ("FAILING", problem)


async def test_a_full_disk_under_the_ledger_is_failing(
    evening: Evening, conn: sqlite3.Connection, disks: Callable[[dict[str, Disk]], None]
) -> None:
    disks({**DISKS, "": Disk(True, 4096)})
    found = status(conn, evening.config, HOLDER, None, NOW)
    assert found["state"] == "FAILING"
    assert "its disk has 4096 bytes free" in found["reasons"][0]


# --- the one word ----------------------------------------------------------------------------------


async def _calm(evening: Evening, conn: sqlite3.Connection) -> model.Status:
    found = status(conn, evening.config, HOLDER, LIVE, NOW)
    assert found["state"] == "SAFE"
    return found


SILENT = {"class": "transient", "message": "no new recording", "hint": "", "since": "2026-11-20T16:00:00Z"}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, "SAFE"),
        ({"recordings": {"waiting": 1, "oldest_waiting_at": "2026-11-20T17:45:00Z"}}, "SAFE"),
        ({"recordings": {"waiting": 1, "oldest_waiting_at": "2026-11-20T17:44:59Z"}}, "BEHIND"),
        ({"recordings": {"failed": 1, "alarming": 1}}, "FAILING"),
        ({"recordings": {"failed": 1, "alarming": 0}}, "SAFE"),  # acknowledged
        ({"recordings": {"lost": 1, "alarming": 1}}, "FAILING"),
        ({"recordings": {"held": 1, "alarming": 1}}, "FAILING"),
        ({"providers": [{"state": "paused"}]}, "FAILING"),
        ({"providers": [{"state": "retrying"}]}, "SAFE"),
        ({"providers": [{"in_trouble": 1}]}, "FAILING"),
        ({"providers": [{"state": "disabled"}]}, "SAFE"),
        ({"providers": [{"state": "disabled"}, {"state": "retired"}]}, "FAILING"),
        ({"sources": [{"state": "missing"}]}, "FAILING"),
        ({"sources": [{"state": "paused"}]}, "SAFE"),
        ({"sources": [{"silent_since": "2026-11-20T16:00:00Z", "problem": SILENT}]}, "FAILING"),
        ({"sources": []}, "FAILING"),
        (
            {
                "providers": [{"state": "paused"}],
                "recordings": {"waiting": 1, "oldest_waiting_at": "2026-11-20T16:00:00Z"},
            },
            "FAILING",
        ),
        ({"daemon": {"running": False}, "providers": [{"state": "paused"}]}, "STOPPED"),
    ],
)
async def test_the_one_word(
    evening: Evening, conn: sqlite3.Connection, change: dict[str, Any], word: str
) -> None:
    (evening.folder / "gate").mkdir()
    found: Any = deepcopy(await _calm(evening, conn))
    for key, value in change.items():
        if isinstance(value, dict):
            found[key].update(value)
        elif value:
            for line, new in zip(found[key], value, strict=False):
                line.update(new)
        else:
            found[key] = value
    told, reasons = judge(found, 900.0)
    assert told == word
    assert bool(reasons) == (word != "SAFE")


async def test_what_was_acknowledged_is_in_no_alarm(lived: Evening, conn: sqlite3.Connection) -> None:
    await lived.ledger.run(
        lambda tx: tx.conn.execute("UPDATE recordings SET acknowledged_at = 1 WHERE state <> 'held'")
    )
    found = status(conn, lived.config, HOLDER, LIVE, NOW)
    assert [one["state"] for one in found["troubled"]] == ["held"]
    assert (found["recordings"]["alarming"], found["recordings"]["failed"]) == (1, 1)


async def test_an_upload_that_fails_again_and_again_is_in_trouble_though_still_tried(
    lived: Evening, conn: sqlite3.Connection
) -> None:
    for limit, troubled in ((None, 0), (1, 1), (2, 0)):
        providers = {
            name: provider.model_copy(update={"trouble_after": limit})
            for name, provider in lived.config.providers.items()
        }
        found = status(conn, lived.config.model_copy(update={"providers": providers}), HOLDER, LIVE, NOW)
        assert sum(one["in_trouble"] for one in found["providers"]) == troubled
        assert any("failed again and again" in why for why in found["reasons"]) == bool(troubled)


async def test_while_a_provider_is_down_its_probes_count_as_the_failures_of_what_waits(
    lived: Evening, conn: sqlite3.Connection
) -> None:
    """An upload is not tried then, so its own failures would stay as they are for as long as it takes."""
    await lived.ledger.run(
        lambda tx: tx.conn.execute("UPDATE providers SET state = 'retrying', probes = 3 WHERE name = 'nas'")
    )
    for limit, troubled in ((3, True), (4, False)):
        providers = {
            name: provider.model_copy(update={"trouble_after": limit})
            for name, provider in lived.config.providers.items()
        }
        config = lived.config.model_copy(update={"providers": providers})
        (nas,) = [one for one in status(conn, config, HOLDER, LIVE, NOW)["providers"] if one["name"] == "nas"]
        assert (nas["waiting"] > 0, nas["in_trouble"] == nas["waiting"]) == (True, troubled)


# --- what it costs ---------------------------------------------------------------------------------


def test_it_costs_the_same_with_few_and_with_many_recordings(tmp_path: Path) -> None:
    taken = []
    for recordings in (100, 10_000):
        folder = tmp_path / str(recordings)
        folder.mkdir()
        fill(folder / "ledger.db", recordings)
        config = _config(folder, '[sources.cameras]\npath = "in"\n')
        conn = connect_readonly(config.ledger.path)
        with counted(conn) as steps:
            assert status(conn, config, HOLDER, None, NOW)["recordings"]["waiting"] == 10
        taken.append(steps.taken)
        conn.close()
    assert 0 < taken[1] < taken[0] * 1.2


def test_a_mount_that_does_not_answer_delays_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, over, answered = tmp_path / "stuck", threading.Event(), threading.Event()
    (tmp_path / "in").mkdir()
    answers = os.statvfs

    def statvfs(path: str) -> os.statvfs_result:
        if Path(path) == stuck:
            over.wait(20)
            answered.set()
        return answers(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    config = _config(tmp_path, '[sources.a]\npath = "stuck"\n[sources.b]\npath = "in"\n')
    try:
        found = status(None, config, None, None, NOW)
        assert not answered.is_set()
    finally:
        over.set()
    assert found["sources"][0]["free_bytes"] is None
    assert (found["sources"][1]["free_bytes"] or 0) > 0


def _config(folder: Path, sources: str) -> Config:
    file = folder / "config.toml"
    file.write_text(
        '[ledger]\npath = "ledger.db"\n[providers.near]\ntype = "directory"\npath = "near"\n'
        '[providers.off]\ntype = "directory"\npath = "off"\nenabled = false\n' + sources,
        encoding="utf-8",
    )
    return load(file, env={})
