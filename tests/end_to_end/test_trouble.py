"""What only the world can tell is no reason to end: it is said, with what to do, and heals by itself."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.places import assert_whole, deny
from tests.strict import StrictServer, foreign


async def _paused(box: Box, provider: str) -> Any:
    """The provider as `status` shows it, once it is paused."""

    def paused() -> bool:
        with box.reading() as conn:
            found = conn.execute("SELECT state FROM providers WHERE name = ?", (provider,)) if conn else None
            return found is not None and found.fetchone() == ("paused",)

    await box.until(paused)
    status = await box.status()
    assert status["state"] == "FAILING"
    assert status["reasons"]
    assert (await box.uploaderd("status", "--check")).code == 1
    assert (await box.uploaderd("status", "--alive")).code == 0, "a provider's trouble is not the daemon's"
    (shown,) = (one for one in status["providers"] if one["name"] == provider)
    assert (shown["state"], shown["problem"]["class"]) == ("paused", "provider")
    assert shown["problem"]["message"] and shown["problem"]["hint"] and shown["next_probe_at"]
    text = (await box.uploaderd("status")).out
    assert shown["problem"]["message"] in text and shown["problem"]["hint"] in text
    return shown


async def _heals(box: Box, places: Mapping[str, Place], provider: str) -> None:
    rows = await box.until_safe(1)
    assert rows["1.ts"].uploads[provider].attempts <= 3
    await assert_whole(places[provider], rows["1.ts"].uploads[provider].key, b"one")
    status = await box.status()
    assert (status["state"], status["reasons"]) == ("SAFE", [])
    (shown,) = (one for one in status["providers"] if one["name"] == provider)
    assert (shown["state"], shown["problem"]) == ("ok", None)


DENIED = {
    "s3": {"s3:PutObject", "s3:GetObject", "s3:ListBucket"},
    "azure": {"PutBlob", "PutBlock", "PutBlockList"},
    "gcs": {"storage.objects.create"},
}


@pytest.mark.parametrize("cloud", ["s3", "azure", "gcs"])
async def test_a_refused_login_pauses_the_provider_until_it_is_allowed(
    cloud: str, box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    """The same key, allowed later: nothing is told to the daemon."""
    folder = box.source()
    box.send_to({cloud: places[cloud], "directory": places["directory"]})
    deny(endpoint, cloud, DENIED[cloud])
    (folder / "1.ts").write_bytes(b"one")
    with box.run():
        shown = await _paused(box, cloud)
        assert shown["waiting"] == 1
        await box.until(lambda: box.uploads("directory")["1.ts"].state == "verified")
        deny(endpoint, cloud, set())
        await _heals(box, places, cloud)


@pytest.mark.parametrize("cloud", ["s3", "azure", "gcs"])
async def test_a_missing_bucket_pauses_the_provider_until_it_is_there(
    cloud: str, box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source()
    box.send_to({cloud: places[cloud]})
    table = box.providers[cloud] = dict(places[cloud].missing_bucket)
    (folder / "1.ts").write_bytes(b"one")
    with box.run():
        shown = await _paused(box, cloud)
        name = table.get("container") or table["bucket"]
        assert name in shown["problem"]["message"] + shown["problem"]["hint"]
        endpoint.call(lambda: foreign.create_bucket(endpoint, cloud, name))
        rows = await box.until_safe(1)
        assert rows["1.ts"].uploads[cloud].attempts <= 3
        assert (await box.status())["state"] == "SAFE"


async def test_an_absent_folder_pauses_the_directory_until_it_is_there(
    box: Box, places: Mapping[str, Place]
) -> None:
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    target = box.providers["directory"]["path"]
    os.rmdir(target)
    (folder / "1.ts").write_bytes(b"one")
    with box.run():
        shown = await _paused(box, "directory")
        assert target in shown["problem"]["message"] + shown["problem"]["hint"]
        os.mkdir(target)
        await _heals(box, places, "directory")


async def test_a_missing_source_is_no_reason_to_end_and_is_taken_up_when_it_comes(
    box: Box, places: Mapping[str, Place]
) -> None:
    folder = box.source()
    other = box.source("yard")
    os.rmdir(folder)
    box.send_to({"directory": places["directory"]})
    (other / "2.ts").write_bytes(b"two")
    with box.run() as daemon:
        await daemon.says("the source is missing; nothing of it counts as deleted, and it goes on by itself")
        await box.until_safe(1)
        status = await box.status()
        assert status["state"] == "FAILING"
        assert any("hall" in reason and str(folder) in reason for reason in status["reasons"])
        states = {one["name"]: one["state"] for one in status["sources"]}
        assert states == {"hall": "missing", "yard": "ok"}
        folder.mkdir()
        (folder / "1.ts").write_bytes(b"one")
        rows = await box.until_safe(2)
        assert rows["1.ts"].source == "hall"
        assert (await box.status())["state"] == "SAFE"


def _bound_by_modes() -> list[str]:
    """What to put before the daemon so that file modes count for it: root's override is taken away."""
    if os.geteuid() != 0:
        return []
    assert shutil.which("setpriv"), "setpriv is part of util-linux, which every Debian and Ubuntu has"
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


async def test_an_unreadable_file_is_held_and_goes_once_it_can_be_read(
    box: Box, places: Mapping[str, Place]
) -> None:
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    secret = folder / "secret.ts"
    secret.write_bytes(b"secret")
    secret.chmod(0)
    (folder / "1.ts").write_bytes(b"one")
    with box.run(before=_bound_by_modes()) as daemon:
        await box.until_safe(1)
        await box.until(lambda: "secret.ts" in box.recordings())
        status = await box.status()
        assert status["state"] == "FAILING"
        (troubled,) = status["troubled"]
        assert (troubled["path"], troubled["state"]) == ("secret.ts", "held")
        assert (
            "cannot be read" in troubled["message"] and "let the daemon's user read it" in troubled["message"]
        )
        why = await box.uploaderd("why", str(secret))
        assert "cannot be read" in why.out
        secret.chmod(0o644)
        rows = await box.until_safe(2)
        await assert_whole(places["directory"], rows["secret.ts"].uploads["directory"].key, b"secret")
        assert len(daemon.said("recording held")) == 1, "it was reported again and again"
        assert (await box.status())["state"] == "SAFE"


async def test_a_folder_that_is_closed_while_the_daemon_watches_is_not_called_safe(
    box: Box, places: Mapping[str, Place]
) -> None:
    """At once, though the next sweep is minutes away; and it heals by itself."""
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    (folder / "known").mkdir()
    (folder / "known" / "1.ts").write_bytes(b"one")
    with box.run(before=_bound_by_modes()):
        await box.until_safe(1)
        for number, closed in enumerate((folder / "known", folder / "new"), start=2):
            if closed.exists():
                closed.chmod(0)
            else:
                closed.mkdir(mode=0)
            (closed / f"{number}.ts").write_bytes(b"dark")
            status = await box.until_word("FAILING")
            assert f"cannot be looked into ({closed.name}/: Permission denied)" in status["reasons"][0]
            closed.chmod(0o755)
            await box.until_safe(number)
            await box.until_word("SAFE")


async def test_what_cannot_be_read_is_not_called_safe_by_a_job(box: Box, places: Mapping[str, Place]) -> None:
    """`run --until-safe` ends with 1 for a file, and for a folder, that it could not look into."""
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    (folder / "1.ts").write_bytes(b"one")
    (folder / "secret.ts").write_bytes(b"secret")
    (folder / "closed").mkdir()
    (folder / "closed" / "2.ts").write_bytes(b"two")
    for nobodys, told in (
        ("secret.ts", {"event": "everything is settled", "safe": 2, "in_trouble": 1}),
        (
            "closed",
            {
                "event": "not all folders could be looked into; their files are unknown",
                "folders": {"hall": "closed/: Permission denied"},
            },
        ),
    ):
        (folder / nobodys).chmod(0)
        with box.run("--until-safe", before=_bound_by_modes()) as daemon:
            assert await daemon.ended() == 1
            assert daemon.said(**told)
        (folder / nobodys).chmod(0o755)
    with box.run("--until-safe", before=_bound_by_modes()) as daemon:
        assert await daemon.ended() == 0
    assert len(box.recordings()) == 3


@pytest.mark.parametrize("cloud", ["s3", "azure", "gcs"])
async def test_a_wrong_key_pauses_the_provider_until_a_reload_brings_the_right_one(
    cloud: str, box: Box, places: Mapping[str, Place]
) -> None:
    folder = box.source()
    box.send_to({cloud: places[cloud]})
    box.providers[cloud] = dict(places[cloud].wrong_login)
    (folder / "1.ts").write_bytes(b"one")
    with box.run() as daemon:
        await _paused(box, cloud)
        box.send_to({cloud: places[cloud]})
        box.write()
        daemon.signal(signal.SIGHUP)
        await _heals(box, places, cloud)


async def test_a_rotated_secret_file_is_taken_without_being_told(
    box: Box, places: Mapping[str, Place], tmp_path: Path
) -> None:
    """A mounted Kubernetes Secret: the folder is a link, and changes by one that takes its place."""
    folder = box.source()
    box.send_to({"s3": places["s3"]})
    right = box.providers["s3"].pop("secret_access_key")
    for name, secret in (("old", "not-the-right-key"), ("new", right)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "providers__s3__secret_access_key").write_text(secret + "\n")
    mounted = tmp_path / "mounted"
    mounted.symlink_to("old")
    (folder / "a.ts").write_bytes(b"a")
    with box.run("--secrets-dir", str(mounted)) as daemon:
        await daemon.says("provider paused")
        (tmp_path / "link").symlink_to("new")
        (tmp_path / "link").replace(mounted)
        await daemon.says("secret files have changed")
        await box.until_safe(1)
    assert right not in daemon.text()


async def test_a_folder_that_leads_into_a_source_is_not_used_until_it_leads_elsewhere(
    box: Box, places: Mapping[str, Place], tmp_path: Path
) -> None:
    """Through a link, which the configuration cannot show: the file would be taken for its own copy."""
    folder = box.source(key="{path}")
    (folder / "1.ts").write_bytes(b"one")
    link = tmp_path / "nas"
    link.symlink_to(folder)
    box.send_to({"directory": places["directory"]})
    box.providers["directory"]["path"] = str(link)
    with box.run():
        shown = await _paused(box, "directory")
        assert "source hall" in shown["problem"]["message"]
        assert [path.name for path in folder.iterdir()] == ["1.ts"], "nothing was written there"
        link.with_name("new").symlink_to(places["directory"].settings["path"])
        link.with_name("new").rename(link)
        await _heals(box, places, "directory")
