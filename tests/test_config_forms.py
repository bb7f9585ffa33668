"""What people copy from a cloud's console: a slip is a line and exit 78, and never shows the secret."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from uploaderd.config import ConfigError, load

FILE = '[ledger]\npath = "l.db"\n[sources.cams]\npath = "rec"\n[providers.p]\n'
S3 = 'type = "s3"\nbucket = "b"\n'
AZURE = 'type = "azure"\ncontainer = "c"\n'
GCS = 'type = "gcs"\nbucket = "b"\n'


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("region", S3 + 'region = "eu central"'),
        ("region", S3 + 'region = "https://eu-central-1"'),
        ("assume_role_arn", S3 + 'assume_role_arn = "not-a-real-secret-role"'),
        ("role_session_name", S3 + 'assume_role_arn = "arn:aws:iam::1:role/abc"\nrole_session_name = "a b"'),
        (
            "external_id",
            S3 + 'assume_role_arn = "arn:aws:iam::1:role/abc"\nexternal_id = "not a real secret"',
        ),
        ("tags", S3 + "tags = { " + ", ".join(f'a{n} = "b"' for n in range(11)) + " }"),
        ("checksum", S3 + 'legal_hold = true\nchecksum = "none"'),
        ("lock_mode", S3 + 'lock_mode = "compliance"'),
        ("connection_string", AZURE + 'connection_string = "not-a-real-secret"'),
        ("connection_string", AZURE + 'connection_string = "AccountName=a;not-a-real-secret"'),
        (
            "account",
            AZURE + 'account = "a"\nconnection_string = "AccountName=b;AccountKey=not-a-real-secret"',
        ),
        ("container", AZURE.replace('"c"', '"My_Recordings"') + 'account = "a"'),
        ("sas_token", AZURE + 'account = "a"\nsas_token = "not-a-real-secret"'),
        ("tenant_id", AZURE + 'account = "a"\ntenant_id = "a b"\nclient_id = "c"'),
        ("endpoint_url", AZURE + 'account = "a"\nendpoint_url = "http://127.0.0.1:10000/a"'),
        ("tags", AZURE + f'account = "a"\ntags = {{ a = "{"x" * 257}" }}'),
        ("kms_key_name", GCS + 'kms_key_name = "my-key"'),
    ],
)
def test_a_slip_is_told_with_its_key_and_without_its_value(key: str, table: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(FILE + table + "\n")
    with pytest.raises(ConfigError) as refused:
        load(file, env={})
    (fault,) = refused.value.faults
    assert fault.startswith(f"{file}: providers.p.{key}: ")
    assert "not-a-real-secret" not in fault and "\n" not in fault


def test_the_roles_of_other_stores_are_roles(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    for role in ("arn:aws:iam:::role/S3Access", "arn:minio:iam:::role/idmp-recorder"):
        file.write_text(FILE + S3 + f'assume_role_arn = "{role}"\n')
        load(file, env={})


def test_it_is_exit_78_and_one_line(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(FILE + AZURE + 'connection_string = "not-a-real-secret"\n')
    done = subprocess.run(
        [sys.executable, "-m", "uploaderd", "run", "--config", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (78, "", 1)
