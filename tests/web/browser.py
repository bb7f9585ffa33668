"""Headless Chromium, driven over its own protocol (https://chromedevtools.github.io/devtools-protocol/).

aiohttp, which uploaderd has, speaks WebSocket: nothing else is needed than the browser itself.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from tests.needs import MissingError

NAMES: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
SWITCHES: Final = (
    "--headless",
    "--no-sandbox",  # as root it refuses to start with one; it sees our own pages alone
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)
WITHIN: Final = 30.0
"""Seconds after which a browser that does not do what it should has failed the test."""


class Tab:
    """One tab. What it asked for over the network and complained of is kept."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._happened = asyncio.Event()
        self._loads = 0
        self._listening = asyncio.create_task(self._listen())
        self.requested: list[str] = []
        self.complaints: list[str] = []

    async def close(self) -> None:
        await self._socket.close()
        await self._listening

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(WITHIN):
            told = await reply
        assert "error" not in told, f"{method}: {told['error']}"
        result: dict[str, Any] = told["result"]
        return result

    async def open(self, url: str) -> None:
        """Go there, and wait until it has loaded."""
        before = self._loads
        told = await self.ask("Page.navigate", url=url)
        assert "errorText" not in told, told["errorText"]
        await self._loaded(before)

    async def follow(self, selector: str) -> None:
        """Click what leads to another page, and wait until that has loaded."""
        before = self._loads
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")
        await self._loaded(before)

    async def _loaded(self, before: int) -> None:
        async with asyncio.timeout(WITHIN):
            while self._loads == before:
                self._happened.clear()
                await self._happened.wait()

    async def run(self, script: str) -> Any:
        """What an expression comes to; promises are waited for."""
        told = await self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, script: str, also: Callable[[], Awaitable[None]] | None = None) -> Any:
        """Look until the expression holds; what it came to. `also` is done before each look."""
        async with asyncio.timeout(WITHIN):
            while True:
                if also is not None:
                    await also()
                if found := await self.run(script):
                    return found
                await asyncio.sleep(0.02)  # between two looks at the page

    async def press(self, key: str, code: int) -> None:
        """A key, as the keyboard sends it."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            await self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    async def shown(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """The screen that it is shown on."""
        phone = width < 600
        await self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, file: Path) -> None:
        """The whole page as a PNG."""
        size = (await self.ask("Page.getLayoutMetrics"))["cssContentSize"]
        told = await self.ask(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
        )
        file.write_bytes(base64.b64decode(told["data"]))

    async def _listen(self) -> None:
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._replies.pop(told["id"]).set_result(told)
                continue
            parameters = told["params"]
            match told["method"]:
                case "Page.loadEventFired":
                    self._loads += 1
                case "Network.requestWillBeSent":
                    self.requested.append(parameters["request"]["url"])
                case "Log.entryAdded":
                    self.complaints.append(parameters["entry"]["text"])
                case "Runtime.exceptionThrown":
                    self.complaints.append(str(parameters["exceptionDetails"]))
            self._happened.set()
        for reply in self._replies.values():
            reply.cancel()


class Browser:
    """A browser's process, and its tabs."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self._port = port
        self._session = session
        self._tabs: list[Tab] = []

    async def tab(self, *, scripts: bool = True) -> Tab:
        """A new one; without `scripts`, as for who has switched JavaScript off."""
        async with self._session.put(f"http://127.0.0.1:{self._port}/json/new?about:blank") as answer:
            address = (await answer.json())["webSocketDebuggerUrl"]
        tab = Tab(await self._session.ws_connect(address, max_msg_size=0))
        self._tabs.append(tab)
        for domain in ("Page", "Network", "Log", "Runtime"):
            await tab.ask(f"{domain}.enable")
        if not scripts:
            await tab.ask("Emulation.setScriptExecutionDisabled", value=True)
        return tab

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tab in self._tabs:
            await tab.close()


@asynccontextmanager
async def running() -> AsyncIterator[Browser]:
    """A browser of one's own.

    Raises:
        MissingError: the machine has none.
    """
    command = next(filter(None, map(shutil.which, NAMES)), None)
    if command is None:
        raise MissingError(
            "no Chromium is there (python3 tests/run.py --setup installs it on Debian, as root)"
        )
    with tempfile.TemporaryDirectory(prefix="ud-browser-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            command,
            *SWITCHES,
            f"--user-data-dir={folder}",
            env={**os.environ, "HOME": folder},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # it starts others, which end with it only if they are told
        )
        try:
            port = await _port(process, Path(folder) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session, Browser(port, session) as browser:
                yield browser
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _port(process: asyncio.subprocess.Process, file: Path) -> int:
    """It writes down where it listens."""
    async with asyncio.timeout(WITHIN):
        while not file.exists() or not (told := file.read_text().split()):
            assert process.returncode is None, f"the browser ended with {process.returncode}"
            await asyncio.sleep(0.02)  # between two looks at its file
    return int(told[0])
