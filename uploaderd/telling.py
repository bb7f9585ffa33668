"""Webhooks: carries what waits in the ledger's outbox to whoever wants to know, at least once and in order.

Messages are signed as https://www.standardwebhooks.com has it: HMAC-SHA256 over id, time and body. A receiver
that is dead holds up its own line, and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import random
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

from uploaderd import checksum
from uploaderd.addresses import container
from uploaderd.clock import Clock, wait_for
from uploaderd.config import Config
from uploaderd.errors import LedgerFull
from uploaderd.keys import text_of
from uploaderd.ledger import Ledger, outbox
from uploaderd.logs.setup import get_logger
from uploaderd.model import Milliseconds
from uploaderd.outgoing import Address, NotTaken
from uploaderd.report.model import iso, time_of
from uploaderd.report.recordings import recording
from uploaderd.retry import MESSAGES

log = get_logger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often an empty line is looked at."""

GIVE_UP_SECONDS: Final = 3600.0
"""How often it is looked for messages that have waited for too long."""

NEVER_TAKEN: Final = (400, 413, 422)
"""Answers that are about this one message: it is given up after `REFUSALS` of them."""

REFUSALS: Final = 5


class Telling:
    """Carries one webhook's messages; `row` is the webhook's in the ledger. `run` once."""

    def __init__(
        self,
        name: str,
        row: int,
        config: Config,
        ledger: Ledger,
        clock: Clock,
        chance: Callable[[], float] = random.random,
    ) -> None:
        webhook = config.webhooks[name]
        assert webhook.url is not None
        self._name = name
        self._row = row
        self._config = config
        self._ledger = ledger
        self._clock = clock
        self._chance = chance
        self._key = webhook.key()
        self._address = Address(
            webhook.url.get_secret_value(),
            proxy=webhook.proxy.get_secret_value() if webhook.proxy is not None else None,
            ca_file=webhook.ca_file,
            clock=clock,
        )
        self._wake = asyncio.Event()
        self._stopping = False
        self._said = ""
        self._give_up_at = clock.monotonic()

    def wake(self) -> None:
        """Something may have happened."""
        self._wake.set()

    def stop(self) -> None:
        """Carry what can be carried at once, then let `run` return."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Until stopped."""
        try:
            while True:
                try:
                    wait = await self._next()
                except LedgerFull:
                    await self._ledger.mended()
                    wait = 0.0 if not self._stopping else LOOK_SECONDS
                if wait > 0:
                    if self._stopping:
                        return
                    await wait_for(self._wake, self._clock, wait)
        finally:
            await self._address.aclose()

    async def _next(self) -> float:
        """Try the first of the line; how many seconds to wait until the next try."""
        await self._give_up_old()
        message = await self._ledger.run(outbox.first, self._row)
        if message is None:
            return LOOK_SECONDS
        early = ((message.next_try_at or 0) - self._clock.now()) / 1000
        if early > 0:
            return min(early, GIVE_UP_SECONDS)
        try:
            await self._send(message)
        except NotTaken as fault:
            return await self._not_taken(message, fault)
        await self._ledger.insist(outbox.delivered, self._row, message.id)
        if self._said:
            log.info("the webhook takes messages again", webhook=self._name)
            self._said = ""
        return 0.0

    async def _send(self, message: outbox.Message) -> None:
        body = json.dumps(self._body(message), ensure_ascii=False, separators=(",", ":")).encode()
        at = str(self._clock.now() // 1000)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message.name,
            "webhook-timestamp": at,
            "webhook-signature": signature(self._key, message.name, at, body),
        }
        await self._address.ask("POST", body, headers)

    async def _not_taken(self, message: outbox.Message, fault: NotTaken) -> float:
        if fault.status in NEVER_TAKEN and message.tries + 1 >= REFUSALS:
            await self._ledger.run(outbox.refused, self._row, message.id)
            log.error(
                "the webhook refuses this message; it is given up",
                webhook=self._name, message=message.name, told=message.occasion, reason=fault.message,
            )  # fmt: skip
            return 0.0
        delay = MESSAGES.delay(message.failures + 1, self._chance, fault.retry_after)
        at = Milliseconds(self._clock.now() + int(delay * 1000))
        await self._ledger.run(outbox.undelivered, self._row, message.id, (fault.message, fault.hint), at)
        if fault.message != self._said:
            log.warning(
                "the webhook does not take messages; they wait",
                webhook=self._name, reason=fault.message, hint=fault.hint,
            )  # fmt: skip
            self._said = fault.message
        return max(delay, 0.001)

    async def _give_up_old(self) -> None:
        if self._clock.monotonic() < self._give_up_at:
            return
        if count := await self._ledger.run(outbox.give_up_old, self._row):
            log.error(
                "messages were given up: their receiver did not take them in time",
                webhook=self._name, messages=count,
            )  # fmt: skip
        self._give_up_at = self._clock.monotonic() + GIVE_UP_SECONDS

    def _body(self, message: outbox.Message) -> Mapping[str, Any]:
        """The message as it is sent, and as docs/notifications.md shows it."""
        about = message.about
        match message.occasion.partition(".")[0]:
            case "recording":
                data = self._recording(about)
            case "provider":
                data = self._provider(about)
            case _:
                data = self._source(about)
        return {
            "type": message.occasion,
            "timestamp": iso(message.at),
            "host": socket.gethostname(),
            "site": self._config.daemon.site,
            "data": data,
        }

    def _recording(self, about: Mapping[str, Any]) -> Mapping[str, Any]:
        row = outbox.recording(about)
        source = self._config.sources.get(row.source)
        known = row.crc64nvme is not None and row.crc32c is not None
        return {
            **recording(row, self._config),
            "checksum": {
                "crc64nvme": base64.b64encode(row.crc64nvme or b"").decode(),
                "crc32c": checksum.b64_crc32c(row.crc32c or 0),
            }
            if known
            else None,
            "metadata": dict(source.metadata) if source is not None else {},
        }

    def _provider(self, about: Mapping[str, Any]) -> Mapping[str, Any]:
        provider = self._config.providers.get(about["name"])
        return {
            "name": about["name"],
            "type": about["type"],
            "bucket": container(provider) if provider is not None else None,
            "paused_by": about["paused_by"],
            "problem": {
                "class": about["problem_class"],
                "message": about["problem_message"],
                "hint": about["problem_hint"] or "",
                "since": time_of(about["problem_since"]),
            }
            if about["problem_message"] is not None
            else None,
        }

    def _source(self, about: Mapping[str, Any]) -> Mapping[str, Any]:
        source = self._config.sources.get(about["name"])
        return {
            "name": about["name"],
            "path": text_of(os.fsencode(source.path) if source else bytes.fromhex(about["path"])),
            "silent_since": time_of(about["silent_since"]),
            "last_recording_at": time_of(about["last_found_at"]),
            "metadata": dict(source.metadata) if source is not None else {},
        }


def signature(key: bytes, name: str, at: str, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `name.at.body`; `at` in seconds since the epoch."""
    digest = hmac.new(key, b".".join((name.encode(), at.encode(), body)), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
