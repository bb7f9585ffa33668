"""What this machine itself must bring: configuration, ledger, sources."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.cli import golden
from tests.cli.process import ROOT
from tests.cli.shapes import conforms
from tests.contract.place import Place
from tests.doctor.asking import Clinic
from uploaderd.acts.acting import user
from uploaderd.doctor import ledger, sources
from uploaderd.doctor.findings import Report
from uploaderd.mounts import Mount


async def test_secrets_that_everybody_may_read(clinic: Clinic, places: Mapping[str, Place]) -> None:
    for folder in (clinic.box.folder, *clinic.box.folder.parents):
        if folder.stat().st_uid == os.geteuid() and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    clinic.box.send_to({"s3": places["s3"]})
    clinic.box.write()
    clinic.box.config.chmod(0o644)
    found = (await clinic.examine()).of("configuration", "secrets")
    assert found.result == "warn"
    assert found.fix.startswith(f"chmod o= {clinic.box.config}")
    clinic.box.config.chmod(0o600)
    assert (await clinic.examine()).of("configuration", "secrets").result == "ok"


async def test_plain_http_and_an_emulator_in_the_environment(
    clinic: Clinic, places: Mapping[str, Place]
) -> None:
    clinic.box.source()
    clinic.box.send_to({"gcs": places["gcs"]})
    asked = await clinic.examine(write=False, env={"STORAGE_EMULATOR_HOST": "http://127.0.0.1:1"})
    assert asked.bad("configuration") == {"encryption": "warn", "environment": "warn"}
    assert "[providers.gcs]" in asked.of("configuration", "encryption").text
    assert "STORAGE_EMULATOR_HOST" in asked.of("configuration", "environment").text


async def test_a_connection_string_of_plain_http_is_found_and_not_shown(clinic: Clinic) -> None:
    clinic.box.providers["azure"] = {
        "type": "azure",
        "container": "x",
        "connection_string": "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=bm90LWEta2V5;"
        "BlobEndpoint=http://127.0.0.1:1/a;",
    }
    found = (await clinic.examine(write=False)).of("configuration", "encryption")
    assert found.result == "warn"
    assert "http://127.0.0.1:1/a" in found.text and "bm90" not in found.text


async def test_sources_that_share_a_tree(clinic: Clinic) -> None:
    folder = clinic.box.source("hall")
    clinic.box.source("mp4", path=str(folder), include=["**/*.mp4"])
    (folder / "sub").mkdir()
    clinic.box.source("sub", path=str(folder / "sub"))
    asked = await clinic.examine()
    for late in ("mp4", "sub"):
        nothing = asked.of(f"source {late}", "shared tree")
        assert nothing.result == "warn"
        assert f"put [sources.{late}] before [sources.hall]" in nothing.fix
    assert "goes to it" in asked.of("source hall", "shared tree").text
    clinic.box.sources = {name: clinic.box.sources[name] for name in ("mp4", "hall")}
    told = (await clinic.examine()).of("source hall", "shared tree")
    assert (told.result, "goes to mp4" in told.text) == ("ok", True)


async def test_quiet_time_writers_and_a_missing_folder(clinic: Clinic) -> None:
    folder = clinic.box.source("hall", quiet_for="1s")
    (folder / "a.mp4").write_bytes(b"a")
    clinic.box.source("yard", quiet_for="2s", finished="quiet")
    clinic.box.source("gone")
    (clinic.box.folder / "recordings" / "gone").rmdir()
    asked = await clinic.examine()
    assert asked.bad("source hall") == {"quiet time": "warn"}
    assert "can be seen (lease)" in asked.of("source hall", "writers").text
    assert asked.of("source yard", "quiet time").fix.startswith('write "1m"')
    assert asked.bad("source gone") == {"folder": "fail"}


async def test_a_network_file_system(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's word for it is all that is replaced: there is no NFS server here."""
    clinic.box.source("hall", quiet_for="10s")
    for module in (sources, ledger):
        monkeypatch.setattr(module, "mount_of", lambda _: Mount.NETWORK)
    asked = await clinic.examine()
    assert asked.of("ledger", "file system").result == "warn"
    assert asked.bad("source hall") == {"events": "warn", "quiet time": "warn"}
    assert "5m" in asked.of("source hall", "quiet time").fix


async def test_a_limit_of_watches_that_is_nearly_reached(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = clinic.box.source("hall")
    for number in range(9):
        (folder / str(number)).mkdir()
    limit = tmp_path / "max_user_watches"
    monkeypatch.setattr(sources, "_WATCHES", limit)
    for allowed, told in (("12", "10 folders, of 12 that may be watched"), ("9", "the tree is polled")):
        limit.write_text(allowed)
        found = (await clinic.examine()).of("source hall", "events")
        assert found.result == "warn" and told in found.text
        assert "sysctl fs.inotify.max_user_watches=524288" in found.fix


async def test_a_full_disk_and_a_ledger_for_all_to_read(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.box.source("hall")
    monkeypatch.setattr(ledger, "LEAST_FREE", 2**62)
    monkeypatch.setattr(sources, "LEAST_FREE", 2**62)
    clinic.box.ledger.write_bytes(b"no ledger at all" * 100)
    clinic.box.ledger.chmod(0o644)
    asked = await clinic.examine()
    assert asked.bad("ledger") == {"file": "fail", "daemon": "warn", "disk": "warn", "permissions": "warn"}
    assert asked.of("ledger", "permissions").fix == f"chmod 600 {clinic.box.ledger}"
    assert asked.of("source hall", "disk").result == "warn"


async def test_the_command(clinic: Clinic, places: Mapping[str, Place]) -> None:
    """As a process: its text, its JSON, its exit codes; beside a running daemon, too."""
    box = clinic.box
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    (folder / "1.ts").write_bytes(b"one")
    with box.run():
        await box.until_safe(1)
        said = await box.uploaderd("doctor", "--json")
        assert said.code == 0, said.out + said.err
        conforms(said.json, Report)
        assert said.json["daemon"] is True and said.json["counts"]["fail"] == 0
        kept = sorted(os.listdir(box.providers["directory"]["path"]))
        assert [name for name in kept if name.startswith(".")] == [".uploaderd"]
    box.providers["directory"]["path"] += "-gone"
    box.write()
    gone = await box.uploaderd("doctor")
    assert gone.code == 1
    shown = [line for line in gone.out.splitlines() if " free" not in line and "watched" not in line]
    text = "\n".join(shown).replace(str(box.folder), "DIR").replace(user(os.geteuid()), "USER")
    golden.same("doctor.txt", f"{text}\n", box.folder)


async def test_a_configuration_that_cannot_be_used_is_its_first_finding(clinic: Clinic) -> None:
    clinic.box.source(quite_for="2s")
    clinic.box.write()
    said = await clinic.box.uploaderd("doctor", "--json")
    conforms(said.json, Report)
    (found,) = said.json["checks"]
    assert (said.code, said.json["result"], found["result"]) == (1, "fail", "fail")
    assert 'did you mean "quiet_for"?' in found["found"]


async def test_secrets_that_only_the_daemon_has(clinic: Clinic) -> None:
    clinic.box.source()
    clinic.box.providers["s3"] = {"type": "s3", "bucket": "x", "access_key_id": "only-the-id",
                                  "endpoint_url": "http://127.0.0.1:9"}  # fmt: skip
    clinic.box.write()
    said = await clinic.box.uploaderd("doctor", "--no-write", "--json")
    (lacking,) = (one for one in said.json["checks"] if one["check"] == "completeness")
    assert lacking["result"] == "fail"
    assert "secret_access_key" in lacking["found"] and "--secrets-dir" in lacking["fix"]


_AS_NOBODY: Final = """
import contextlib, io, os, sys
from uploaderd.cli import main

def ask():
    with contextlib.suppress(SystemExit):
        main(["doctor", "--json", "--config", sys.argv[1]])

with contextlib.redirect_stdout(io.StringIO()):
    ask()  # loads what nobody may not read
os.setegid(65534)
os.seteuid(65534)
ask()
"""


@pytest.mark.usefixtures("as_root")
async def test_another_user_is_told_what_it_may_not_do(clinic: Clinic) -> None:
    box = clinic.box
    own = box.source("own")
    own.chmod(0o700)
    used = box.folder / "used"
    (used / ".uploaderd").mkdir(parents=True)
    (used / ".uploaderd" / "marker").touch()
    box.providers["used"] = {"type": "directory", "path": str(used)}
    box.write()
    for folder in (box.config, box.folder, *box.folder.parents):
        if str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    child = [sys.executable, "-c", _AS_NOBODY, str(box.config)]
    done = await asyncio.to_thread(subprocess.run, child, cwd=ROOT, capture_output=True, check=True)
    found = {(one["subject"], one["check"]): one for one in json.loads(done.stdout)["checks"]}
    refused = found["source own", "folder"]
    assert (refused["result"], "may not be read by you" in refused["found"]) == ("fail", True)
    foreign = found["provider used", "write"]
    assert (foreign["result"], foreign["fix"]) == ("warn", "ask as that user: sudo -u root uploaderd doctor")
    assert found["ledger", "permissions"]["result"] == "warn"
