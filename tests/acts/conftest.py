"""The box and the places of the end-to-end tests, and who asks here."""

from __future__ import annotations

import os
import pwd

from tests.end_to_end.box import Box
from tests.end_to_end.conftest import box, endpoint, places

__all__ = ["box", "endpoint", "places"]

ME = pwd.getpwuid(os.geteuid()).pw_name


async def events(box: Box, *kinds: str) -> list[dict[str, object]]:
    """The events of these kinds, oldest first."""
    lines = (await box.uploaderd("history", "--limit", "1000", "--json")).lines
    return [line for line in lines if line["type"] == "event" and line["kind"] in kinds]
