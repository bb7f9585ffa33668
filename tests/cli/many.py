"""A ledger of many recordings, made in seconds: by the schema and its triggers, not through the queue."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlite_utils import Database

from uploaderd.ledger.schema import migrations

NOW = 1_795_197_600_000  # 2026-11-20T18:00:00Z
PROVIDERS = ("near", "far")


def fill(path: Path, recordings: int, *, waiting: int = 10) -> None:
    """So many recordings of one source, `waiting` of them not yet at the second provider."""
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = OFF")
    migrations.apply(Database(conn, execute_plugins=False))
    conn.execute("BEGIN")
    conn.execute(
        "INSERT INTO sources (id, name, path, last_sweep_at) VALUES (1, 'cameras', ?, ?)", (b"/srv", NOW)
    )
    conn.executemany(
        "INSERT INTO providers (id, name, type, target, last_verified_at) VALUES (?, ?, 'directory', ?, ?)",
        [(i, name, f"file:///{name}", NOW) for i, name in enumerate(PROVIDERS, 1)],
    )
    conn.executemany(
        "INSERT INTO recordings (id, source_id, path, size, mtime_ns, inode, device, fingerprint, found_at,"
        " finished_at, found_by, finished_by, needed, required) VALUES (?, 1, ?, 1048576, ?, ?, 1, ?, ?, ?,"
        " 'event', 'lease', 2, 2)",
        (
            (n, b"cam%d/2026-11-20/%09d.mp4" % (n % 8, n), n, n, n.to_bytes(16, "big"), NOW + n, NOW + n)
            for n in range(1, recordings + 1)
        ),
    )
    conn.executemany(
        "INSERT INTO uploads (recording_id, provider_id, required, key, token, attempts, bytes_sent)"
        " VALUES (?, ?, 1, ?, ?, 1, 1048576)",
        (
            (n, provider, f"cameras/2026/11/20/{n:09d}.mp4", n.to_bytes(16, "big"))
            for n in range(1, recordings + 1)
            for provider in (1, 2)
        ),
    )
    conn.execute(
        "UPDATE uploads SET state = 'verified', verified_at = ?, proof_kind = 'crc64nvme', proof_value = 'x'"
        " WHERE NOT (provider_id = 2 AND recording_id > ?)",
        (NOW, recordings - waiting),
    )
    conn.execute("COMMIT")
    conn.close()
