"""A recording with its uploads, as a line of `list --json`."""

from __future__ import annotations

from uploaderd.addresses import address, container
from uploaderd.config import Config
from uploaderd.keys import text_of
from uploaderd.ledger import read
from uploaderd.report import model
from uploaderd.report.model import Recording, UploadLine, iso, time_of


def recording(row: read.RecordingRow, config: Config) -> Recording:
    """The recording; addresses are made from the configuration, which a removed provider has not."""
    return {
        "schema_version": model.SCHEMA_VERSION,
        "id": row.id,
        "source": row.source,
        "path": text_of(row.path),
        "size": row.size,
        "state": row.state,
        "finished_at": iso(row.finished_at),
        "finished_by": row.finished_by,
        "found_at": iso(row.found_at),
        "found_by": row.found_by,
        "local": row.local,
        "safe_at": time_of(row.safe_at),
        "acknowledged_at": time_of(row.acknowledged_at),
        "reason": row.reason,
        "doubt": row.doubt,
        "uploads": {name: _upload(upload, config) for name, upload in row.uploads.items()},
    }


def _upload(row: read.UploadRow, config: Config) -> UploadLine:
    provider = config.providers.get(row.provider)
    return {
        "state": row.state,
        "bucket": container(provider) if provider is not None else None,
        "key": row.key,
        "url": address(provider, row.key) if provider is not None else None,
        "version_id": row.version_id,
        "etag": row.etag,
        "attempts": row.attempts,
        "bytes_sent": row.bytes_sent,
        "required": bool(row.required),
        "proof": {"kind": row.proof_kind, "value": row.proof_value or ""} if row.proof_kind else None,
        "verified_at": time_of(row.verified_at),
        "replaced": bool(row.replaced),
        "next_attempt_at": time_of(row.next_attempt_at),
        "error": {
            "class": row.error_class or "",
            "code": row.error_code,
            "message": row.error_message,
            "hint": row.error_hint or "",
        }
        if row.error_message is not None
        else None,
    }
