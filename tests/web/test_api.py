"""The command line's models over HTTP: filtered, paged, and refused with the nearest right word."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.cli import many
from tests.cli.evening import Evening
from tests.cli.shapes import conforms
from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.conftest import box, endpoint, places
from tests.ledger.steps import counted
from tests.web.conftest import Faces, free_port
from uploaderd.ledger import connect_readonly, paging, stretches
from uploaderd.ledger.paging import Page
from uploaderd.ledger.stretches import Wanted
from uploaderd.report import model
from uploaderd.web.reading import Reading

__all__ = ["box", "endpoint", "places"]


async def test_the_models_are_those_of_the_command_line(lived: Evening, faces: Faces) -> None:
    face = await faces.make(lived)
    status = await face.json("/api/v1/status")
    conforms(status, model.Status)
    assert (status["state"], status["recordings"]["alarming"]) == ("FAILING", 3)
    page = await face.json("/api/v1/recordings")
    assert page["next"] is None
    for one in page["recordings"]:
        conforms(one, model.Recording)
        assert await face.json(f"/api/v1/recordings/{one['id'].lower()}") == one
    assert [one["path"] for one in page["recordings"]] == [
        "cam2/empty.mp4",
        "cam2/17-55.mp4",
        "cam2/17-50.mp4",
        "cam2/odd%0A%FF.mp4",
        "cam1/17-40.mp4",
        "cam1/17-20.mp4",
    ]
    told = await face.json(f"/api/v1/recordings/{page['recordings'][4]['id']}/history")
    for line in told["history"]:
        conforms(line, model.HistoryLine)
    assert [(line["provider"], line["outcome"]) for line in told["history"] if line["type"] == "attempt"] == [
        ("s3_main", "retrying"),
        ("nas", "retrying"),
    ]


async def test_filters_and_pages(lived: Evening, faces: Faces) -> None:
    face = await faces.make(lived)

    async def paths(query: str) -> list[str]:
        return [one["path"] for one in (await face.json(f"/api/v1/recordings?{query}"))["recordings"]]

    assert await paths("state=waiting") == ["cam1/17-40.mp4"]
    assert await paths("source=gate") == []
    assert await paths("provider=nas&state=safe") == ["cam1/17-20.mp4"]
    assert await paths("q=17-5&source=cameras") == ["cam2/17-55.mp4", "cam2/17-50.mp4"]
    for odd in ("odd%250A%25FF", "odd%0A"):  # as it is shown, and as it is
        assert await paths(f"q={odd}") == ["cam2/odd%0A%FF.mp4"]
    first = await face.json("/api/v1/recordings?limit=4")
    rest = await face.json(f"/api/v1/recordings?limit=4&cursor={first['next']}")
    assert (len(first["recordings"]), len(rest["recordings"]), rest["next"]) == (4, 2, None)
    assert first["recordings"] + rest["recordings"] == (await face.json("/api/v1/recordings"))["recordings"]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("recordings?stat=safe", 400, "unknown parameter 'stat'; did you mean \"state\"?"),
        ("recordings?state=saved", 400, "no state is called 'saved'; did you mean \"safe\"?"),
        ("recordings?source=camera", 400, "no source is called 'camera'; did you mean \"cameras\"?"),
        ("recordings?provider=nass", 400, "no provider is called 'nass'; did you mean \"nas\"?"),
        ("recordings?limit=0", 400, "limit is a number from 1 to 500"),
        ("recordings?limit=%D9%A3", 400, "limit is a number from 1 to 500"),
        ("recordings?cursor=-1", 400, "cursor is a number from 1 to"),
        (f"recordings?q={'x' * 4097}", 400, "q has more than 4096 characters"),
        ("recordings/nothing", 404, "the ledger knows no recording with the id 'nothing'"),
        ("recordings/01JD2Y3Z4M000000000000000Z/history", 404, "the ledger knows no recording with the id"),
    ],
)
async def test_what_is_not_understood(
    lived: Evening, faces: Faces, path: str, status: int, message: str
) -> None:
    answer = await (await faces.make(lived)).get(f"/api/v1/{path}")
    assert answer.status == status
    assert message in (await answer.json())["error"]["message"]


async def test_a_ledger_that_is_gone_is_said(lived: Evening, faces: Faces) -> None:
    face = await faces.make(lived)
    for file in lived.folder.glob("ledger.db*"):
        file.rename(file.with_name(f"away-{file.name}"))
    answer = await face.get("/api/v1/recordings")
    assert answer.status == 503
    assert "there is no ledger" in (await answer.json())["error"]["message"]
    assert (await face.json("/api/v1/status"))["state"] == "FAILING"


async def test_the_status_is_made_once_a_second_however_many_ask(
    lived: Evening, faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    face, made, look = await faces.make(lived), [], Reading._look

    def counted(*given: Any) -> Any:
        made.append(1)
        return look(*given)

    monkeypatch.setattr(Reading, "_look", counted)
    for _ in range(5):
        await face.json("/api/v1/status")
    assert len(made) <= 1
    face.clock.advance(1)
    await face.json("/api/v1/status")
    assert 1 <= len(made) <= 2


async def test_ready_is_more_than_alive(lived: Evening, faces: Faces) -> None:
    face = await faces.make(lived)
    assert (await face.get("/healthz")).status == 200
    answer = await face.get("/readyz")
    assert (answer.status, (await answer.json())["reason"]) == (503, "the daemon is only just starting")


# --- pages of many -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """3,000 recordings; 7 of them wait, and 11 are of another source."""
    file = tmp_path_factory.mktemp("many") / "ledger.db"
    many.fill(file, 3000, waiting=7)
    conn = sqlite3.connect(file)
    conn.execute("INSERT INTO sources (id, name, path) VALUES (2, 'gate', x'2f67')")
    conn.execute("UPDATE recordings SET source_id = 2 WHERE id % 271 = 4")
    conn.commit()
    conn.close()
    conn = connect_readonly(file)
    yield conn
    conn.close()


@pytest.mark.parametrize(
    ("wanted", "condition"),
    [
        (Wanted(), "1"),
        (Wanted(state="waiting"), "state = 'waiting'"),
        (Wanted(source="gate"), "source_id = 2"),
        (Wanted(provider="far", state="safe"), "state = 'safe'"),
        (Wanted(provider="nowhere"), "0"),
        (Wanted(parts=(b"777",)), "instr(path, x'373737') > 0"),
        (Wanted(parts=(b"777", b"/000001500"), source="cameras"), "id IN (777, 1777, 2777, 1500)"),
    ],
)
@pytest.mark.parametrize("patient", [True, False])
def test_pages_leave_nothing_out(
    ledger: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    wanted: Wanted,
    condition: str,
    *,
    patient: bool,
) -> None:
    """Put together they are what is there; though each search is cut off after one step."""
    monkeypatch.setattr(stretches, "STEP", 97)
    expected = [
        row[0] for row in ledger.execute(f"SELECT id FROM recordings WHERE {condition} ORDER BY id DESC")
    ]
    found: list[int] = []
    before, turns = None, 0
    while turns == 0 or before is not None:
        page: Page = paging.page(ledger, wanted, before, 50, lambda: not patient)
        assert len(page.rows) <= 50
        if patient:
            assert len(page.rows) == 50 or page.before is None
        found += [row.row for row in page.rows]
        before, turns = page.before, turns + 1
    assert found == expected


def test_a_page_costs_the_same_however_many_there_are(ledger: sqlite3.Connection) -> None:
    def cost(wanted: Wanted) -> int:
        with counted(ledger) as steps:
            paging.page(ledger, wanted, None, 50, lambda: True)
        return steps.taken

    # 50 recordings of two uploads each take 9,700; a walk through all 3,000 would add as much.
    assert cost(Wanted()) < 15_000
    assert cost(Wanted(state="waiting")) < 5000
    assert cost(Wanted(parts=(b".mp4",))) < 15_000


# --- with the real daemon ------------------------------------------------------------------------


async def test_a_daemon_answers_over_tcp_and_gives_urls_for_the_token_alone(
    box: Box, places: dict[str, Place]
) -> None:
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    listen, token = f"127.0.0.1:{free_port()}", "not-a-real-token"
    (folder / "a.mp4").write_bytes(b"a")
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:

        async def get(path: str) -> tuple[int, Any]:
            async with session.get(f"http://{listen}/{path}") as answer:
                return answer.status, json.loads(await answer.text())

        with box.run(env={"UPLOADERD_WEB__LISTEN": listen, "UPLOADERD_WEB__TOKEN": token}) as daemon:
            await daemon.says("answering over TCP")
            recording = (await box.until_safe(1))["a.mp4"].id
            assert await get("readyz") == (200, {"ready": True, "reason": None})
            status, found = await get(f"api/v1/recordings/{recording}/url?expires=5m")
            assert (status, found["provider"], found["expires_at"]) == (200, "directory", None)
            assert Path(urlsplit(found["url"]).path).read_bytes() == b"a"
            for query, wanted, message in (
                ("expires=5", 400, "expires: "),
                ("provider=directry", 404, "did you mean 'directory'?"),
            ):
                status, found = await get(f"api/v1/recordings/{recording}/url?{query}")
                assert (status, message in found["error"]["message"]) == (wanted, True), found
            assert (await get("api/v1/status"))[1]["state"] == "SAFE"
            assert token not in daemon.text()
    with box.run(env={"UPLOADERD_WEB__LISTEN": listen}) as daemon:
        await daemon.says("answering over TCP")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{listen}/api/v1/recordings/{recording}/url") as answer,
        ):
            assert answer.status == 403
