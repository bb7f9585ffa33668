"""What is next: the uploads that wait, in the order in which they are to go."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

from uploaderd.ledger.wanted import CONDITION, Wanted
from uploaderd.ledger.writer import Transaction
from uploaderd.model import Checksum, Claim, FileIdentity, Milliseconds, Order, Part, Token

_RETRYING: Final = (
    "SELECT id, next_attempt_at FROM uploads WHERE provider_id = :provider AND state = 'retrying'"
    " AND next_attempt_at <= :now{} ORDER BY next_attempt_at LIMIT 1"
)

_QUEUED: Final = (
    "SELECT id, {} FROM uploads WHERE provider_id = :provider AND source_id = :source"
    " AND state = 'queued' AND {} > :after{} ORDER BY {} LIMIT 1"
)

_RANKS: Final[Mapping[Order, tuple[str, str, str]]] = {
    "oldest": ("id", "id", "id"),
    "newest": ("-id", "id", "id DESC"),
    "smallest": ("size", "+id", "size, id"),
}
"""The rank of an upload, the lowest first; its row (with a + no index is sought by it); and the order as an
index has it."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Who goes first: sources by their `priorities` (by row, the highest first; 0 for those not named), and
    among those of the same priority what is first in `order`.
    """

    order: Order = "oldest"
    priorities: Mapping[int, int] = field(default_factory=dict)

    def groups(self, sources: Iterable[int]) -> list[list[int]]:
        """The sources of the same priority together, the highest first."""
        by_priority: dict[int, list[int]] = {}
        for source in sources:
            by_priority.setdefault(self.priorities.get(source, 0), []).append(source)
        return [by_priority[priority] for priority in sorted(by_priority, reverse=True)]


IN_TURN: Final = Turns()


def claim(
    tx: Transaction,
    provider_id: int,
    limit: int,
    after: int = 0,
    only: Wanted | None = None,
    turns: Turns = IN_TURN,
) -> list[Claim]:
    """The provider's next uploads, at most `limit`, now `uploading`; fewer if fewer are due.

    What waited out its backoff goes first; then `turns` decides. Of those that never waited, only what is
    behind the row `after`; and of all what is wanted, if `only` says what that is.
    """
    condition, values = _only(only)
    values |= {"provider": provider_id, "now": tx.now, "after": after}
    groups = turns.groups(row[0] for row in tx.conn.execute("SELECT id FROM sources"))
    rank, row_id, in_order = _RANKS[turns.order]
    queued = _QUEUED.format(rank, row_id, condition, in_order)

    def following() -> int | None:
        if row := tx.conn.execute(_RETRYING.format(condition), values).fetchone():
            return int(row[0])
        for sources in groups:
            found = [tx.conn.execute(queued, {**values, "source": one}).fetchone() for one in sources]
            if first := min((row for row in found if row is not None), key=itemgetter(1), default=None):
                return int(first[0])
        return None

    claims: list[Claim] = []
    while len(claims) < limit and (upload_id := following()) is not None:
        row = tx.conn.execute(
            "UPDATE uploads SET state = 'uploading', attempt_at = ?, attempts = attempts + 1,"
            " bytes_before = bytes_sent, resumed_from = 0, next_attempt_at = NULL"
            " WHERE id = ? AND state IN ('queued', 'retrying') RETURNING id, recording_id, key, token,"
            " replaces, session, part_size, completing_at, attempts, failures",
            (tx.now, upload_id),
        ).fetchone()
        claims.append(_claim(tx.conn, row))
    return claims


def _claim(conn: sqlite3.Connection, row: tuple[Any, ...]) -> Claim:
    upload_id, recording_id, key, token, replaces, session, part_size, completing, attempt, fails = row
    (
        source,
        root,
        path,
        size,
        mtime_ns,
        inode,
        device,
        fingerprint,
        crc32c,
        crc64nvme,
        found_at,
        finished_at,
        past,
    ) = conn.execute(
        "SELECT s.name, s.path, r.path, size, mtime_ns, inode, r.device, fingerprint, crc32c, crc64nvme,"
        " found_at, finished_at, past FROM recordings r JOIN sources s ON s.id = r.source_id WHERE r.id = ?",
        (recording_id,),
    ).fetchone()
    return Claim(
        upload_id=upload_id,
        recording_id=recording_id,
        source=source,
        root=bytes(root),
        path=bytes(path),
        identity=FileIdentity(
            size, mtime_ns, inode & 0xFFFFFFFFFFFFFFFF, device & 0xFFFFFFFFFFFFFFFF, bytes(fingerprint)
        ),
        content=Checksum(size, crc32c, int.from_bytes(crc64nvme, "big")) if crc64nvme is not None else None,
        key=key,
        token=Token(token.hex()),
        replaces=replaces,
        handle=session,
        part_size=part_size,
        completing=completing is not None,
        attempt=attempt,
        failures=fails,
        found_at=Milliseconds(found_at),
        finished_at=Milliseconds(finished_at),
        parts=tuple(_parts(conn, upload_id)) if session is not None else (),
        present=past == 0,
    )


def _parts(conn: sqlite3.Connection, upload_id: int) -> list[Part]:
    return [
        Part(
            number,
            offset,
            Checksum(size, crc32c, int.from_bytes(crc64nvme, "big"), md5),
            etag,
            checked,
        )
        for number, offset, size, crc32c, crc64nvme, md5, etag, checked in conn.execute(
            "SELECT number, offset, size, crc32c, crc64nvme, md5, etag, checked FROM parts"
            " WHERE upload_id = ? ORDER BY offset",
            (upload_id,),
        )
    ]


def _only(wanted: Wanted | None) -> tuple[str, dict[str, Any]]:
    return (CONDITION, wanted.values) if wanted is not None else ("", {})


def next_due(conn: sqlite3.Connection, provider_id: int, only: Wanted | None = None) -> Milliseconds | None:
    """When the provider's next upload (of those wanted) is due: 0 for now, None if none waits."""
    condition, values = _only(only)
    values["provider"] = provider_id
    if conn.execute(
        f"SELECT 1 FROM uploads WHERE provider_id = :provider AND state = 'queued'{condition} LIMIT 1",
        values,
    ).fetchone():
        return Milliseconds(0)
    row = conn.execute(
        "SELECT min(next_attempt_at) FROM uploads"
        f" WHERE provider_id = :provider AND state = 'retrying'{condition}",
        values,
    ).fetchone()
    return Milliseconds(row[0]) if row[0] is not None else None
