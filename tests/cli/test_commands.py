"""Commands as processes: exit codes, what goes where, and what is not loaded."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.cli.evening import Evening
from tests.cli.many import fill
from tests.cli.process import COMMAND, Ended, environment, uploaderd
from tests.ledger.steps import Steps
from uploaderd.cli import main

CONFIG = (
    '[ledger]\npath = "ledger.db"\n[sources.cameras]\npath = "in"\n'
    '[providers.near]\ntype = "directory"\npath = "near"\n[providers.far]\ntype = "directory"\npath = "far"\n'
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and a ledger of 1,000 recordings; no daemon."""
    return filled(tmp_path_factory.mktemp("place"), 1_000)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with 20,000."""
    return filled(tmp_path_factory.mktemp("crowded"), 20_000)


def filled(folder: Path, recordings: int) -> Path:
    (folder / "in").mkdir()
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    fill(folder / "ledger.db", recordings)
    return folder


class Command(Protocol):
    def __call__(self, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Ended: ...


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command as `process.uploaderd` does, but in this process: a tenth of the time."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")

    def run(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Ended:
        monkeypatch.chdir(cwd)
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        assert ended.value.code is None or isinstance(ended.value.code, int)
        return Ended(ended.value.code or 0, out, err)

    return run


# --- exit codes and streams --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("status", 0),
        ("status --check", 3),
        ("status --alive", 3),
        ("status --watch --check", 2),
        ("status --alive --json", 2),
        ("list", 0),
        ("list --state waiting --source cameras --provider far --limit 3", 0),
        ("list --state wating", 2),
        ("list --source camera", 2),
        ("list --provider fra", 2),
        ("list --limit 0", 2),
        ("history", 0),
        ("history 000000999", 0),
        ("history 0000009", 2),
        ("history nothing", 2),
        ("why 000000999", 0),
        ("why nothing", 2),
        ("why", 2),
        ("config show", 0),
        ("config check", 0),
        ("ledger check", 0),
        ("ledger backup in/../backup.db", 0),
        ("ledger backup ledger.db", 2),
        ("run --expect 3", 2),
        ("nothing", 2),
    ],
)
def test_exit_code(command: Command, place: Path, arguments: str, code: int) -> None:
    (place / "backup.db").unlink(missing_ok=True)
    ended = command(*arguments.split(), "--config", "config.toml", cwd=place)
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    if code == 2:
        assert ended.out == ""
        assert ended.err


def test_the_configuration_may_be_named_before_the_command(command: Command, place: Path) -> None:
    assert command("--config", "config.toml", "status", "--json", cwd=place).code == 0
    both = command("--config", "nothing.toml", "config", "show", "--config", "config.toml", cwd=place)
    assert both.code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("stauts", "Did you mean 'status'?"),
        ("list --state wating", "did you mean 'waiting'?"),
        ("list --source camera", "did you mean 'cameras'?"),
        ("list --provider nearr", "did you mean 'near'?"),
        ("list --provider x", "known are: near, far"),
        ("why cam7/2026-11-20/00000099.mp4", 'did you mean "cam7/2026-11-20/'),
    ],
)
def test_an_unknown_name_tells_the_nearest(command: Command, place: Path, arguments: str, told: str) -> None:
    ended = command(*arguments.split(), cwd=place, env={"UPLOADERD_CONFIG": "config.toml"})
    assert ended.code == 2
    assert told in " ".join(ended.err.split())


def test_several_candidates_are_listed(command: Command, place: Path) -> None:
    ended = command("history", "cam3", "--config", "config.toml", cwd=place)
    assert ended.code == 2
    assert "fits more than 10 recordings" in ended.err
    assert ended.err.count("cameras: cam3/") == 10


def test_nothing_configured(command: Command, tmp_path: Path) -> None:
    for arguments in ("run", "status", "list", "history", "config check", "config show", "ledger check"):
        ended = command(*arguments.split(), cwd=tmp_path)
        assert ended.code == 78, arguments
        assert "run --quickstart" in ended.err
        assert ended.out == ""


def test_each_fault_of_the_configuration_is_one_message(command: Command, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        '[sources.a]\npaht = "x"\nquiet_for = 2\n[providers.p]\ntype = "directory"\n', encoding="utf-8"
    )
    ended = command("config", "check", "config.toml", cwd=tmp_path)
    assert ended.code == 78
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 4  # paht, quiet_for, the source's path, the provider's path
    assert any('did you mean "path"?' in line for line in errors)


def test_nothing_to_do_is_said(command: Command, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[daemon]\nlog_level = "info"\n', encoding="utf-8")
    ended = command("run", "--config", "config.toml", cwd=tmp_path)
    assert ended.code == 78
    assert "no source is configured" in ended.err
    assert "no provider is configured" in ended.err


def test_without_a_ledger(command: Command, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    status = command("status", "--config", "config.toml", cwd=tmp_path)
    assert (status.code, status.out.split()[0]) == (0, "STOPPED")
    listed = command("list", "--config", "config.toml", cwd=tmp_path)
    assert listed.code == 1
    assert "there is no ledger at" in listed.err
    assert "what to do: has the daemon run yet?" in listed.err


def test_a_damaged_ledger_is_told_by_status(command: Command, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "ledger.db").write_bytes(b"not a database" * 1000)
    status = command("status", "--json", "--config", "config.toml", cwd=tmp_path)
    found = json.loads(status.out)
    assert (status.code, found["state"]) == (0, "STOPPED")
    assert "damaged" in found["ledger"]["problem"]["message"]
    assert command("status", "--check", "--config", "config.toml", cwd=tmp_path).code == 3
    assert command("list", "--config", "config.toml", cwd=tmp_path).code == 1


async def test_the_lock_tells_that_a_daemon_runs(lived: Evening) -> None:
    """It is this process that holds the ledger; it has no socket."""
    (lived.folder / "gate").mkdir()
    status = uploaderd("status", "--json", "--config", "config.toml", cwd=lived.folder)
    found = json.loads(status.out)
    assert (found["state"], found["daemon"]["pid"]) == ("FAILING", os.getpid())
    assert uploaderd("status", "--check", "--config", "config.toml", cwd=lived.folder).code == 1
    alive = uploaderd("status", "--alive", "--config", "config.toml", cwd=lived.folder)
    assert (alive.code, alive.out) == (3, "")
    assert f"(process {os.getpid()}) holds the ledger, but does not answer" in alive.err
    held = uploaderd("run", "--config", "config.toml", cwd=lived.folder)
    assert held.code == 75
    assert f"held by another uploaderd (process {os.getpid()})" in held.err


# --- output ------------------------------------------------------------------------------------------


def test_list_json_is_one_object_a_line_newest_first(command: Command, place: Path) -> None:
    ended = command("list", "--json", "--config", "config.toml", cwd=place)
    found = [json.loads(line) for line in ended.out.splitlines()]
    assert len(found) == 1_000
    assert [one["path"][-13:-4] for one in found] == [f"{n:09d}" for n in range(1_000, 0, -1)]
    assert (
        command("list", "--json", "--limit", "7", "--config", "config.toml", cwd=place).out.count("\n") == 7
    )


def test_the_first_page_says_that_there_is_more(command: Command, place: Path) -> None:
    ended = command("list", "--config", "config.toml", cwd=place)
    assert ended.out.count("cameras: ") == 50
    assert "--limit N shows more" in ended.err
    waiting = command("list", "--state", "waiting", "--config", "config.toml", cwd=place)
    assert (waiting.out.count("cameras: "), waiting.err) == (10, "")


@pytest.mark.parametrize("option", ["--json", ""])
def test_watch_shows_it_again_until_ctrl_c(place: Path, option: str) -> None:
    with subprocess.Popen(
        [*COMMAND, "status", "--watch", *option.split(), "--config", "config.toml"],
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        seen = 0
        while seen < 2:
            seen += "STOPPED" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


def test_output_that_nobody_reads_ends_quietly(place: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "list", "--json", "--config", "config.toml"],
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "into", "code", "told"),
    [
        ("status --json", ">/dev/full", 1, "not all could be written to stdout: No space left on device"),
        ("status", ">/dev/full", 1, "No space left on device"),
        ("status", ">&-", 0, ""),
    ],
)
def test_output_that_cannot_be_written(place: Path, arguments: str, into: str, code: int, told: str) -> None:
    command = (*COMMAND, *arguments.split(), "--config", "config.toml")
    ended = subprocess.run(
        ("sh", "-c", f'exec "$@" {into}', "sh", *command),
        cwd=place,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (code, f"error: {told}\n" if told else "")


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_only_on_a_terminal_that_wants_them(place: Path, env: dict[str, str], coloured: bool) -> None:
    on_terminal = _on_a_terminal(place, env, "status", "--config", "config.toml")
    assert b"STOPPED" in on_terminal
    assert (b"\x1b[" in on_terminal) is coloured
    assert "\x1b[" not in uploaderd("status", "--config", "config.toml", cwd=place, env=env).out


def _on_a_terminal(place: Path, env: dict[str, str], *arguments: str) -> bytes:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=place, env=environment(**env), stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        read = b""
        try:
            while piece := os.read(ours, 65536):
                read += piece
        except OSError:
            pass  # the other end is closed
        os.close(ours)
    return read


def test_a_name_that_the_terminal_lacks_does_not_end_a_command(tmp_path: Path) -> None:
    (tmp_path / "caméras").mkdir()
    (tmp_path / "config.toml").write_text(CONFIG.replace('"in"', '"caméras"'), encoding="utf-8")
    ended = uploaderd("status", "--config", "config.toml", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert ended.code == 0
    assert r"cam\xe9ras" in ended.out


# --- the ledger --------------------------------------------------------------------------------------


def test_a_backup_is_whole_private_and_never_overwrites(
    command: Command, place: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy.db"
    assert command("ledger", "backup", str(target), "--config", "config.toml", cwd=place).code == 0
    assert target.stat().st_mode & 0o777 == 0o600
    conn = sqlite3.connect(target)
    assert conn.execute("SELECT count(*) FROM recordings").fetchone() == (1_000,)
    conn.close()
    before = target.read_bytes()
    assert command("ledger", "backup", str(target), "--config", "config.toml", cwd=place).code == 2
    assert target.read_bytes() == before


async def test_a_ledger_that_was_changed_by_hand_is_found_out(command: Command, lived: Evening) -> None:
    await lived.ledger.close()
    assert command("ledger", "check", "--config", "config.toml", cwd=lived.folder).code == 0
    conn = sqlite3.connect(lived.config.ledger.path)
    conn.execute("DROP TRIGGER attempts_update")
    conn.execute("UPDATE attempts SET bytes_sent = 1 WHERE id = 3")
    conn.commit()
    conn.close()
    ended = command("ledger", "check", "--config", "config.toml", cwd=lived.folder)
    assert ended.code == 1
    assert "the chain is broken at row 3" in ended.out
    assert "events     " in ended.out
    assert "error: the ledger" in ended.err


# --- speed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["status", "status --json", "list", "list --json", "history", "why 000000999"]
)
def test_what_only_reads_loads_nothing_heavy(place: Path, command: str) -> None:
    script = (
        "import sys\nfrom uploaderd.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command.split(), "--config", "config.toml"],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "uploaderd" in loaded
    clouds = {"aiobotocore", "azure", "botocore", "gcloud", "google"}
    heavy = {"aiohttp", "awscrt", "rich", "sqlite_utils", "structlog", "watchfiles"}
    assert not loaded & (clouds | heavy)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["status", "list", "list --state waiting", "history", "why cam0/2026-11-20/{}.mp4"]
)
def test_what_only_reads_costs_no_more_with_many_recordings(
    place: Path, crowded: Path, command: Command, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """Counted in what SQLite does, which no other program on the machine changes."""
    steps, connect = Steps(), sqlite3.connect

    def counted(*arguments: Any, **settings: Any) -> sqlite3.Connection:
        conn: sqlite3.Connection = connect(*arguments, **settings)
        steps.of(conn)
        return conn

    monkeypatch.setattr(sqlite3, "connect", counted)
    few, many = 0, 0
    for folder, last in ((place, "000001000"), (crowded, "000020000")):
        steps.taken = 0
        assert command(*words.format(last).split(), "--config", "config.toml", cwd=folder).code == 0
        few, many = many, steps.taken
    assert 0 < many < 1.2 * few + 5000, f"{few} steps for 1,000 recordings, {many} for 20,000"
