"""Who is told: a heartbeat while all is safe, and webhooks of what happens."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from uploaderd.config.kinds import PositiveSeconds, ProxyUrl, Secret, SecretPath, SecretUrl, Table, distinct
from uploaderd.config.provider import Contradiction
from uploaderd.model import OCCASIONS, Occasion

Events = Annotated[tuple[Occasion, ...], Field(min_length=1), AfterValidator(distinct)]


class Heartbeat(Table):
    """An address that is asked for again and again while the word is SAFE: silence there is the alarm."""

    url: SecretUrl | None = Field(None, description="What is asked for (GET); a secret. Default: nothing is.")
    every: PositiveSeconds = Field(60.0, description="How often.")
    proxy: ProxyUrl | None = Field(None, description="An HTTP proxy on the way there: `http://host:port`.")
    ca_file: SecretPath | None = Field(
        None, description="Certificates (PEM) to trust instead of the system's."
    )


class Webhook(Table):
    """An address that is told what happens (docs/notifications.md). As many as you like."""

    url: SecretUrl | None = Field(
        None, description="Where messages are sent (POST); a secret. Must be given, here or in a secret file."
    )
    secret: Secret | None = Field(
        None,
        description="What messages are signed with: text, or `whsec_` and base64. Must be given likewise.",
    )
    events: Events = Field(
        OCCASIONS,
        description="What it is told: " + ", ".join(f"`{name}`" for name in OCCASIONS) + ". Default: all.",
    )
    proxy: ProxyUrl | None = Field(None, description="An HTTP proxy on the way there: `http://host:port`.")
    ca_file: SecretPath | None = Field(
        None, description="Certificates (PEM) to trust instead of the system's."
    )

    def lacks(self) -> Iterator[Contradiction]:
        """What the daemon must have, and somebody who only reads the ledger need not."""
        if self.url is None:
            yield "url", "is missing: where are messages to go?"
        if self.secret is None:
            yield "secret", "is missing: a receiver could not tell our messages from others'"
        else:
            try:
                self.key()
            except ValueError:
                yield "secret", 'begins with "whsec_", and what follows is not base64'

    def key(self) -> bytes:
        """What messages are signed with: the secret's bytes, or what stands in base64 behind `whsec_`.

        Raises:
            ValueError: that is not base64.
        """
        text = self.secret.get_secret_value() if self.secret is not None else ""
        if not text.startswith("whsec_"):
            return text.encode()
        try:
            return base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except binascii.Error as error:
            raise ValueError(str(error)) from None
