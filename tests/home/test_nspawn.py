"""The unit really started: a Debian with systemd, the wheel, the units, and a recorder that is another user.

One machine for all tests here, installed as docs/install.md says. Each test leaves the service running.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.home.debian import ROOT, needs
from tests.home.machine import UNIT, Machine, booted, installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SECRET = "not-a-real-secret-but-one-that-must-not-leak"
CONFIG = """\
[daemon]
log_level = "debug"
log_levels = { botocore = "debug", aiobotocore = "debug" }

[sources.cameras]
path = "/srv/recordings"
quiet_for = "300ms"
required = ["nas"]

[providers.nas]
type = "directory"
path = "/mnt/nas"

# Nobody listens there: its outage is none of systemd's business.
[providers.s3_main]
type = "s3"
bucket = "recordings"
region = "eu-central-1"
endpoint_url = "http://127.0.0.1:9"
access_key_id = "not-a-real-key"
"""
DROP_IN = """\
[Service]
SupplementaryGroups=recorder
ReadWritePaths=-/mnt/nas
LoadCredential=providers__s3_main__secret_access_key:/etc/uploaderd/secrets/s3_main
"""
LOG = "journalctl --no-pager --output=cat --unit=uploaderd"
BLOCKED = "import signal; signal.signal(signal.SIGUSR1, lambda *_: __import__('time').sleep(3600))\n"
"""Put into the installed environment, it lets a test block the event loop: a handler in Python runs there."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    needs("debootstrap", "systemd-nspawn", "nsenter")
    with booted(tmp_path_factory.mktemp("machine")) as machine:
        installed(machine)
        machine.must(
            "useradd --create-home recorder && chmod 0700 /home/recorder\n"
            "install -d -o recorder -g recorder -m 2750 /srv/recordings\n"
            "install -d -o uploaderd -g uploaderd /mnt/nas\n"
            "echo private > /home/recorder/diary"
        )
        machine.write("/etc/uploaderd/config.toml", CONFIG)
        machine.write("/etc/uploaderd/secrets/s3_main", SECRET, mode=0o600)
        machine.write(f"/etc/systemd/system/{UNIT}.d/here.conf", DROP_IN)
        (site,) = (machine.root / "opt/uploaderd/lib").glob("python3*/site-packages")
        (site / "blocked.pth").write_text(BLOCKED)
        machine.must("systemctl daemon-reload && systemctl enable --now uploaderd")
        yield machine


@pytest.fixture(autouse=True)
def runs(machine: Machine) -> Iterator[None]:
    yield
    machine.must("systemctl reset-failed; systemctl start uploaderd")


def record(machine: Machine, name: str, size: int = 10_000) -> None:
    machine.must(f"umask 027; head -c {size} /dev/urandom > /srv/recordings/{name}", user="recorder")


def becomes_safe(machine: Machine, name: str) -> None:
    machine.until("uploaderd list --state safe --json", re.escape(f'"path": "{name}"'))
    copies = [path for path in (machine.root / "mnt/nas").rglob(name) if ".uploaderd" not in str(path)]
    assert [copy.read_bytes() for copy in copies] == [
        (machine.root / "srv/recordings" / name).read_bytes(),
    ]


@contextmanager
def drop_in(machine: Machine, text: str) -> Iterator[None]:
    place = f"/etc/systemd/system/{UNIT}.d/more.conf"
    machine.write(place, f"[Service]\n{text}")
    machine.must("systemctl daemon-reload")
    try:
        yield
    finally:
        (machine.root / place.lstrip("/")).unlink()
        machine.must("systemctl daemon-reload")


def test_start_returns_when_it_is_ready(machine: Machine) -> None:
    shown = machine.shows()
    assert (shown["ActiveState"], shown["SubState"], shown["Type"]) == ("active", "running", "notify")
    assert "READY" not in shown["StatusText"]
    assert machine.run("uploaderd status --alive").code == 0
    machine.until("systemctl status uploaderd", "Status: .*(SAFE|BEHIND|FAILING)")


def test_what_another_user_records_goes_out_once_it_is_closed(machine: Machine) -> None:
    """Which of both is known by the lease, and that takes the capability: it is not our file."""
    recorder = machine.start(
        "umask 027; exec 3> /srv/recordings/live.mp4; echo begun >&3; echo; read line; echo done >&3",
        user="recorder",
    )
    assert recorder.stdin is not None
    assert recorder.stdout is not None
    recorder.stdout.readline()
    record(machine, "other.mp4")
    becomes_safe(machine, "other.mp4")
    assert "live.mp4" not in machine.recordings()
    recorder.communicate("\n", timeout=60)
    becomes_safe(machine, "live.mp4")
    assert machine.recordings()["live.mp4"]["finished_by"] == "lease"
    machine.until(
        "systemctl show --property=StatusText uploaderd", "=(SAFE, [0-9]+ recordings|FAILING: prov)"
    )


def test_reload_takes_a_new_configuration(machine: Machine) -> None:
    """With a source whose mount comes later than the daemon."""
    pid = machine.main_pid()
    machine.write(
        "/etc/uploaderd/config.toml",
        f'{CONFIG}\n[sources.late]\npath = "/srv/late"\nquiet_for = "300ms"\nrequired = ["nas"]\n',
    )
    machine.must("systemctl reload uploaderd")
    machine.until(LOG, "secrets that systemd hands over .* are still those of the start")
    machine.until("uploaderd status", "late +missing")
    machine.must("mkdir /srv/late && mount -t tmpfs tmpfs /srv/late && echo x > /srv/late/late.mp4")
    machine.until("uploaderd list --state safe --json", '"path": "late.mp4"')
    assert machine.main_pid() == pid
    machine.write("/etc/uploaderd/config.toml", CONFIG)
    machine.must("systemctl reload uploaderd && umount /srv/late")


def test_a_wrong_configuration_is_refused_by_reload(machine: Machine) -> None:
    before = machine.shows()
    machine.write("/etc/uploaderd/config.toml", CONFIG.replace("bucket =", "buckett ="))
    try:
        assert machine.run("systemctl reload uploaderd").code != 0
        assert "buckett" in machine.journal()
        after = machine.shows()
        assert (after["ActiveState"], after["MainPID"]) == ("active", before["MainPID"])
        # Told directly, the daemon itself refuses it.
        machine.must("systemctl kill --signal=HUP --kill-who=main uploaderd")
        machine.until(LOG, "the new configuration is refused; the old one stays")
        record(machine, "under-the-old-one.mp4")
        machine.until(LOG, "recording safe.*under-the-old-one.mp4")
    finally:
        machine.write("/etc/uploaderd/config.toml", CONFIG)
    assert machine.main_pid() == int(before["MainPID"])


def test_a_wrong_configuration_does_not_make_it_restart_for_ever(machine: Machine) -> None:
    machine.write("/etc/uploaderd/config.toml", "[daemon]\nbehind_after = 15\n")
    try:
        assert machine.run("systemctl restart uploaderd").code != 0
        shown = machine.shows()
        assert (shown["ActiveState"], shown["ExecMainStatus"]) == ("failed", "78")
        assert "behind_after" in machine.run("systemctl status uploaderd").text
        # Otherwise it would be waiting for RestartSec in this state.
        assert shown["SubState"] != "auto-restart"
    finally:
        machine.write("/etc/uploaderd/config.toml", CONFIG)


def test_the_watchdog_ends_a_blocked_loop_and_it_goes_on(machine: Machine) -> None:
    with drop_in(machine, "WatchdogSec=6s\nRestartSec=100ms\n"):
        machine.must("systemctl restart uploaderd")
        pid = machine.main_pid()
        machine.must(f"kill -USR1 {pid}")
        record(machine, "while-it-hangs.mp4")
        assert machine.run("uploaderd status --alive").code == 3
        machine.until(LOG, "Watchdog timeout")
        becomes_safe(machine, "while-it-hangs.mp4")
        assert machine.main_pid() not in (0, pid)
        assert int(machine.shows()["NRestarts"]) >= 1
    machine.must("systemctl restart uploaderd")


def test_kill_9_and_it_goes_on(machine: Machine) -> None:
    with drop_in(machine, "RestartSec=100ms\n"):
        pid = machine.main_pid()
        record(machine, "before-the-kill.mp4", 20_000_000)
        machine.must(f"kill -KILL {pid}")
        becomes_safe(machine, "before-the-kill.mp4")
        assert machine.main_pid() not in (0, pid)


def test_it_stops_within_the_grace(machine: Machine) -> None:
    began = time.monotonic()
    machine.must("systemctl stop uploaderd")
    assert time.monotonic() - began < 30, "TimeoutStopSec, after which it would have been killed"
    shown = machine.shows()
    assert (shown["ActiveState"], shown["Result"], shown["ExecMainStatus"]) == ("inactive", "success", "0")
    assert machine.run("uploaderd status --check").code == 3


def test_a_drain_gets_more_time_than_the_unit_has(machine: Machine) -> None:
    """A file that stays open keeps the daemon for half of drain_timeout, three times TimeoutStopSec."""
    drains = CONFIG.replace("[daemon]\n", '[daemon]\non_stop = "drain"\ndrain_timeout = "12s"\n')
    with drop_in(machine, "TimeoutStopSec=2s\n"):
        machine.write("/etc/uploaderd/config.toml", drains)
        machine.must("systemctl restart uploaderd")
        recorder = machine.start(
            "umask 027; exec 3> /srv/recordings/meeting.mp4; echo x >&3; echo; read line", user="recorder"
        )
        try:
            assert recorder.stdout is not None
            recorder.stdout.readline()
            machine.run("systemctl stop uploaderd")
            shown = machine.shows()
            assert (shown["Result"], shown["ExecMainStatus"]) == ("exit-code", "75")
            assert "meeting.mp4: somebody still writes it" in machine.journal()
        finally:
            machine.write("/etc/uploaderd/config.toml", CONFIG)
            recorder.communicate("\n", timeout=60)


def test_the_secret_is_in_no_environment_and_no_log(machine: Machine) -> None:
    """It did arrive: without it, the configuration would be refused."""
    assert machine.run("uploaderd config check").code == 78, "the person at the shell has it not"
    machine.until(LOG, "botocore")
    pid = machine.main_pid()
    assert SECRET not in machine.must(f"cat /proc/{pid}/environ /proc/{pid}/cmdline")
    assert "CREDENTIALS_DIRECTORY" in machine.must(f"cat /proc/{pid}/environ")
    assert SECRET not in machine.must("journalctl --no-pager --output=verbose")
    assert SECRET not in machine.must("uploaderd status; uploaderd status --json; uploaderd history --json")
    machine.must(f"! grep -r -a -l {SECRET} /var/lib/uploaderd /var/log /run/log")
    assert machine.run(f"cat /run/credentials/{UNIT}/*", user="recorder").code != 0


def test_nothing_but_what_the_unit_grants(machine: Machine) -> None:
    shutil.copy(ROOT / "tests" / "home" / "sandbox_probe.py", machine.root / "usr/local/lib/probe.py")
    secrets = "/etc/shadow /etc/uploaderd/secrets /home/recorder/diary /home /root"
    here = "/srv/recordings /etc/uploaderd/config.toml"
    command = f"/usr/bin/python3 /usr/local/lib/probe.py /run/uploaderd/probe.json {secrets} {here}"
    with drop_in(machine, f"ExecReload=\nExecReload={command}\n"):
        machine.must("systemctl reload uploaderd")
    found = json.loads(machine.must("cat /run/uploaderd/probe.json"))
    assert found["writable"] == ["/mnt/nas", "/run/uploaderd", "/tmp", "/var/lib/uploaderd", "/var/tmp"]
    assert found["readable"] == here.split()
    assert found["capabilities"] == "0000000010000000", "CAP_LEASE, and no other (linux/capability.h: 28)"
    assert all(SECRET not in value for value in found["environment"].values())
    assert found["others"] == []
    assert all(found["refused"].values()), found["refused"]


def test_recordings_can_be_written_with_the_drop_in_alone(machine: Machine) -> None:
    folder = machine.root / f"etc/systemd/system/{UNIT}.d"
    shutil.copy(ROOT / "systemd/uploaderd.service.d/delete-when-safe.conf", folder)
    machine.must("chmod g+w /srv/recordings")
    shutil.copy(ROOT / "tests" / "home" / "sandbox_probe.py", machine.root / "usr/local/lib/probe.py")
    command = "/usr/bin/python3 /usr/local/lib/probe.py /run/uploaderd/probe.json"
    try:
        with drop_in(machine, f"ExecReload=\nExecReload={command}\n"):
            machine.must("systemctl restart uploaderd && systemctl reload uploaderd")
        assert "/srv/recordings" in json.loads(machine.must("cat /run/uploaderd/probe.json"))["writable"]
    finally:
        (folder / "delete-when-safe.conf").unlink()
        machine.must("chmod g-w /srv/recordings; systemctl daemon-reload && systemctl restart uploaderd")


def test_several_recorders(machine: Machine) -> None:
    machine.must("install -d -o uploaderd -g uploaderd /srv/hall3 /var/lib/copies3")
    machine.write(
        "/etc/uploaderd/hall3.toml",
        '[ledger]\npath = "/var/lib/uploaderd/hall3/ledger.db"\n'
        '[sources.hall]\npath = "/srv/hall3"\nquiet_for = "300ms"\n'
        '[providers.nas]\ntype = "directory"\npath = "/var/lib/uploaderd/hall3/copies"\n',
    )
    machine.must("systemctl start uploaderd@hall3 && install -d -o uploaderd /var/lib/uploaderd/hall3/copies")
    try:
        machine.must("echo x > /srv/hall3/a.mp4")
        status = "uploaderd status --config /etc/uploaderd/hall3.toml"
        machine.until("uploaderd list --state safe --config /etc/uploaderd/hall3.toml", "a.mp4")
        assert machine.must(status).startswith("SAFE")
        assert machine.main_pid("uploaderd@hall3") != machine.main_pid()
    finally:
        machine.must("systemctl stop uploaderd@hall3")


def test_the_safety_net(machine: Machine) -> None:
    """With the daemon it makes sure that all is safe; without one there is nothing to do."""
    record(machine, "net.mp4")
    machine.must("systemctl start uploaderd-ensure.service")
    assert machine.recordings()["net.mp4"]["state"] == "safe"
    machine.must("systemctl enable --now uploaderd-ensure.timer && systemctl stop uploaderd-ensure.timer")
    machine.must("systemctl stop uploaderd && systemctl start uploaderd-ensure.service")
    assert machine.shows("uploaderd-ensure.service")["ConditionResult"] == "no"


def test_systemd_finds_nothing_to_say_of_the_units(machine: Machine) -> None:
    units = "/etc/systemd/system/uploaderd*.service /etc/systemd/system/*.timer"
    assert machine.must(f"systemd-analyze verify {units}") == ""


def test_the_docs_last_block(machine: Machine) -> None:
    """The others are carried out before. doctor has the service's secret here, and blames S3 alone."""
    text = (ROOT / "docs" / "install.md").read_text()
    *_, start = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ended = machine.run(start)
    assert "systemctl enable --now uploaderd" in start
    assert re.search("^(SAFE|BEHIND|FAILING)", ended.text, re.MULTILINE), ended.text
    assert ended.code == 1, ended.text
    assert "127.0.0.1:9" in ended.text
    assert SECRET not in ended.text
