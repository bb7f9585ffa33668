"""The image: built from the Dockerfile, and run as nobody in particular on a read-only file system."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.home.container import Container, Image, built
from tests.home.debian import needs
from uploaderd.ledger import read
from uploaderd.ledger.reading import connect_readonly

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

UID = 1000
"""The recorder's, and the daemon's: neither owns anything of the image."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    needs("debootstrap", "buildah", "runc")
    with built(tmp_path_factory.mktemp("image")) as image:
        yield image


@dataclass
class Pod:
    """What outlives a container: recordings, ledger, copies."""

    image: Image
    folder: Path

    def __post_init__(self) -> None:
        for path in (self.recordings, self.state, self.copies):
            path.mkdir()
            os.chown(path, UID, UID)

    @property
    def recordings(self) -> Path:
        return self.folder / "recordings"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def copies(self) -> Path:
        return self.folder / "copies"

    def container(self, *command: str, **more: str) -> Container:
        """One more container; `more` are variables, without the UPLOADERD_ that all begin with."""
        env = {
            "SOURCES__BOT__PATH": "/recordings",
            "SOURCES__BOT__QUIET_FOR": "300ms",
            "PROVIDERS__NAS__TYPE": "directory",
            "PROVIDERS__NAS__PATH": "/copies",
            **more,
        }
        number = len(list(self.folder.glob("container-*")))
        return Container(
            self.image,
            self.folder / f"container-{number}",
            command,
            env={f"UPLOADERD_{name}": value for name, value in env.items()},
            folders={"/var/lib/uploaderd": self.state, "/copies": self.copies},
            reads={"/recordings": self.recordings},
            uid=UID,
        )

    def record(self, name: str, content: bytes = b"a recording") -> None:
        path = self.recordings / name
        path.write_bytes(content)
        os.chown(path, UID, UID)

    def states(self) -> dict[str, str]:
        conn = connect_readonly(self.state / "ledger.db")
        try:
            return {os.fsdecode(row.path): row.state for row in read.recordings(conn)}
        finally:
            conn.close()


@pytest.fixture
def pod(image: Image, tmp_path: Path) -> Pod:
    return Pod(image, tmp_path)


def recorder(path: Path) -> subprocess.Popen[bytes]:
    """A process that has begun a file of the recorder's, and keeps it open."""
    with path.open("wb") as file:
        file.write(b"begun")
        os.fchown(file.fileno(), UID, UID)
        return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)


def test_what_it_says_of_itself(image: Image) -> None:
    config = image.config
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] + config["Cmd"] == ["uploaderd", "run"]
    assert config["Healthcheck"]["Test"] == ["CMD", "uploaderd", "status", "--alive"]
    assert config["StopSignal"] == "SIGTERM"
    about = {label for label in config["Labels"] if label.startswith("org.opencontainers.image.")}
    assert {label.rpartition(".")[2] for label in about} >= {"title", "description", "licenses", "version"}


def test_it_has_nothing_but_what_it_needs(image: Image) -> None:
    assert not (image.root / "src").exists(), "what it was built from stays behind"
    assert not (image.root / "opt" / "build").exists()
    assert not (image.root / "wheel").exists()


async def test_it_runs_read_only_and_drains_as_pid_1(pod: Pod) -> None:
    pod.record("first.mp4")
    with pod.container() as container:
        await container.says("recording safe")
        assert container.inside("cat", "/proc/1/comm").stdout == "uploaderd\n"
        assert container.inside("touch", "/etc/x", "/opt/uploaderd/x").returncode != 0
        assert container.inside("uploaderd", "status", "--alive").returncode == 0
        assert container.inside("uploaderd", "status").stdout.startswith("SAFE")
        pod.record("last.mp4")
        container.stop()
        assert await container.ended() == 0
    assert pod.states() == {"first.mp4": "safe", "last.mp4": "safe"}
    assert {path.name for path in pod.copies.rglob("*.mp4")} == {"first.mp4", "last.mp4"}


async def test_the_next_container_goes_on_with_the_ledger(pod: Pod) -> None:
    pod.record("a.mp4")
    with pod.container() as container:
        await container.says("recording safe")
    pod.record("b.mp4")
    with pod.container("run", "--until-safe") as container:
        assert await container.ended() == 0
        assert '"path": "a.mp4"' not in container.log(), "nothing is queued twice"
    assert pod.states() == {"a.mp4": "safe", "b.mp4": "safe"}


async def test_a_dead_provider_does_not_make_it_unhealthy(pod: Pod) -> None:
    with pod.container(PROVIDERS__NAS__REQUIRE_MOUNT="true", PROVIDERS__NAS__PATH="/srv") as container:
        await container.says("provider paused")
        assert container.inside("uploaderd", "status", "--alive").returncode == 0
        assert container.inside("uploaderd", "status", "--check").returncode == 1


async def test_doctor_needs_no_folder_of_its_own(pod: Pod) -> None:
    """Not even /tmp can be written."""
    with pod.container(SOURCES__BOT__QUIET_FOR="2s") as container:
        await container.says("provider opened")
        asked = container.inside("uploaderd", "doctor")
    assert asked.returncode == 0, asked.stdout
    assert "ok    write" in asked.stdout


async def test_another_uid_than_before_is_told_whose_the_ledger_is(pod: Pod) -> None:
    with pod.container("run", "--until-safe") as container:
        assert await container.ended() == 0
    pod.state.chmod(0o777)
    container = pod.container()
    container.uid = UID + 1
    with container:
        assert await container.ended() == 1
    assert "ledger.db.lock: it belongs to uid 1000, and this is uid 1001" in container.log()
    assert "what to do: run it as uid 1000, or" in container.log()


async def test_recordings_that_it_may_not_read_are_not_called_gone(pod: Pod) -> None:
    os.chown(pod.recordings, 0, 0)
    pod.recordings.chmod(0o700)
    with pod.container() as container:
        await container.says("the source is missing")
        shown = container.inside("uploaderd", "status").stdout
    assert shown.startswith("FAILING")
    assert "cause   the daemon may not read /recordings" in shown
    assert "remedy  let the daemon's user read it" in shown


async def test_a_bot_that_is_killed_half_way_loses_nothing(pod: Pod) -> None:
    """Both are told to end with 60 s to do so; the bot dies at once, in mid-file, which is flagged."""
    pod.record("finished.mp4")
    bot = recorder(pod.recordings / "meeting.mp4")
    with pod.container(DAEMON__DRAIN_TIMEOUT="50s") as container:
        await container.says("recording safe")
        container.stop()
        await container.says("draining first")
        bot.kill()
        bot.communicate()
        assert await container.ended(within=60) == 0
        assert [
            line for line in container.log().splitlines() if "meeting.mp4" in line and "truncated" in line
        ]
    assert pod.states() == {"finished.mp4": "safe", "meeting.mp4": "safe"}


async def test_what_is_left_when_the_time_runs_out_is_said(pod: Pod, tmp_path: Path) -> None:
    words = tmp_path / "termination-log"
    words.touch()
    words.chmod(0o666)
    bot = recorder(pod.recordings / "meeting.mp4")
    try:
        container = pod.container(DAEMON__DRAIN_TIMEOUT="6s")
        container.folders = {**container.folders, "/dev/termination-log": words}
        with container:
            await container.says("provider opened")
            container.stop()
            assert await container.ended() == 75
            assert "not everything is safe" in container.log()
    finally:
        bot.kill()
        bot.communicate()
    assert words.read_text() == (
        "not safe when the daemon had to end: /recordings/meeting.mp4: somebody still writes it"
    )


async def test_a_job_waits_for_what_it_expects(pod: Pod) -> None:
    with pod.container("run", "--until-safe", "--expect", "2") as container:
        await container.says("provider opened")
        pod.record("a.mp4")
        await container.says("recording safe")
        pod.record("b.mp4")
        assert await container.ended() == 0


async def test_without_a_configuration_it_says_so(image: Image, tmp_path: Path) -> None:
    with Container(image, tmp_path / "container") as container:
        assert await container.ended() == 78
        assert "there is no configuration" in container.log()


async def test_in_the_place_of_a_bots_own_upload_it_watches_recordings(image: Image, tmp_path: Path) -> None:
    """Its variables, and nothing else."""
    env = {"STORAGE_UPLOAD_MODE": "both", "AWS_RECORDING_STORAGE_BUCKET_NAME": "recordings"}
    with Container(image, tmp_path / "incomplete", env=env) as container:
        assert await container.ended() == 78
        assert "AZURE_STORAGE_CONTAINER_NAME: is missing" in container.log()
    env = {"AWS_RECORDING_STORAGE_BUCKET_NAME": "recordings"}
    with Container(image, tmp_path / "whole", ("config", "show"), env=env) as container:
        assert await container.ended() == 0
        assert 'path = "/recordings"  # environment RECORDINGS_DIR' in container.log()
        assert 'path = "/var/lib/uploaderd/ledger.db"  # $STATE_DIRECTORY' in container.log()
        assert 'on_stop = "drain"  # environment UPLOADERD_DAEMON__ON_STOP' in container.log()
