"""A ledger as it is after a year of one-minute segments from 32 cameras: 16.8 million recordings.

Of 24 cameras each recording has one copy, of eight it has three; one upload in ten failed once before.
Cleanup removed each file after a day, which its events tell of; the files of the last day are on the disk,
and the numbers of their inodes were those of every day before as well, for file systems use them again. One
camera belonged, for two days long ago, to a source and a provider of which nothing came since: what few
recordings match is the hardest to list.

Rows go in by SQL, a day at a time, without the triggers, which come back when all is there.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlite_utils import Database

from tests.bench.ledgers import Chained, asked
from uploaderd.ledger import schema

CAMERAS: Final = 32
MINUTES: Final = 1440
DAY: Final = CAMERAS * MINUTES
"""Recordings of a day."""

SIZE: Final = 7_500_000
"""Bytes of a minute at 1 Mbit/s. The files have holes instead of content."""

_PROVIDERS: Final = ("s3", "azure", "gcs", "s3_2")
_SOURCES: Final = ("cameras", "yard", "door")

_SERIES: Final = (
    "WITH RECURSIVE series (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM series WHERE n + 1 < :last),"
    " made AS (SELECT n, n % 32 AS camera, :begun + n / 32 * 60000 + n % 32 * 500 AS at FROM series)"
)

_RECORDINGS: Final = (
    "INSERT INTO recordings (id, source_id, path, past, local, size, mtime_ns, inode, device, fingerprint,"
    " crc32c, crc64nvme, found_at, finished_at, found_by, finished_by, needed, required, verified, safe_at)"
    f" {_SERIES}, sorted AS (SELECT *, CASE WHEN camera < 24 THEN 1"
    " WHEN camera = 31 AND n / :day BETWEEN 30 AND 31 THEN 3 ELSE 2 END AS source FROM made)"
    " SELECT n + 1, source, CAST(printf('cam%02d/%s.mp4', camera,"
    " strftime('%Y-%m-%d/%H-%M', (at - 60000) / 1000, 'unixepoch')) AS BLOB), n + 1, 'removed', :size,"
    " (at - 2500) * 1000000 + n % 1000, i.inode, :device, randomblob(16), random() & 0xffffffff,"
    " randomblob(8), at, at - 200, 'event', 'lease', copies, copies, copies, at + 900 FROM sorted"
    " JOIN (SELECT 1 AS which, 1 AS copies UNION ALL SELECT 2, 3 UNION ALL SELECT 3, 1) c ON c.which = source"
    " JOIN inodes i ON i.slot = n % :day"
)

_UPLOADS: Final = (
    "INSERT INTO uploads (recording_id, provider_id, source_id, size, required, state, key, token, attempts,"
    " bytes_sent, bytes_before, part_size, etag, proof_kind, proof_value, verified_at)"
    " SELECT r.id, w.provider, r.source_id, r.size, 1, 'verified', printf('%s/%s/%s', s.name,"
    " strftime('%Y/%m/%d', (r.found_at - 62500) / 1000, 'unixepoch'), CAST(r.path AS TEXT)), randomblob(16),"
    " 1 + ((r.id + w.provider) % 10 = 0), r.size, 0, 8388608, lower(hex(randomblob(16))),"
    " 'crc64nvme full object, stat', 'AAAAAAAAAAA=', r.found_at + 300 * w.provider"
    " FROM recordings r JOIN sources s ON s.id = r.source_id JOIN wanted w ON w.source = r.source_id"
    " WHERE r.id > :first AND r.id <= :last ORDER BY r.id, w.provider"
)

_ATTEMPTED: Final = (
    "SELECT u.recording_id, u.id, p.name, u.attempts, u.verified_at, u.size FROM uploads u"
    " JOIN providers p ON p.id = u.provider_id WHERE u.recording_id > :first AND u.recording_id <= :last"
    " ORDER BY u.recording_id, u.id"
)


@dataclass(frozen=True, slots=True)
class Year:
    """The ledger, the folder below which each source has its own, and how many recordings there are."""

    ledger: Path
    root: Path
    count: int


def made(folder: Path, days: int, say: Callable[[str], None]) -> Year:
    """Make it below `folder`, ending now; half an hour for a year. The providers' targets are set later."""
    root, path = folder / "recordings", folder / "ledger.db"
    # Of the whole minutes that are over.
    begun = (int(time.time()) // 60 - days * MINUTES) * 60_000
    inodes = _files(root, begun + (days - 1) * MINUTES * 60_000)
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA journal_mode = OFF")
    conn.execute("PRAGMA synchronous = OFF")
    conn.execute("PRAGMA cache_size = -4000000")
    conn.execute("PRAGMA temp_store = MEMORY")
    schema.migrations.apply(Database(conn, execute_plugins=False))
    conn.execute("CREATE TEMP TABLE inodes (slot INTEGER PRIMARY KEY, inode INTEGER)")
    conn.executemany("INSERT INTO inodes VALUES (?, ?)", enumerate(inodes))
    conn.execute("CREATE TEMP TABLE wanted (source INTEGER, provider INTEGER)")
    conn.executemany("INSERT INTO wanted VALUES (?, ?)", ((1, 1), (2, 1), (2, 2), (2, 3), (3, 4)))
    conn.execute("BEGIN")
    for number, name in enumerate(_SOURCES, 1):
        found = [number, name, os.fsencode(root / name), int(time.time() * 1000)]
        conn.execute("INSERT INTO sources (id, name, path, last_found_at) VALUES (?, ?, ?, ?)", found)
    now = int(time.time() * 1000)
    for number, name in enumerate(_PROVIDERS, 1):
        one = (number, name, name.partition("_")[0], "set later", now)
        conn.execute(
            "INSERT INTO providers (id, name, type, target, last_verified_at) VALUES (?, ?, ?, ?, ?)", one
        )
    triggers = conn.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    attempts, events = Chained(conn, "attempts"), Chained(conn, "events")
    device = os.stat(root).st_dev
    for day in range(days):
        if day == 1:
            # Tallies tell of the first day only; they are some dozens of rows, however much they count.
            for name, _ in triggers:
                conn.execute(f"DROP TRIGGER {name}")
        first, last = day * DAY, (day + 1) * DAY
        span = {"first": first, "last": last}
        values = {**span, "begun": begun, "day": DAY, "size": SIZE, "device": device}
        conn.execute(_RECORDINGS, values)
        conn.execute(_UPLOADS, span)
        attempts.extend(_attempts(conn.execute(_ATTEMPTED, span)))
        # On the first day, what left was of a day that retention took since: its own stand for them.
        events.extend(_removals(conn, max(first - DAY, 0), 86_400_000 if day > 0 else 0))
        if day % 30 == 29:
            say(f"{day + 1} of {days} days")
    for _, statement in triggers:
        conn.execute(statement)
    conn.execute("DELETE FROM recording_totals")
    conn.execute(
        "INSERT INTO recording_totals SELECT source_id, state, acknowledged_at IS NOT NULL,"
        " local = 'present', count(*), sum(size) FROM recordings GROUP BY 1, 2, 3, 4"
    )
    conn.execute("DELETE FROM upload_totals")
    conn.execute("INSERT INTO upload_totals SELECT provider_id, state, count(*) FROM uploads GROUP BY 1, 2")
    count = days * DAY
    present = (
        (at.st_mtime_ns, at.st_ino, at.st_dev, count - DAY + slot + 1)
        for slot, at in enumerate(os.stat(_file(root, begun, count - DAY + slot)) for slot in range(DAY))
    )
    conn.executemany(
        "UPDATE recordings SET past = 0, local = 'present', mtime_ns = ?, inode = ?, device = ? WHERE id = ?",
        present,
    )
    conn.execute("COMMIT")
    conn.close()
    path.chmod(0o600)
    return Year(path, root, count)


def found(folder: Path) -> Year:
    """What was made there before."""
    path = folder / "ledger.db"
    return Year(path, folder / "recordings", int(asked(path, "SELECT max(id) FROM recordings")))


def _file(root: Path, begun: int, number: int) -> Path:
    """Where the recording with that number (from 0) lies; as the statement says it."""
    minute, camera = divmod(number, CAMERAS)
    at = time.gmtime((begun + minute * 60_000 + camera * 500 - 60_000) / 1000)
    source = "cameras" if camera < 24 else "yard"
    return root / source / f"cam{camera:02}" / time.strftime("%Y-%m-%d/%H-%M.mp4", at)


def _files(root: Path, begun: int) -> list[int]:
    """Make the files of the day that begins then; their inodes."""
    inodes = []
    for name in _SOURCES:
        (root / name).mkdir(parents=True)
    for number in range(DAY):
        path = _file(root, begun, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(SIZE)
            inodes.append(os.fstat(file.fileno()).st_ino)
        at = (begun + number // CAMERAS * 60_000 + number % CAMERAS * 500 - 2500) * 1_000_000
        os.utime(path, ns=(at, at))
    return inodes


def _attempts(uploads: Iterator[tuple[int, int, str, int, int, int]]) -> Iterator[tuple[object, ...]]:
    for recording, upload, provider, tries, at, size in uploads:
        if tries > 1:
            yield (
                *(recording, upload, provider, 1, at - 900, at - 500, "retrying"),
                *("transient", "SlowDown", 503, f"{upload:016X}", 0, 0, "sending part 1: slow down"),
            )
        yield (
            *(recording, upload, provider, tries, at - 250, at, "verified"),
            *(None, None, None, None, size, 0, None),
        )


def _removals(conn: sqlite3.Connection, first: int, later: int) -> Iterator[tuple[object, ...]]:
    """What cleanup tells of each file of a day: before, and after. It comes `later`, in milliseconds."""
    for row, path, safe_at in conn.execute(
        "SELECT id, CAST(path AS TEXT), safe_at FROM recordings WHERE id > ? AND id <= ?",
        (first, first + DAY),
    ):
        at = safe_at + later
        token = hashlib.blake2b(b"%d" % row, digest_size=8).hexdigest()
        aside = f".uploaderd-{token}-{path.rpartition('/')[2]}.removing"
        for kind, detail in (
            ("removing", f'{{"aside":"{aside}","path":"{path}"}}'),
            ("removed", f'{{"copies":{{"s3":"there, unchanged"}},"folders":0,"path":"{path}"}}'),
        ):
            yield (at, kind, "uploaderd", None, None, row, detail)
