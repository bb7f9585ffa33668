"""The daemon's first log lines."""

from __future__ import annotations

from pathlib import Path

from uploaderd.config import load
from uploaderd.notice import effective_lines


def test_each_table_is_a_line_and_secrets_and_roles_are_set(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[sources.cameras]\npath = "in"\n[providers.s3_main]\ntype = "s3"\nbucket = "rec"\n'
        'access_key_id = "id"\nsecret_access_key = "not-a-real-secret"\n'
        'assume_role_arn = "arn:aws:iam::1:role/uploader"\n',
        encoding="utf-8",
    )
    lines = list(effective_lines(load(file, env={})))
    assert [line["table"] for line in lines] == [
        "ledger",
        "daemon",
        "web",
        "heartbeat",
        "sources.cameras",
        "providers.s3_main",
    ]
    values = lines[-1]["values"]
    assert isinstance(values, dict)
    assert (values["secret_access_key"], values["assume_role_arn"]) == ("SET", "SET")
    assert "not-a-real-secret" not in str(lines)
    assert "role/uploader" not in str(lines)
