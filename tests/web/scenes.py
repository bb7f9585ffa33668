"""The states that the page is looked at in: ledgers that lived through something, with the live values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.cli import evening as evenings
from tests.cli.evening import LIVE, MINUTE, NOW, Evening
from uploaderd.config import Config
from uploaderd.ledger import health
from uploaderd.model import Milliseconds, SourceState

HOUR: Final = 60 * MINUTE


async def nothing_yet(evening: Evening) -> None:
    """Just started, on an empty disk."""
    await _swept(evening)


async def all_safe(evening: Evening) -> None:
    """A busy evening that went well, and an upload that was resumed."""
    for number in range(12):
        evening.at = NOW - (12 - number) * 10 * MINUTE
        await evening.found(
            f"cam{number % 3}/2026-11-20/{number:02d}-00-00.mp4".encode(), 104_857_600 * (number + 1)
        )
        await evening.verified("s3_main", after=8000)
        await evening.verified("nas", after=4000)
    await _swept(evening)
    await _hours(evening, most=6)
    evening.at = NOW
    await evening.found(b"cam1/17-58.mp4", 104_857_600)
    await evening.begun("s3_main")


async def behind(evening: Evening) -> None:
    """More comes than the line takes."""
    evening.at = NOW - 2 * HOUR
    for number in range(8):
        await evening.found(b"cam%d/16-0%d.mp4" % (number % 2, number), 629_145_600)
    await evening.verified("nas", after=5000)
    await _swept(evening)
    await _hours(evening, most=40, growing=True)


async def failing(evening: Evening) -> None:
    """Everything that may go wrong, at once."""
    await evenings.lived_through(evening)
    await evening.ledger.run(health.unseen, evening.sources["cameras"], "locked/: Permission denied")
    await _hours(evening, most=5)


SCENES: Final[dict[str, Callable[[Evening], Awaitable[None]]]] = {
    "empty": nothing_yet,
    "SAFE": all_safe,
    "BEHIND": behind,
    "FAILING": failing,
}


def live(scene: str) -> dict[str, Any]:
    """What the daemon itself would tell."""
    quiet = {
        "providers": {name: {"rate_bytes_per_second": 0.0} for name in ("s3_main", "nas")},
        "uploading": [],
    }
    return LIVE if scene in ("SAFE", "FAILING") else LIVE | quiet | {"sources": {}}


async def _swept(evening: Evening) -> None:
    for source in evening.sources.values():
        await evening.ledger.run(health.source_seen, source, SourceState.OK, 1)
        await evening.ledger.run(health.swept, source, Milliseconds(evening.at))
    evening.at = NOW


async def _hours(evening: Evening, *, most: int, growing: bool = False) -> None:
    """Samples of the last hours: what waited is not asked of them, so it is made up."""
    s3, nas = evening.providers["s3_main"], evening.providers["nas"]

    def write(tx: Any) -> None:
        for minute in range(-340, 1):
            at = NOW + minute * MINUTE
            waiting = (
                (minute + 340) * most // 340
                if growing
                else (minute // 7 * 7919) % (most + 1)
                if minute % 90 < 60
                else 0
            )
            tx.conn.execute(
                "INSERT OR REPLACE INTO backlog_samples VALUES (?, ?, ?)", (at, waiting, waiting * 10**8)
            )
            for provider, rate in ((s3, 6), (nas, 9)):
                if minute % 90 < 60 or growing:
                    sent = abs((minute // 5) * 104_729) % rate * 60 * 10**6
                    tx.conn.execute(
                        "INSERT OR REPLACE INTO sent_samples VALUES (?, ?, ?)", (at, provider, sent)
                    )

    await evening.ledger.run(write)
    evening.at = NOW


def named(config: Config) -> Config:
    """The same on every machine: the page says where it is."""
    return config.model_copy(update={"daemon": config.daemon.model_copy(update={"site": "hall-3"})})
