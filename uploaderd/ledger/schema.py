"""The ledger's tables, as an append-only list of migrations.

What can be derived is derived by SQLite itself: a recording's state is a generated column over its
facts, and the counters that `status` reads are moved by triggers, inside the transaction that moves
what they count. No code path can forget them.

Times are integer milliseconds since the epoch; 64-bit checksums and tokens are BLOBs, since SQLite's
integers are signed; paths are BLOBs, since TEXT must be UTF-8.
"""

from __future__ import annotations

from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from uploaderd.ledger import outbox, samples, silence, tally
from uploaderd.ledger.reading import APPLICATION_ID, MIGRATION_SET

# A migration that is added here is named in `reading.KNOWN_MIGRATIONS` too.
migrations: Final = Migrations(MIGRATION_SET)

_TABLES: Final = (
    """
    CREATE TABLE meta (
        name  TEXT PRIMARY KEY,
        value ANY NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    # The name is the identity: `target` is what it stood for when it was first used. `state` is the
    # daemon's view; `paused_by` a person's, kept across restarts.
    """
    CREATE TABLE providers (
        id                INTEGER PRIMARY KEY,
        name              TEXT NOT NULL UNIQUE,
        type              TEXT NOT NULL,
        target            TEXT NOT NULL,
        state             TEXT NOT NULL DEFAULT 'ok'
                          CHECK (state IN ('ok', 'retrying', 'paused', 'disabled', 'retired')),
        paused_by         TEXT,
        problem_class     TEXT,
        problem_message   TEXT,
        problem_hint      TEXT,
        problem_since     INTEGER,
        probes            INTEGER NOT NULL DEFAULT 0,
        next_probe_at     INTEGER,
        last_verified_at  INTEGER
    ) STRICT
    """,
    """
    CREATE TABLE sources (
        id            INTEGER PRIMARY KEY,
        name          TEXT NOT NULL UNIQUE,
        path          BLOB NOT NULL,
        state         TEXT NOT NULL DEFAULT 'ok' CHECK (state IN ('ok', 'missing', 'paused')),
        paused_by     TEXT,
        device        INTEGER,
        missing_since INTEGER,
        last_sweep_at INTEGER
    ) STRICT
    """,
    # One row a content: a new content at a path is a new row, and the old one's `past` becomes its
    # own id, so that (source, path) stays unique among what is there now (past = 0).
    # `needed` of the `required` uploads must be verified; both are frozen when it is queued.
    # `verified` and `failed` count required uploads only; triggers keep them.
    # `held` is why it has no uploads, and `gate` what a person may open (NULL: no release would help);
    # `released_by` opened it. `doubt` is what a person may want to know of one that was queued all the same.
    # `kept` is why cleanup left the file of a safe recording (a word; the event tells more), and
    # `kept_until` when it looks again.
    """
    CREATE TABLE recordings (
        id              INTEGER PRIMARY KEY,
        source_id       INTEGER NOT NULL REFERENCES sources,
        path            BLOB NOT NULL,
        past            INTEGER NOT NULL DEFAULT 0,
        local           TEXT NOT NULL DEFAULT 'present'
                        CHECK (local IN ('present', 'removed', 'replaced')),
        size            INTEGER NOT NULL,
        mtime_ns        INTEGER NOT NULL,
        inode           INTEGER NOT NULL,
        device          INTEGER NOT NULL,
        fingerprint     BLOB NOT NULL,
        crc32c          INTEGER,
        crc64nvme       BLOB,
        found_at        INTEGER NOT NULL,
        finished_at     INTEGER NOT NULL,
        found_by        TEXT NOT NULL,
        finished_by     TEXT NOT NULL,
        needed          INTEGER NOT NULL,
        required        INTEGER NOT NULL,
        verified        INTEGER NOT NULL DEFAULT 0,
        failed          INTEGER NOT NULL DEFAULT 0,
        safe_at         INTEGER,
        skipped         TEXT,
        held            TEXT,
        gate            TEXT,
        released_by     TEXT,
        doubt           TEXT,
        lost_at         INTEGER,
        superseded_by   INTEGER,
        acknowledged_at INTEGER,
        kept            TEXT,
        kept_until      INTEGER,
        state           TEXT NOT NULL GENERATED ALWAYS AS (
            CASE
                WHEN skipped IS NOT NULL THEN 'skipped'
                WHEN superseded_by IS NOT NULL THEN 'superseded'
                WHEN held IS NOT NULL THEN 'held'
                WHEN verified >= needed THEN 'safe'
                WHEN lost_at IS NOT NULL THEN 'lost'
                WHEN failed > required - needed THEN 'failed'
                ELSE 'waiting'
            END
        ) VIRTUAL,
        UNIQUE (source_id, path, past)
    ) STRICT
    """,
    "CREATE INDEX recordings_waiting ON recordings (finished_at) WHERE state = 'waiting'",
    "CREATE INDEX recordings_unsafe ON recordings (state, id) WHERE state <> 'safe'",
    # What a sweep walks beside the files: a million that were removed are no part of it.
    "CREATE INDEX recordings_present ON recordings (source_id, path) WHERE past = 0",
    # Finds what was renamed: same inode, another path.
    "CREATE INDEX recordings_inode ON recordings (inode)",
    # What cleanup looks at next: in the order in which they became safe, and what it kept so far.
    (
        "CREATE INDEX recordings_removable ON recordings (source_id, safe_at)"
        " WHERE state = 'safe' AND past = 0 AND kept_until IS NULL"
    ),
    (
        "CREATE INDEX recordings_kept ON recordings (source_id, kept_until)"
        " WHERE state = 'safe' AND past = 0 AND kept_until IS NOT NULL"
    ),
    # Files that are being removed: committed before the first is put aside under the name `aside`, so
    # that a crash in between leaves nothing that nobody looks for.
    """
    CREATE TABLE removals (
        recording_id INTEGER PRIMARY KEY REFERENCES recordings,
        source_id    INTEGER NOT NULL REFERENCES sources,
        path         BLOB NOT NULL,
        aside        BLOB NOT NULL UNIQUE,
        since        INTEGER NOT NULL
    ) STRICT
    """,
    # The key is frozen with the row and the token is there before anything is sent. `session` is
    # the provider's handle (a GCS one is a bearer secret: hence the file's mode).
    # `attempt_at` is set while an attempt runs: a row that still has it at start was interrupted.
    # `source_id` and `size` are the recording's, and never change: a trigger sets them, so that an index
    # has the queue in the order of work.
    """
    CREATE TABLE uploads (
        id              INTEGER PRIMARY KEY,
        recording_id    INTEGER NOT NULL REFERENCES recordings,
        provider_id     INTEGER NOT NULL REFERENCES providers,
        source_id       INTEGER NOT NULL DEFAULT 0,
        size            INTEGER NOT NULL DEFAULT 0,
        required        INTEGER NOT NULL CHECK (required IN (0, 1)),
        state           TEXT NOT NULL DEFAULT 'queued' CHECK (
                            state IN ('queued', 'uploading', 'completing', 'verified', 'retrying', 'failed')),
        key             TEXT NOT NULL,
        token           BLOB NOT NULL,
        replaces        TEXT,
        session         TEXT,
        part_size       INTEGER,
        intent_at       INTEGER,
        completing_at   INTEGER,
        attempt_at      INTEGER,
        attempts        INTEGER NOT NULL DEFAULT 0,
        failures        INTEGER NOT NULL DEFAULT 0,
        next_attempt_at INTEGER,
        bytes_sent      INTEGER NOT NULL DEFAULT 0,
        bytes_before    INTEGER NOT NULL DEFAULT 0,
        resumed_from    INTEGER NOT NULL DEFAULT 0,
        etag            TEXT,
        version_id      TEXT,
        proof_kind      TEXT,
        proof_value     TEXT,
        verified_at     INTEGER,
        error_class     TEXT,
        error_code      TEXT,
        error_message   TEXT,
        error_hint      TEXT,
        UNIQUE (recording_id, provider_id)
    ) STRICT
    """,
    # Finds who else has a key, before another recording is given the same.
    "CREATE INDEX uploads_key ON uploads (provider_id, key)",
    "CREATE INDEX uploads_queued ON uploads (provider_id, source_id, id) WHERE state = 'queued'",
    "CREATE INDEX uploads_smallest ON uploads (provider_id, source_id, size, id) WHERE state = 'queued'",
    "CREATE INDEX uploads_retrying ON uploads (provider_id, next_attempt_at) WHERE state = 'retrying'",
    "CREATE INDEX uploads_working ON uploads (provider_id, id) WHERE state IN ('uploading', 'completing')",
    # A hint only: the provider's answer is the truth. The checksums spare a second reading of the file.
    """
    CREATE TABLE parts (
        upload_id INTEGER NOT NULL REFERENCES uploads,
        number    INTEGER NOT NULL,
        offset    INTEGER NOT NULL,
        size      INTEGER NOT NULL,
        crc32c    INTEGER NOT NULL,
        crc64nvme BLOB NOT NULL,
        md5       BLOB,
        etag      TEXT NOT NULL,
        checked   TEXT,
        PRIMARY KEY (upload_id, number)
    ) STRICT, WITHOUT ROWID
    """,
    # Sessions that will never be used again, until their provider says that they are gone.
    """
    CREATE TABLE leftovers (
        id          INTEGER PRIMARY KEY,
        provider_id INTEGER NOT NULL REFERENCES providers,
        key         TEXT NOT NULL,
        token       BLOB NOT NULL,
        session     TEXT NOT NULL,
        part_size   INTEGER NOT NULL,
        since       INTEGER NOT NULL,
        failures    INTEGER NOT NULL DEFAULT 0,
        next_try_at INTEGER NOT NULL
    ) STRICT
    """,
    # Append-only, hash-chained: `hash` = SHA-256 over the previous row's hash and this row (chain.py).
    """
    CREATE TABLE attempts (
        id           INTEGER PRIMARY KEY AUTOINCREMENT,
        recording_id INTEGER NOT NULL,
        upload_id    INTEGER NOT NULL,
        provider     TEXT NOT NULL,
        number       INTEGER NOT NULL,
        started_at   INTEGER NOT NULL,
        ended_at     INTEGER NOT NULL,
        outcome      TEXT NOT NULL,
        class        TEXT,
        code         TEXT,
        http_status  INTEGER,
        request_id   TEXT,
        bytes_sent   INTEGER NOT NULL,
        resumed_from INTEGER NOT NULL,
        message      TEXT,
        hash         BLOB NOT NULL
    ) STRICT
    """,
    "CREATE INDEX attempts_recording ON attempts (recording_id)",
    """
    CREATE TABLE events (
        id           INTEGER PRIMARY KEY AUTOINCREMENT,
        at           INTEGER NOT NULL,
        kind         TEXT NOT NULL,
        who          TEXT NOT NULL,
        source       TEXT,
        provider     TEXT,
        recording_id INTEGER,
        detail       TEXT NOT NULL,
        hash         BLOB NOT NULL
    ) STRICT
    """,
    "CREATE INDEX events_recording ON events (recording_id) WHERE recording_id IS NOT NULL",
    # The counters that `status` reads instead of counting. `present`: the local file is still there.
    """
    CREATE TABLE recording_totals (
        source_id    INTEGER NOT NULL,
        state        TEXT NOT NULL,
        acknowledged INTEGER NOT NULL,
        present      INTEGER NOT NULL,
        count        INTEGER NOT NULL,
        bytes        INTEGER NOT NULL,
        PRIMARY KEY (source_id, state, acknowledged, present)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE upload_totals (
        provider_id INTEGER NOT NULL,
        state       TEXT NOT NULL,
        count       INTEGER NOT NULL,
        PRIMARY KEY (provider_id, state)
    ) STRICT, WITHOUT ROWID
    """,
)

_COUNT_IN: Final = """
    INSERT INTO recording_totals VALUES (
        NEW.source_id, NEW.state, NEW.acknowledged_at IS NOT NULL, NEW.local = 'present', 1, NEW.size)
    ON CONFLICT DO UPDATE SET count = count + 1, bytes = bytes + excluded.bytes;
"""
_COUNT_OUT: Final = """
    UPDATE recording_totals SET count = count - 1, bytes = bytes - OLD.size
    WHERE source_id = OLD.source_id AND state = OLD.state
      AND acknowledged = (OLD.acknowledged_at IS NOT NULL) AND present = (OLD.local = 'present');
"""

_TRIGGERS: Final = (
    f"CREATE TRIGGER recordings_added AFTER INSERT ON recordings BEGIN {_COUNT_IN} END",
    f"CREATE TRIGGER recordings_pruned AFTER DELETE ON recordings BEGIN {_COUNT_OUT} END",
    f"""
    CREATE TRIGGER recordings_moved AFTER UPDATE ON recordings
    WHEN OLD.state <> NEW.state OR (OLD.acknowledged_at IS NULL) <> (NEW.acknowledged_at IS NULL)
         OR OLD.size <> NEW.size OR OLD.source_id <> NEW.source_id OR OLD.local <> NEW.local
    BEGIN {_COUNT_OUT} {_COUNT_IN} END
    """,
    """
    CREATE TRIGGER uploads_added AFTER INSERT ON uploads BEGIN
        UPDATE uploads SET (source_id, size) =
            (SELECT source_id, size FROM recordings WHERE id = NEW.recording_id)
        WHERE id = NEW.id;
        INSERT INTO upload_totals VALUES (NEW.provider_id, NEW.state, 1)
        ON CONFLICT DO UPDATE SET count = count + 1;
    END
    """,
    """
    CREATE TRIGGER uploads_pruned AFTER DELETE ON uploads BEGIN
        UPDATE upload_totals SET count = count - 1
        WHERE provider_id = OLD.provider_id AND state = OLD.state;
    END
    """,
    """
    CREATE TRIGGER uploads_moved AFTER UPDATE OF state ON uploads WHEN OLD.state <> NEW.state BEGIN
        UPDATE upload_totals SET count = count - 1
        WHERE provider_id = OLD.provider_id AND state = OLD.state;
        INSERT INTO upload_totals VALUES (NEW.provider_id, NEW.state, 1)
        ON CONFLICT DO UPDATE SET count = count + 1;
    END
    """,
    """
    CREATE TRIGGER uploads_settled AFTER UPDATE OF state ON uploads
    WHEN NEW.required AND OLD.state <> NEW.state
         AND (OLD.state IN ('verified', 'failed') OR NEW.state IN ('verified', 'failed'))
    BEGIN
        UPDATE recordings
        SET verified = verified + (NEW.state = 'verified') - (OLD.state = 'verified'),
            failed = failed + (NEW.state = 'failed') - (OLD.state = 'failed')
        WHERE id = NEW.recording_id;
        UPDATE recordings SET safe_at = NEW.verified_at
        WHERE id = NEW.recording_id AND state = 'safe' AND safe_at IS NULL;
    END
    """,
    # The history stays as it was written; what is pruned must have been exported first, and the
    # horizon is set in the same transaction (`meta`: attempts_exported, events_exported).
    *(
        f"""
        CREATE TRIGGER {table}_{verb.lower()} BEFORE {verb} ON {table} {guard}
        BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END
        """
        for table in ("attempts", "events")
        for verb, guard in (
            ("UPDATE", ""),
            (
                "DELETE",
                f"WHEN OLD.id > coalesce((SELECT value FROM meta WHERE name = '{table}_exported'), 0)",
            ),
        )
    ),
)


@migrations()
def m001_first(db: Database) -> None:
    """The schema of version 0.1."""
    for statement in (*_TABLES, *_TRIGGERS, *tally.TABLES, *tally.TRIGGERS, *samples.TABLES):
        db.conn.execute(statement)
    db.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")


@migrations()
def m002_silence(db: Database) -> None:
    """When each source was last heard of."""
    for statement in silence.CHANGES:
        db.conn.execute(statement)


@migrations()
def m003_webhooks(db: Database) -> None:
    """What is to be told, and to whom."""
    for statement in (*outbox.TABLES, *outbox.TRIGGERS):
        db.conn.execute(statement)


@migrations()
def m004_unseen(db: Database) -> None:
    """What of each source cannot be looked into."""
    db.conn.execute("ALTER TABLE sources ADD COLUMN unseen TEXT")


@migrations()
def m005_inodes(db: Database) -> None:
    """What was renamed is found by inode and mtime: of a year's recordings, hundreds had each inode."""
    db.conn.execute("DROP INDEX recordings_inode")
    db.conn.execute("CREATE INDEX recordings_inode ON recordings (inode, mtime_ns)")
