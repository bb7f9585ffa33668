"""The status page in a real browser: each state, light and dark, wide and narrow, with and without scripts.

`TESTS_SCREENSHOTS=folder` keeps pictures of each.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from tests.cli import evening as evenings
from tests.cli.evening import Evening
from tests.needs import MissingError, lacking
from tests.web import browser, scenes
from tests.web.browser import Browser, Tab
from tests.web.conftest import Face, Faces
from uploaderd.errors import Fault
from uploaderd.ledger import health
from uploaderd.live import Live
from uploaderd.model import FailureClass, Milliseconds
from uploaderd.web.feed import EVERY_SECONDS

AUDIT: Final = Path(__file__).with_name("audit.js").read_text(encoding="utf-8")
WORDS: Final = {"empty": "SAFE", "SAFE": "SAFE", "BEHIND": "BEHIND", "FAILING": "FAILING"}
HASTE: Final = "{ const wait = setTimeout; window.setTimeout = (f, ms, ...a) => wait(f, ms / 25, ...a); }"
"""Lets the page's own patience run out sooner."""


@pytest_asyncio.fixture
async def chromium() -> AsyncIterator[Browser]:
    try:
        async with browser.running() as running:
            yield running
    except MissingError as error:
        lacking(error, demanded=os.geteuid() == 0)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The scene whose live values the daemon tells."""
    scene = {"name": "empty"}
    monkeypatch.setattr(Live, "values", lambda _: scenes.live(scene["name"]))
    return scene


async def look(tab: Tab, face: Face, path: str, picture: str) -> None:
    """Open it on each screen; nothing may be amiss."""
    folder = os.environ.get("TESTS_SCREENSHOTS")
    for dark in (False, True):
        for width in (1200, 390):
            await tab.shown(width=width, dark=dark)
            await tab.open(f"{face.url}{path}")
            assert await tab.run(AUDIT) == [], f"{picture}, {width} wide, {dark=}"
            if folder is not None:
                await tab.screenshot(Path(folder) / f"{picture}-{'dark' if dark else 'light'}-{width}.png")


@pytest.mark.parametrize("name", list(scenes.SCENES))
async def test_every_state_on_every_screen(
    name: str, empty: Evening, faces: Faces, chromium: Browser, told: dict[str, str]
) -> None:
    told["name"] = name
    await scenes.SCENES[name](empty)
    empty.config = scenes.named(empty.config)
    face = await faces.make(empty)
    tab = await chromium.tab()
    await look(tab, face, "/", name)
    assert await tab.run("document.querySelector('h1').textContent") == f"Is everything safe? {WORDS[name]}"
    assert await tab.run("document.title") == f"{WORDS[name]} · uploaderd on hall-3"
    if name == "FAILING":
        text = await tab.run("document.body.innerText")
        for said in (
            "the disk of nas is full",
            "free some space, or enlarge it",
            "shorten `key`",
            "(attempt 2)",
            "gate is not there",
            "nothing of it counts as deleted meanwhile",
            "partly unseen",
            "let the daemon's user read them",
            "18.0 MiB/s",
        ):
            assert said in text
        (row,) = (await face.json("/api/v1/recordings?state=waiting"))["recordings"]
        await look(tab, face, f"/recordings/{row['id']}", "recording")
        text = await tab.run("document.body.innerText")
        for said in ("the connection was reset", "nas is asked again in 32 s", "attempt 1: retrying"):
            assert said in text
    assert tab.complaints == []
    ours = (face.url, "data:image/svg+xml")
    assert [url for url in tab.requested if not url.startswith(ours)] == []


async def test_all_of_it_works_without_javascript(lived: Evening, faces: Faces, chromium: Browser) -> None:
    face = await faces.make(lived)
    tab = await chromium.tab(scripts=False)
    await tab.open(face.url)
    await tab.run("document.getElementById('by-q').value = '17-4'")
    await tab.follow("form button")
    assert "q=17-4" in await tab.run("location.search")
    rows = "[...document.querySelectorAll('tbody th a')].map(one => one.textContent).join()"
    assert await tab.run(rows) == "cam1/17-40.mp4"
    await tab.follow("tbody th a")
    assert await tab.run("document.querySelector('h1.path').textContent") == "cam1/17-40.mp4"
    assert await tab.run("document.querySelector('.history').innerText.includes('the connection was reset')")
    assert "UTC" in await tab.run("document.querySelector('time').textContent")


async def test_what_changes_is_seen_at_once_and_the_reader_stays_where_they_are(
    empty: Evening, faces: Faces, chromium: Browser, told: dict[str, str]
) -> None:
    await scenes.nothing_yet(empty)
    face = await faces.make(empty)
    tab = await chromium.tab()
    await tab.ask("Page.addScriptToEvaluateOnNewDocument", source=HASTE)
    await tab.open(face.url)
    await tab.run("document.getElementById('lately-table').open = true; window.same = true")
    await tab.run("document.querySelector('.figures a').focus()")

    async def later() -> None:
        face.clock.advance(EVERY_SECONDS)

    full = Fault("the disk is full", failure=FailureClass.PROVIDER, code="ENOSPC", hint="free some space")
    at = Milliseconds(evenings.NOW + 90_000)
    await empty.ledger.run(health.provider_troubled, empty.providers["nas"], full, at)
    await empty.found(b"<img src=x onerror=alert(1)>.mp4", 10)
    await tab.until("document.querySelector('h1').textContent.endsWith('FAILING')", later)
    assert await tab.run("document.title.startsWith('FAILING')")
    assert "free some space" in await tab.run("document.querySelector('.card.is-bad').innerText")
    # The table follows, once the reader is not in it; a path that looks like markup is a path.
    await tab.until(
        "document.querySelector('tbody th a')?.textContent == '<img src=x onerror=alert(1)>.mp4'", later
    )
    assert await tab.run("document.querySelectorAll('img').length") == 0
    assert await tab.run("window.same && document.getElementById('lately-table').open")
    assert await tab.run("document.activeElement.matches('.figures a')")
    assert tab.complaints == []


async def test_a_daemon_that_has_gone_is_said_and_so_is_its_return(
    lived: Evening, faces: Faces, chromium: Browser, told: dict[str, str]
) -> None:
    face = await faces.make(lived)
    tab = await chromium.tab()
    await tab.ask("Page.addScriptToEvaluateOnNewDocument", source=HASTE)
    await tab.open(face.url)
    hidden = "document.getElementById('lost').hidden"
    assert await tab.run(hidden)
    await faces.close()
    await tab.until(f"!{hidden}")
    assert "uploaderd status" in await tab.run("document.getElementById('lost').innerText")
    assert await tab.run("document.title.startsWith('NO ANSWER')")
    if (folder := os.environ.get("TESTS_SCREENSHOTS")) is not None:
        await tab.screenshot(Path(folder) / "lost-light-1200.png")
    await faces.make(lived, listen=face.listen)
    await tab.until(hidden)
    assert await tab.run("document.title.startsWith('FAILING')")


async def test_it_is_walked_with_the_keyboard(lived: Evening, faces: Faces, chromium: Browser) -> None:
    tab = await chromium.tab()
    await tab.open((await faces.make(lived)).url)
    await tab.press("Tab", 9)
    assert await tab.run("document.activeElement.className") == "skip"
    await tab.press("Enter", 13)
    assert await tab.until("document.activeElement.id") == "main"
    reached = []
    for _ in range(60):
        await tab.press("Tab", 9)
        reached.append(await tab.run("document.activeElement.id || document.activeElement.textContent"))
        outline = await tab.run("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"{reached[-1]}: nobody sees where they are"
        if reached[-1] == "cam1/17-20.mp4":
            break
    for wanted in ("by-q", "by-state", "by-source", "by-provider", "Search", "cam2/empty.mp4"):
        assert wanted in reached


async def test_what_is_typed_is_text_and_what_is_wrong_is_said(lived: Evening, faces: Faces) -> None:
    face = await faces.make(lived)
    text = await (await face.get("/?q=%22%3E%3Cscript%3E")).text()
    assert "&quot;&gt;&lt;script&gt;" in text and '"><script>' not in text
    assert "No recording is like that" in text
    for query, said in (
        ("state=saved", "did you mean"),
        ("source=camera", "cameras"),
        ("cursor=x", "a number"),
    ):
        answer = await face.get(f"/?{query}")
        assert (answer.status, said in await answer.text()) == (400, True)
    assert (await face.get("/recordings/none")).status == 404
    policy = (await face.get("/")).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


async def test_without_its_ledger_it_tells_the_rest(lived: Evening, faces: Faces) -> None:
    face = await faces.make(lived)
    for file in lived.folder.glob("ledger.db*"):
        file.rename(file.with_name(f"away-{file.name}"))
    face.clock.advance(2)
    text = await (await face.get("/")).text()
    assert "FAILING" in text and "there is no ledger" in text
