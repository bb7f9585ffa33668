"""The client of one bucket, and the manner in which anything is asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, Final

from uploaderd.config import S3Provider
from uploaderd.errors import Fault, SessionGone
from uploaderd.model import FailureClass
from uploaderd.providers import s3_lock
from uploaderd.providers.s3_body import Sending
from uploaderd.providers.s3_faults import SPOKEN, Place, classified
from uploaderd.providers.s3_login import Login, client_for
from uploaderd.providers.s3_object import writing

REASON_TIMEOUT: Final = 5.0
"""Seconds for the question why a request was broken off."""


class Endpoint:
    """One bucket at one address with one login. Made by `reach`; close it.

    Attributes:
        client: aiobotocore's S3 client.
    """

    def __init__(
        self, config: S3Provider, place: Place, login: Login, client: Any, stack: AsyncExitStack
    ) -> None:
        self.place = place
        self.login = login
        self.client = client
        self._prefix = f"{config.prefix}/" if config.prefix else ""
        self._stack = stack

    @classmethod
    async def reach(cls, name: str, config: S3Provider) -> Endpoint:
        """Make the client. Nothing is asked of the endpoint yet.

        Raises:
            Fault: the configuration makes no client (class provider).
        """
        login = Login(config, name)
        place = Place(
            name, config.bucket, config.target, login.region(), s3_lock.wanted(config), writing(config)
        )
        # Now, so that it can be said what was found. Without one, each call says so, and `probe` looks again.
        with suppress(*SPOKEN):
            await login.load()
        async with AsyncExitStack() as stack:
            with classified(place, login, f"connecting to {place.target}"):
                client = await client_for(config, login, stack)
            return cls(config, place, login, client, stack.pop_all())

    async def aclose(self) -> None:
        await self._stack.aclose()

    def at(self, key: str) -> dict[str, Any]:
        """The arguments that name an object."""
        return {"Bucket": self.place.bucket, "Key": key}

    @contextmanager
    def trying(self, act: str, sending: Sending | None = None) -> Iterator[None]:
        """Faults instead of the library's exceptions; see `s3_faults.classified`."""
        try:
            with classified(self.place, self.login, act, sending):
                yield
        except Fault as fault:
            if fault.failure is FailureClass.PROVIDER:
                self.login.forget()  # whatever is asked next sees what mended it
            raise

    @asynccontextmanager
    async def sending(self, act: str, sending: Sending | None) -> AsyncIterator[None]:
        """The same around a request with a body that is streamed.

        S3 refuses before it has read the body, and hangs up: over TLS the refusal is lost in the
        reset that follows. So a connection that broke half way is followed by the question why.
        """
        try:
            with self.trying(act, sending):
                yield
        except Fault as fault:
            if sending is None or not sending.broken or fault.http_status is not None:
                raise
            try:
                async with asyncio.timeout(REASON_TIMEOUT):
                    await self.probe()
            except (Fault, TimeoutError) as reason:
                if isinstance(reason, Fault) and reason.failure is FailureClass.PROVIDER:
                    raise
            raise

    async def probe(self) -> None:
        """Send a part for a session that never was: needs the right to write, and leaves nothing."""
        act = f"a trial write to {self.place.target}"
        try:
            with self.trying(act):
                await self.client.upload_part(
                    **self.at(f"{self._prefix}.uploaderd/probe"),
                    UploadId="uploaderd-probe",
                    PartNumber=1,
                    Body=b"",
                )
        except SessionGone:
            return
        except Fault as fault:
            if fault.failure is FailureClass.PROVIDER or fault.http_status not in (400, 404, 500, 501):
                raise
            # Not every store knows what to say to that (moto: 500).
            with self.trying(act):
                await self.client.head_bucket(Bucket=self.place.bucket)
