"""The metrics as a file, for node_exporter's textfile collector: where nothing may listen."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from aiohttp import web

from uploaderd.errors import UploaderdError
from uploaderd.logs.setup import get_logger
from uploaderd.web.keys import LIVE, READING
from uploaderd.web.reading import Now

log = get_logger(__name__)

EVERY_SECONDS: Final = 15.0


async def kept(app: web.Application) -> AsyncIterator[None]:
    """While the application serves, the file is written, if there is to be one (a cleanup context)."""
    file = app[LIVE].config.web.metrics_file
    if file is None:
        yield
        return
    writing = asyncio.create_task(_keep(app, file), name="metrics-file")
    yield
    writing.cancel()
    await asyncio.wait((writing,))


async def _keep(app: web.Application, file: Path) -> None:
    said = ""
    while True:
        try:
            now = await app[READING].now()
            await asyncio.to_thread(_write, file, now)
            said = ""
        except (OSError, UploaderdError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if reason != said:
                hint = "make its folder, and let the daemon's user write there"
                log.warning("the metrics file cannot be written", file=str(file), reason=reason, hint=hint)
                said = reason
        await app[LIVE].clock.sleep(EVERY_SECONDS)


def _write(file: Path, now: Now) -> None:
    """Put a new file in the old one's place: whoever reads sees one or the other, whole."""
    from uploaderd.web.metrics import exposition

    text, _ = exposition(now)
    # Not *.prom, which the collector would read.
    new = file.with_name(f".{file.name}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with open(fd, "wb") as out:
        os.fchmod(fd, 0o644)
        out.write(text)
    new.replace(file)
