"""Begins an upload in a process of its own, says so, and waits to be killed.

    python -m tests.contract.other_process < order.json

The order has `settings`, `root`, `path`, `part_size`, `parts` (how many to send) and the `spec`.
Prints the session as one line of JSON once those parts were acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from typing import Any

from tests.contract.acts import opened, put_part
from uploaderd.model import ObjectSpec
from uploaderd.reader import OpenRecording


async def begin(order: dict[str, Any]) -> None:
    provider = await opened(order["settings"])
    spec = ObjectSpec(**order["spec"])
    async with await OpenRecording.open(os.fsencode(order["root"]), os.fsencode(order["path"])) as recording:
        session = await provider.open(spec, order["part_size"])
        parts = [
            await put_part(provider, session, recording, index * order["part_size"])
            for index in range(order["parts"])
        ]
        said = {"session": asdict(session), "parts": [[part.offset, part.size] for part in parts]}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(begin(json.load(sys.stdin)))
