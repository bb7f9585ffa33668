"""Ten faults, made for real and seen from outside: `status` and `why` name cause and remedy, as
docs/troubleshooting.md shows them; and so do the pages."""

from __future__ import annotations

import asyncio
import html
import os
import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tests.end_to_end.box import ROOT, Box
from tests.ledger.small_disk import small_disk
from tests.needs import MissingError, lacking
from tests.strict import StrictServer, foreign
from uploaderd.report.unix_http import UnixConnection

PAGE: Final = ROOT / "docs" / "troubleshooting.md"
NO_ROUTE: Final = "http://255.255.255.255"
"""The kernel refuses a connection to it at once, as it does to any other where no cable is plugged in."""
TRUNCATED: Final = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\1\0\0mdat" + bytes(4096)


def alike(text: str, box: Box | None = None) -> list[str]:
    """Its lines, without what differs from run to run: places, times, sizes, blanks in tables."""
    if box is not None:
        text = text.replace(str(box.folder), "/srv")
    text = re.sub(r"http://127\.0\.0\.1:\d+", "https://store.example", text)
    text = text.replace(NO_ROUTE, "https://store.example")
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "WHEN", text)
    text = re.sub(r"/\d{4}/\d\d/\d\d/", "/DAY/", text)
    text = re.sub(r"\(for [^)]*\)|in \d+ s\b|in \d+s\b|\bnow\b", "SOON", text)
    text = re.sub(r"\(attempt \d+\)", "(attempt N)", text)
    text = re.sub(r"\b\d+:\d\d:\d\d\b", "H:MM:SS", text)
    text = re.sub(r"\(\d+ bytes free\)|\b\d+ bytes of", "SIZE", text)
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


def block(text: str, name: str) -> str:
    """Of `status`: the line that begins with the name, and those below it that belong to it."""
    found = re.search(rf"^  {name} .*\n(?:      .*\n)*", text, re.MULTILINE)
    assert found is not None, f"{name} is not in\n{text}"
    return found.group()


def gate(text: str, name: str) -> str:
    """Of `why`: the gate of that name that holds, with its remedy."""
    found = re.search(rf"^  HOLDS +{name}  .*\n(?:  remedy .*\n)?", text, re.MULTILINE)
    assert found is not None, f"{name} is not in\n{text}"
    return found.group()


def documented(shown: Iterable[str], box: Box) -> None:
    """Each line of the output stands on the page."""
    page = set(alike(PAGE.read_text(encoding="utf-8")))
    for text in shown:
        for line in alike(text, box):
            # How many recordings a table counts, and since when, is not what the page is about.
            if re.match(r"(cause|remedy|HOLDS|held|STOPPED|Daemon|next: nothing)", line):
                assert line in page, f"docs/troubleshooting.md lacks, or tells otherwise:\n{line}"


async def test_logins_buckets_mounts_clock_network_and_a_dead_daemon(
    box: Box, endpoint: StrictServer, tmp_path: Path
) -> None:
    hall = box.source()
    (hall / "1.ts").write_bytes(b"one")
    os.rmdir(box.source("yard"))
    cams = box.source("cams", container_check="require")
    (cams / "cut.mp4").write_bytes(TRUNCATED)
    # A folder that lies on no mount but `/`, wherever temporary files do; nothing is written to it.
    (tmp_path / "nas").symlink_to("/etc")
    _arrange(box, endpoint, tmp_path)
    with box.run() as daemon:
        states = {**dict.fromkeys(box.providers, "paused"), "away": "retrying", "good": "ok"}
        await box.until(lambda: _states(box) == states)
        await box.until(lambda: box.recordings().get("cut.mp4"))
        status = (await box.uploaderd("status")).out
        why = (await box.uploaderd("why", str(hall / "1.ts"))).out
        for name in states:
            if name != "good":
                assert "remedy" in block(status, name) and "remedy" in gate(why, name)
                documented([block(status, name), gate(why, name)], box)
        missing = await box.uploaderd("why", str(box.folder / "recordings" / "yard" / "2.ts"))
        documented([block(status, "yard"), gate(missing.out, "source")], box)
        held = (await box.uploaderd("why", str(cams / "cut.mp4"))).out
        documented([block(status, "held"), gate(held, "held")], box)

        recordings = box.recordings()
        pages = [await asyncio.to_thread(_page, box, "/")]
        pages += [
            await asyncio.to_thread(_page, box, f"/recordings/{recordings[name].id}")
            for name in ("1.ts", "cut.mp4")
        ]
        problems = [one["problem"] for one in (await box.status())["providers"] if one["problem"] is not None]
        assert len(problems) == len(states) - 1
        for problem in problems:
            for page in pages[:2]:
                assert problem["message"] in page and problem["hint"] in page
        assert "looks truncated" in pages[2]

        endpoint.clock.offset = 3600.0
        (hall / "3.ts").write_bytes(b"three")
        await box.until(lambda: _states(box)["good"] == "paused")
        status = (await box.uploaderd("status")).out
        why = (await box.uploaderd("why", str(hall / "3.ts"))).out
        # A trial that followed on a slow machine was refused in the same words.
        (sent,) = re.findall("sending '.*?'", PAGE.read_text(encoding="utf-8"))[:1]
        shown = (block(status, "good"), gate(why, "good"))
        documented([text.replace("a trial write", sent) for text in shown], box)

        daemon.kill()
        (hall / "4.ts").write_bytes(b"four")
        status = (await box.uploaderd("status")).out
        why = (await box.uploaderd("why", str(hall / "4.ts"))).out
        assert status.startswith("STOPPED")
        documented([status.partition("\n")[0], _daemon_line(status), gate(why, "daemon")], box)


async def test_a_full_disk(box: Box, endpoint: StrictServer, tmp_path: Path) -> None:
    hall = box.source()
    try:
        with small_disk(tmp_path / "nas", "1M") as full, small_disk(tmp_path / "state") as state:
            full.fill()
            ledger = tmp_path / "state" / "ledger.db"
            box.providers["nas"] = {"type": "directory", "path": str(tmp_path / "nas")}
            (hall / "1.ts").write_bytes(b"one")
            with box.run(env={"UPLOADERD_LEDGER__PATH": str(ledger)}):
                env = {"UPLOADERD_LEDGER__PATH": str(ledger)}

                async def says(command: str, *words: str) -> str:
                    return (await box.uploaderd(command, *words, env=env)).out

                await _until_said(says, "No space left on device")
                documented([block(await says("status"), "nas"), gate(await says("why", "1.ts"), "nas")], box)
                state.fill()
                (hall / "2.ts").write_bytes(b"two")
                await _until_said(says, "the disk that holds the ledger is full")
                status, why = await says("status"), await says("why", "2.ts")
                documented([status[status.index("Ledger") :], gate(why, "ledger")], box)
                state.free()
    except MissingError as error:
        lacking(error)


def _arrange(box: Box, endpoint: StrictServer, folder: Path) -> None:
    """Providers that each suffer from something, and a good one."""
    for protocol in ("s3", "azure", "gcs"):
        foreign.create_bucket(endpoint, protocol, "recordings")
    account = endpoint.s3.account
    endpoint.s3.add_account("temporary", "not-a-real-secret", session_token="not-a-real-token").expired = True
    endpoint.azure.account.denied["key"] = {"PutBlob", "PutBlock", "PutBlockList"}
    s3: dict[str, Any] = {
        "type": "s3",
        "bucket": "recordings",
        "region": "us-east-1",
        "endpoint_url": endpoint.url,
        "access_key_id": account.access_key,
        "secret_access_key": account.secret_key,
    }
    box.providers = {
        "bad_key": s3 | {"secret_access_key": "not-the-right-secret", "prefix": "a"},
        "expired": s3
        | {"access_key_id": "temporary", "secret_access_key": "not-a-real-secret"}
        | {"session_token": "not-a-real-token", "prefix": "b"},
        "no_bucket": {
            "type": "gcs",
            "bucket": "recordngs",
            "endpoint_url": endpoint.gcs_url,
            "credentials_file": str(endpoint.gcs.write_credentials(folder / "key.json")),
        },
        "forbidden": {
            "type": "azure",
            "account": endpoint.azure.account.name,
            "account_key": endpoint.azure.account.key,
            "container": "recordings",
            "endpoint_url": endpoint.azure_url,
        },
        "nas": {"type": "directory", "path": str(folder / "nas"), "require_mount": True},
        "away": s3 | {"endpoint_url": NO_ROUTE},
        "good": s3,
    }


def _page(box: Box, path: str) -> str:
    """What a page of the daemon's says, without its markup."""
    with closing(UnixConnection(box.sockets / "control.sock", 10)) as connection:
        connection.request("GET", path)
        return html.unescape(re.sub("<[^>]*>", "", connection.getresponse().read().decode()))


def _states(box: Box) -> dict[str, str]:
    with box.reading() as conn:
        return dict(conn.execute("SELECT name, state FROM providers")) if conn is not None else {}


def _daemon_line(status: str) -> str:
    return next(line for line in status.splitlines() if line.startswith("Daemon"))


async def _until_said(says: Any, text: str) -> None:
    for _ in range(60):
        if text in await says("status"):
            return
    raise AssertionError(f"status never said {text!r}:\n{await says('status')}")
