"""A real small upload at one provider, the whole way: write, prove, discard, read back, sign, delete.

Its object lies under a key of its own, behind the provider's prefix, and says in its text what it is.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from uploaderd.config import AzureProvider, DirectoryProvider, S3Provider
from uploaderd.config import Provider as ProviderConfig
from uploaderd.doctor.findings import Finding, Found, Result, fail, looked, of_fault, ok, warn
from uploaderd.errors import CannotLook, Fault
from uploaderd.model import Checksum, ObjectInfo, ObjectSpec, Token
from uploaderd.proof import Verdict, Written, judge, judge_blind
from uploaderd.provider import Deletes, Provider, Signs
from uploaderd.reader import OpenRecording

URL_SECONDS: Final = 60.0
"""For how long the trial's signed URL is good."""

_NAME: Final = ".uploaderd-doctor-"
_LARGEST_REPLY: Final = 64 * 1024
_ARCHIVED: Final = ("GLACIER", "DEEP_ARCHIVE")
"""Storage classes of S3 that cannot be read at once."""


_LOOK: Final = "let the login look at objects, too (docs/providers.md has the smallest policy)"
_FETCH: Final = "let the network here reach it; or correct public_url"

Step = Callable[[], Awaitable[Found]]


class Trial:
    """One trial upload. `findings` carries it out; what it wrote is deleted at the end, whatever happens."""

    def __init__(self, subject: str, provider: Provider, config: ProviderConfig) -> None:
        self._subject = subject
        self._provider = provider
        self._config = config
        prefix = f"{config.prefix}/" if config.prefix else ""
        self._key = f"{prefix}{_NAME}{secrets.token_hex(6)}"
        self._text = (
            f"uploaderd doctor on {socket.gethostname()} wrote this to see whether uploads work. Delete it.\n"
        ).encode()
        self._spec = ObjectSpec(self._key, len(self._text), Token(secrets.token_hex(16)), "text/plain")
        self._content: Checksum | None = None
        self._reply: ObjectInfo | None = None

    async def findings(self) -> AsyncIterator[Finding]:
        """Each step as it ends. Where nothing could be written, the rest is left out."""
        try:
            for finding in await self._step("write", self._write):
                yield finding
            if self._reply is None:
                return
            steps = [("verify", self._verify), ("half-done uploads", self._half_done)]
            if not self._archived():
                steps += [("read back", self._read_back), ("URL", self._url)]
            for check, step in steps:
                for finding in await self._step(check, step):
                    yield finding
        finally:
            # Whoever is told to stop waits for that; it has its time limit.
            deleting = asyncio.create_task(self._step("delete", self._delete))
            try:
                deleted = await asyncio.shield(deleting)
            except asyncio.CancelledError:
                await deleting
                raise
        for finding in deleted:
            yield finding

    async def _step(self, check: str, step: Step) -> list[Finding]:
        async def look() -> list[Found]:
            return [await step()]

        return await looked(self._subject, check, look)

    async def _write(self) -> Found:
        with tempfile.TemporaryDirectory(prefix="uploaderd-doctor-") as folder:
            (Path(folder) / "trial").write_bytes(self._text)
            async with await OpenRecording.open(os.fsencode(folder), b"trial") as file:
                body = file.body(0, file.size, md5=self._provider.limits.wants_md5)
                self._reply = await self._provider.put(self._spec, body)
                self._content = await body.digest()
        return ok(f"{len(self._text)} bytes at {self._key!r}")

    async def _verify(self) -> Found:
        assert self._content is not None and self._reply is not None
        written = Written(reply=self._reply)
        try:
            found = await self._provider.stat(self._key)
        except CannotLook as refused:
            proof = judge_blind(self._content, written)
            if proof is None:
                return fail(
                    f"{refused.message}; and the reply to the write proves nothing", _or(refused.hint, _LOOK)
                )
            return warn(
                f"the login may write but not look: the write's reply alone proves a copy ({proof.kind})",
                _or(refused.hint, _LOOK),
            )
        judged = judge(self._content, self._spec.token, found, written)
        if judged is Verdict.UNPROVEN:
            return warn(
                "the provider tells no checksum that proves the copy: each upload is read back",
                "nothing to mend where traffic is free; else see `checksum` in docs/configuration.md",
            )
        if isinstance(judged, Verdict):
            return fail(
                f"what was written is {judged} right after the write", "another program, or a broken store"
            )
        return ok(f"proven by {judged.kind}")

    async def _half_done(self) -> Found:
        """What large files need: begin, ask what is held, discard."""
        spec = ObjectSpec(f"{self._key}-parts", 2**30, Token(secrets.token_hex(16)), "text/plain")
        session = await self._provider.open(spec, max(self._provider.limits.min_part, 16 * 2**20))
        refused: Fault | None = None
        try:
            await self._provider.parts(session)
        except Fault as fault:
            refused = fault
        try:
            if not await self._provider.abort(session):
                return warn("a half-done upload could not be discarded", "a lifecycle rule should end it")
        except Fault as fault:
            return _worse(
                fault, "half-done uploads cannot be discarded, and are paid for until a rule ends them"
            )
        if refused is not None:
            return _worse(refused, "what a half-done upload holds cannot be asked: each one starts anew")
        return ok("can be begun, looked at and discarded")

    async def _read_back(self) -> Found:
        received = bytearray()
        try:
            async for window in self._provider.read(self._key):
                received += window
        except Fault as fault:
            return _worse(
                fault, "copies cannot be read: no `verify --deep`, and equal objects are not adopted"
            )
        return self._compared(bytes(received), "it is what was sent")

    async def _url(self) -> Found:
        if self._config.public_url is not None:
            return await self._fetched(self._provider.address(self._key), "plain (public_url)")
        if isinstance(self._config, DirectoryProvider):
            return ok("a folder has none")
        if not isinstance(self._provider, Signs):
            return warn(
                f"this login ({self._provider.login}) cannot sign URLs: `uploaderd url` will not work",
                "set public_url, or use a login that can sign (docs/providers.md)",
            )
        try:
            url, _ = await self._provider.sign(self._key, URL_SECONDS)
        except Fault as fault:
            return _worse(fault, "no URL can be signed: `uploaderd url` will not work")
        return await self._fetched(url, "signed")

    async def _fetched(self, url: str, kind: str) -> Found:
        """Get it as a browser would. The URL is good for whoever reads it: it is never shown."""
        context = ssl.create_default_context(cafile=getattr(self._config, "ca_file", None))
        proxy = getattr(self._config, "proxy", None)
        connector = aiohttp.TCPConnector(ssl=context)
        try:
            async with aiohttp.ClientSession(connector=connector, trust_env=True) as browser:
                asked = browser.get(
                    URL(url, encoded=True),
                    proxy=proxy.get_secret_value() if proxy else None,
                    allow_redirects=False,
                )
                async with asked as reply:
                    status, body = reply.status, await reply.content.read(_LARGEST_REPLY)
        except (aiohttp.ClientError, OSError) as error:
            return warn(f"its {kind} URL cannot be fetched: {type(error).__name__}", _FETCH)
        if status != 200:
            return warn(f"its {kind} URL answers HTTP {status}", _FETCH)
        return self._compared(body, f"its {kind} URL gives what was sent")

    def _compared(self, received: bytes, text: str) -> Found:
        if received == self._text:
            return ok(text)
        return fail(
            f"{len(received)} other bytes came back, {len(self._text)} were sent",
            "a proxy or the store changes what it passes on: reach the store directly",
        )

    async def _delete(self) -> Found:
        if self._reply is None:
            # Its reply may have been lost: what is not there does no harm.
            if isinstance(self._provider, Deletes):
                with suppress(Fault):
                    await self._provider.delete(self._key)
            return ok("nothing was written")
        left = f"the trial object stays at {self._key!r}"
        if not isinstance(self._provider, Deletes):
            return warn(f"{left}: this provider deletes nothing", "delete it by hand")
        try:
            await self._provider.delete(self._key, self._reply.version_id)
        except Fault as fault:
            try:
                await self._provider.delete(self._key)
            except Fault:
                return warn(
                    f"{left}: {fault.message}",
                    "delete it by hand; uploads need no right to delete, so leave it so and use --no-write",
                )
            return ok("gone; a bucket with versions keeps it for as long as its rules say")
        with suppress(CannotLook):
            if await self._provider.stat(self._key) is not None:
                return warn(f"{left}, though its deletion was accepted", "delete it by hand")
        return ok("gone")

    def _archived(self) -> bool:
        match self._config:
            case S3Provider():
                return self._config.storage_class in _ARCHIVED
            case AzureProvider():
                return self._config.tier == "archive"
        return False


def _worse(fault: Fault, consequence: str) -> Found:
    """Something that uploads can do without."""
    found = of_fault(fault, Result.WARN)
    return warn(f"{consequence} ({found.text})", found.fix)


def _or(hint: str, otherwise: str) -> str:
    return hint or otherwise
