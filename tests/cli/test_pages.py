"""What the ledger says of recordings: `list`, `history` and `why`, for programs and for people."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli import golden
from tests.cli.evening import NOW, Evening
from tests.cli.shapes import conforms
from tests.cli.test_status import HOLDER, kept
from uploaderd.finished import ignore_lease_signals
from uploaderd.ledger import chain, find, intake, read, stretches
from uploaderd.report import lookup, model
from uploaderd.report.history import history
from uploaderd.report.pages import history_lines, recording_lines, why_lines
from uploaderd.report.recordings import recording
from uploaderd.report.why import Why, why
from uploaderd.report.writers import writers

# DESIGN, "Command line": a line of `list --json`.
PROMISED = json.loads("""
{"schema_version": 1, "id": "01J...", "source": "cameras", "path": "cam1/18-00.mp4", "size": 1048576,
 "state": "safe", "finished_at": "2026-11-20T18:00:02Z", "finished_by": "lease", "found_by": "event",
 "local": "present", "uploads": {"s3_main": {"state": "verified", "bucket": "recordings",
             "key": "cameras/2026/11/20/cam1/18-00.mp4", "url": "https://...",
             "version_id": null, "etag": "...",
             "attempts": 1, "bytes_sent": 1048576, "required": true,
             "proof": {"kind": "crc64nvme full object, stat", "value": "..."},
             "verified_at": "2026-11-20T18:00:03Z", "error": null}}}
""")


async def test_list(lived: Evening, conn: sqlite3.Connection) -> None:
    found = [recording(row, lived.config) for row in read.recordings(conn)]
    for one in found:
        conforms(one, model.Recording)
    kept(PROMISED, json.loads(json.dumps(found[-1])))
    lines = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in found)
    golden.same("list.jsonl", lines, lived.folder)
    text = "".join(f"{line.text}\n" for one in found for line in recording_lines(one))
    golden.same("list.txt", text, lived.folder)


async def test_a_provider_that_left_the_configuration_has_no_address(
    lived: Evening, conn: sqlite3.Connection
) -> None:
    (row,) = read.by_rows(conn, [1])
    lived.config.providers.pop("s3_main")
    left = recording(row, lived.config)["uploads"]["s3_main"]
    assert (left["bucket"], left["url"], left["state"]) == (None, None, "verified")


async def test_history(lived: Evening, conn: sqlite3.Connection) -> None:
    found = history(conn, None, 100)
    for one in found:
        conforms(one, model.HistoryLine)
    assert [one["at"] for one in found] == sorted(one["at"] for one in found)
    attempts = sum(one["type"] == "attempt" for one in found)
    assert (attempts, len(found) - attempts) == tuple(
        conn.execute("SELECT (SELECT count(*) FROM attempts), (SELECT count(*) FROM events)").fetchone()
    )
    text = "".join(f"{line.text}\n" for one in found for line in history_lines(one, named=True))
    golden.same("history.txt", text, lived.folder)


async def test_history_of_one_recording_and_of_the_newest(lived: Evening, conn: sqlite3.Connection) -> None:
    mine = history(conn, 1, 100)
    assert [(one["provider"], one["outcome"]) for one in mine] == [
        ("s3_main", "verified"),
        ("nas", "verified"),
    ]
    everything = history(conn, None, 100)
    assert history(conn, None, 3) == everything[-3:]


# --- finding a recording -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        "cam1/17-40.mp4",
        "17-40",
        "cam1/../cam1/17-40.mp4",
        "DIR/recordings/cam1/17-40.mp4",
        "ID",
        "id",
    ],
)
async def test_a_recording_is_found(lived: Evening, conn: sqlite3.Connection, wanted: str) -> None:
    (row,) = read.by_rows(conn, [2])
    ways = {"ID": row.id, "id": row.id.lower()}
    typed = ways.get(wanted, wanted.replace("DIR", str(lived.folder)))
    assert lookup.one(conn, lived.config, typed).path == b"cam1/17-40.mp4"


async def test_a_path_is_found_from_inside_its_source(
    lived: Evening, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lived.folder / "recordings" / "cam1"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert lookup.one(conn, lived.config, "17-40.mp4").path == b"cam1/17-40.mp4"


async def test_a_path_is_found_as_it_was_shown(lived: Evening, conn: sqlite3.Connection) -> None:
    assert lookup.one(conn, lived.config, "cam2/odd%0A%FF.mp4").path == b"cam2/odd\n\xff.mp4"
    assert lookup.one(conn, lived.config, os.fsdecode(b"cam2/odd\n\xff.mp4")).row == 3


async def test_of_several_contents_at_a_path_the_newest_is_meant(
    lived: Evening, conn: sqlite3.Connection
) -> None:
    await lived.ledger.run(intake.replace, 1)
    newer = await lived.found(b"cam1/17-20.mp4", 7)
    assert lookup.one(conn, lived.config, "cam1/17-20.mp4").row == newer
    assert lookup.one(conn, lived.config, "17-20").row == newer


async def test_a_part_that_fits_several_lists_them(lived: Evening, conn: sqlite3.Connection) -> None:
    with pytest.raises(lookup.Ambiguous, match="'cam1' fits 2 recordings") as caught:
        lookup.one(conn, lived.config, "cam1")
    assert [one.partition("  ")[0] for one in caught.value.candidates] == [
        "cameras: cam1/17-40.mp4",
        "cameras: cam1/17-20.mp4",
    ]


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("cam1/17-41.mp4", "cam1/17-40.mp4"),
        ("17-56.mp4", "cam2/17-55.mp4"),
        ("nothing like it", None),
        ("", None),
    ],
)
async def test_an_unknown_one_names_the_nearest(
    lived: Evening, conn: sqlite3.Connection, wanted: str, meant: str | None
) -> None:
    with pytest.raises(lookup.Unknown) as caught:
        lookup.one(conn, lived.config, wanted)
    assert (
        (f'did you mean "{meant}"?' in str(caught.value)) if meant else ("did you" not in str(caught.value))
    )


async def test_a_part_of_an_old_name_is_looked_for_in_the_index_alone(
    lived: Evening, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "STEP", 1)
    monkeypatch.setattr(find, "RECENT", 0)
    asked: list[str] = []
    conn.set_trace_callback(asked.append)
    lookup.by_part(conn, "17-40")
    (statement,) = (one for one in asked if "INDEXED BY" in one)
    (step,) = (row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {statement}") if "recordings" in row[3])
    assert "COVERING INDEX" in step


# --- why ---------------------------------------------------------------------------------------------


def shown(answer: Why) -> str:
    return "".join(f"{line.text}\n" for line in why_lines(answer))


@pytest.mark.parametrize("row", range(1, 7))
async def test_why_of_each_recording(lived: Evening, conn: sqlite3.Connection, row: int) -> None:
    (known,) = read.by_rows(conn, [row])
    answer = why(conn, lived.config, HOLDER, known.id, NOW)
    assert answer.next
    golden.same(f"why-{known.state}.txt", shown(answer), lived.folder)


async def test_why_says_first_that_no_daemon_runs(lived: Evening, conn: sqlite3.Connection) -> None:
    answer = why(conn, lived.config, None, "17-40", NOW)
    assert answer.gates[-1].name == "daemon"
    assert answer.next.startswith("nothing, until a daemon runs (`uploaderd run`); then: ")


@pytest.mark.parametrize(
    ("name", "gate", "told"),
    [
        ("recordings/a.part", "pattern", 'cameras excludes it: exclude has "**/*.part"'),
        ("recordings/.uploaderd-x", "name", "names that begin with .uploaderd are uploaderd's own"),
        (
            "elsewhere/a.mp4",
            "source",
            "it lies in no source; watched are cameras (DIR/recordings), gate (DIR/gate)",
        ),
        ("recordings", "file", "it is a directory; ask for a file"),
    ],
)
async def test_why_of_files_that_nobody_takes(
    lived: Evening, conn: sqlite3.Connection, name: str, gate: str, told: str
) -> None:
    file = lived.folder / name
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
    answer = why(conn, lived.config, HOLDER, str(file), NOW)
    assert answer.state == "not in the ledger"
    (found,) = answer.gates
    assert (found.name, found.passed) == (gate, False)
    assert found.text == told.replace("DIR", str(lived.folder))


def test_why_of_a_file_that_is_being_written_names_who_writes(
    lived: Evening, conn: sqlite3.Connection, quiet: Callable[[str], str]
) -> None:
    path = quiet("growing.mp4")
    script = (
        "import sys; open(sys.argv[1], 'ab'); f = open(sys.argv[1], 'ab'); print('open', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        answer = why(conn, lived.config, HOLDER, "growing.mp4", NOW)
        with Path(path).open("rb"):  # whoever only reads is not meant
            assert [one.pid for one in writers(os.fsencode(path))] == [writer.pid]
        writer.communicate(b"\n")
    assert [gate.name for gate in answer.gates] == ["source", "finished"]
    assert f"(process {writer.pid})" in answer.gates[-1].text
    assert answer.next == "it is queued once the last writer has closed it, and it is quiet"
    assert writers(os.fsencode(path)) == []


async def test_why_of_a_file_that_the_next_sweep_finds(
    lived: Evening, conn: sqlite3.Connection, quiet: Callable[[str], str]
) -> None:
    quiet("late.mp4")
    answer = why(conn, lived.config, HOLDER, "late.mp4", NOW)
    assert [(gate.name, gate.passed) for gate in answer.gates] == [("source", True), ("finished", True)]
    assert answer.next == "it is queued by the next sweep at the latest, within 5m 00s"


async def test_why_of_a_file_that_changed_just_now(lived: Evening, conn: sqlite3.Connection) -> None:
    (lived.folder / "recordings" / "new.mp4").write_bytes(b"x")
    answer = why(conn, lived.config, HOLDER, "new.mp4", NOW)
    assert answer.gates[-1].text == "it changed a moment ago"
    assert answer.next.startswith("it counts as finished in ")


async def test_why_of_a_file_prefers_the_very_file_to_a_name_that_contains_it(
    lived: Evening, conn: sqlite3.Connection
) -> None:
    (lived.folder / "recordings" / "17-40").write_bytes(b"x")
    assert why(conn, lived.config, HOLDER, "17-40", NOW).state == "not in the ledger"


async def test_why_without_a_ledger(evening: Evening) -> None:
    (evening.folder / "recordings" / "new.mp4").write_bytes(b"x")
    assert why(None, evening.config, None, "new.mp4", NOW).gates[-1].name == "daemon"
    with pytest.raises(lookup.Unknown, match=r"no file 'old\.mp4'"):
        why(None, evening.config, None, "old.mp4", NOW)


@pytest.fixture
def quiet(lived: Evening) -> Callable[[str], str]:
    """Makes a file in the source that has not changed for an hour."""
    ignore_lease_signals()

    def made(name: str) -> str:
        path = lived.folder / "recordings" / name
        path.write_bytes(b"content")
        hour_ago = path.stat().st_mtime - 3600
        os.utime(path, (hour_ago, hour_ago))
        return str(path)

    return made


async def test_the_chains_of_the_evening_are_whole(lived: Evening, conn: sqlite3.Connection) -> None:
    """The golden files show a history as the product writes it, not one that was made up."""
    with closing(conn.cursor()):
        assert chain.broken_at(conn, "attempts") is None
        assert chain.broken_at(conn, "events") is None
