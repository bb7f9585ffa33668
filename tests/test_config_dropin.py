"""Other systems' variables, without a configuration file: what they come to, and what is wrong with them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from uploaderd.config import Config, ConfigError, NoConfigurationError, S3Provider, effective, load, text
from uploaderd.config.env_file import EnvFile
from uploaderd.config.slots import slot

S3 = {"AWS_RECORDING_STORAGE_BUCKET_NAME": "recordings"}
KEY = {"AWS_ACCESS_KEY_ID": "not-a-real-id", "AWS_SECRET_ACCESS_KEY": "not-a-real-key"}
AZURE = {"AZURE_STORAGE_CONTAINER_NAME": "recordings", "AZURE_STORAGE_ACCOUNT_NAME": "account"}
GCS = {"GCS_BUCKET_NAME": "recordings"}
GCS_ON = GCS | {"GCP_STORAGE_USE_GCS": "1"}
ALL = S3 | KEY | AZURE | GCS
DOCS = Path(__file__).parents[1] / "docs" / "drop-in.md"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(env: dict[str, str]) -> Config:
    return load(None, env=env)


def faults(env: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        loaded(env)
    return refused.value.faults


@pytest.mark.parametrize(
    ("mode", "on"),
    [
        (None, ["s3"]),
        ("s3", ["s3"]),
        ("azure", ["azure"]),
        ("gcs", ["gcs"]),
        ("both", ["s3", "azure"]),
        ("ALL", ["s3", "azure", "gcs"]),
        ("s3, gcs,", ["s3", "gcs"]),
    ],
)
def test_the_mode_says_which_providers_are_on(mode: str | None, on: list[str]) -> None:
    config = loaded(ALL | ({"STORAGE_UPLOAD_MODE": mode} if mode else {}))
    assert list(config.providers) == on == list(config.switches.on)
    assert set(config.switches.off) == {"s3", "azure", "gcs", "tavus"} - set(on)


def test_each_variable_becomes_its_key_and_says_where_it_came_from() -> None:
    env = ALL | {
        "STORAGE_UPLOAD_MODE": "all",
        "AWS_SESSION_TOKEN": "not-a-real-token",
        "AWS_ENDPOINT_URL": "https://minio.example.org",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AZURE_STORAGE_ACCOUNT_KEY": "not-a-real-key",
        "TAVUS_ENABLE_RECORDING": "true",
        "TAVUS_RECORDING_S3_BUCKET_NAME": "tavus",
        "TAVUS_RECORDING_S3_BUCKET_REGION": "us-west-2",
        "TAVUS_AWS_ASSUME_ROLE_ARN": "arn:aws:iam::000000000000:role/tavus",
        "GCP_STORAGE_USE_GCS": "true",
        "GCP_STORAGE_AUTO_UPLOAD": "False",
        "GCP_STORAGE_CLEANUP_LOCAL": "1",
        "GCP_STORAGE_UPLOAD_TIMEOUT": "300",
        "GCP_STORAGE_RETRY_ATTEMPTS": "3",
        "GCP_STORAGE_RETRY_DELAY": "2.5",
        "GOOGLE_APPLICATION_CREDENTIALS": "/etc/gcs.json",
        "RECORDINGS_DIR": "/srv/rec",
    }
    config = loaded(env)
    s3, tavus = config.providers["s3"], config.providers["tavus"]
    assert isinstance(s3, S3Provider) and isinstance(tavus, S3Provider)
    assert (s3.endpoint_url, s3.region) == ("https://minio.example.org", "eu-central-1")
    assert (tavus.bucket, tavus.region, tavus.endpoint_url) == ("tavus", "us-west-2", None)
    assert tavus.assume_role_arn == env["TAVUS_AWS_ASSUME_ROLE_ARN"]
    gcs = config.providers["gcs"]
    assert (gcs.auto_upload, gcs.attempt_timeout, gcs.trouble_after, gcs.retry_delay) == (False, 300, 3, 2.5)
    for source in config.sources.values():
        assert (str(source.path), source.key, source.cleanup.policy) == (
            "/srv/rec",
            "{name}",
            "delete-when-safe",
        )
    assert list(config.sources) == ["debug_recordings", "recordings"], "the first that takes a file has it"
    assert config.sources["debug_recordings"].include == ("**/debug_screen_recording_*.mp4",)
    origins = set(config._origins.values())
    assert {variable for variable in env if f"environment {variable}" not in origins} == {
        "STORAGE_UPLOAD_MODE",
        "TAVUS_ENABLE_RECORDING",
        "GCP_STORAGE_USE_GCS",
    }, "and these three decide which providers there are"
    shown = text(config)
    assert not [secret for secret in ("not-a-real-key", "not-a-real-token", "role/tavus") if secret in shown]
    assert "# environment TAVUS_AWS_ASSUME_ROLE_ARN" in shown


def test_the_file_that_show_prints_means_the_same(tmp_path: Path) -> None:
    config = loaded(S3 | {"RECORDINGS_DIR": "/srv/rec", "GCP_STORAGE_CLEANUP_LOCAL": "true"})
    file = tmp_path / "config.toml"
    file.write_text(text(config))
    assert effective(load(file, env={})) == effective(config)
    assert config.switches.unused == ["GCP_STORAGE_CLEANUP_LOCAL: gcs is off"]
    assert all(source.cleanup.policy == "keep" for source in config.sources.values())


def test_no_object_is_replaced_that_may_be_the_only_copy() -> None:
    for removes, said in (("false", "replace"), ("true", "keep-both")):
        config = loaded(S3 | GCS_ON | {"STORAGE_UPLOAD_MODE": "s3", "GCP_STORAGE_CLEANUP_LOCAL": removes})
        assert {provider.on_new_version for provider in config.providers.values()} == {said}


def test_variables_of_ours_go_on_top() -> None:
    config = loaded(S3 | {"UPLOADERD_PROVIDERS__S3__STORAGE_CLASS": "STANDARD_IA"})
    s3 = config.providers["s3"]
    assert isinstance(s3, S3Provider) and s3.storage_class == "STANDARD_IA"


def test_a_configuration_of_ours_leaves_them_alone(tmp_path: Path) -> None:
    """The recorder's environment is often the sidecar's as well."""
    ours = {"UPLOADERD_SOURCES__BOT__PATH": "/rec", "UPLOADERD_PROVIDERS__NAS__TYPE": "directory"}
    config = loaded(ALL | ours | {"UPLOADERD_PROVIDERS__NAS__PATH": "/nas"})
    assert (list(config.sources), list(config.providers)) == (["bot"], ["nas"])
    file = tmp_path / "config.toml"
    file.write_text('[sources.a]\npath = "a"\n[providers.n]\ntype = "directory"\npath = "/n"\n')
    assert list(load(file, env=ALL | {"STORAGE_UPLOAD_MODE": "nonsense"}).providers) == ["n"]


@pytest.mark.parametrize(
    ("env", "named"),
    [
        (
            S3 | {"STORAGE_UPLOAD_MODE": "both"},
            ["AZURE_STORAGE_CONTAINER_NAME", "AZURE_STORAGE_ACCOUNT_NAME"],
        ),
        (AZURE, ["AWS_RECORDING_STORAGE_BUCKET_NAME"]),
        (S3 | {"GCP_STORAGE_USE_GCS": "yes"}, ["GCS_BUCKET_NAME"]),
        (S3 | {"TAVUS_ENABLE_RECORDING": "on"}, ["TAVUS_RECORDING_S3_BUCKET_NAME"]),
        (S3 | {"AWS_ACCESS_KEY_ID": "not-a-real-id"}, ["AWS_SECRET_ACCESS_KEY"]),
        (S3 | {"STORAGE_UPLOAD_MODE": "ftp,s3,sftp"}, ["STORAGE_UPLOAD_MODE"]),
        (S3 | {"STORAGE_UPLOAD_MODE": ","}, ["STORAGE_UPLOAD_MODE"]),
        (ALL | {"STORAGE_UPLOAD_MODE": "all", "GCP_STORAGE_USE_GCS": "no"}, ["GCP_STORAGE_USE_GCS"]),
        (S3 | {"TAVUS_ENABLE_RECORDING": "perhaps"}, ["TAVUS_ENABLE_RECORDING"]),
        (
            GCS_ON | {"GCP_STORAGE_RETRY_ATTEMPTS": "0"},
            ["GCP_STORAGE_RETRY_ATTEMPTS"],
        ),
        (GCS_ON | {"GCP_STORAGE_RETRY_DELAY": "soon"}, ["GCP_STORAGE_RETRY_DELAY"]),
        (
            GCS_ON | {"GCP_STORAGE_UPLOAD_TIMEOUT": "0"},
            ["GCP_STORAGE_UPLOAD_TIMEOUT"],
        ),
        ({"STORAGE_UPLOAD_MODE": "gcs"}, ["GCS_BUCKET_NAME"]),
    ],
)
def test_what_is_missing_or_wrong_is_named(env: dict[str, str], named: list[str]) -> None:
    said = faults(env)
    assert [fault.split(":")[0] for fault in said] == [f"environment {variable}" for variable in named]
    assert not [fault for fault in said if "not-a-real" in fault]


@pytest.mark.parametrize(
    "env", [KEY, KEY | {"AWS_RECORDING_STORAGE_BUCKET_NAME": ""}, {"TAVUS_ENABLE_RECORDING": "1"}]
)
def test_it_never_starts_on_an_access_key_alone(env: dict[str, str]) -> None:
    with pytest.raises(NoConfigurationError):
        loaded(env)


def test_whoever_wants_gcs_or_tavus_alone_needs_no_s3() -> None:
    config = loaded(GCS | {"GCP_STORAGE_USE_GCS": "true"})
    assert (list(config.providers), config.switches.off["s3"]) == (["gcs"], "STORAGE_UPLOAD_MODE is not set")


def test_of_two_logins_to_azure_the_connection_string_wins_and_that_is_said() -> None:
    both = {
        "AZURE_STORAGE_CONNECTION_STRING": "AccountName=account;AccountKey=not-a-real-key",
        "AZURE_STORAGE_ACCOUNT_KEY": "not-a-real-key",
    }
    config = loaded(AZURE | both | {"STORAGE_UPLOAD_MODE": "azure"})
    assert config.switches.unused == [
        "AZURE_STORAGE_ACCOUNT_KEY: AZURE_STORAGE_CONNECTION_STRING is the login"
    ]


def test_the_table_names_every_variable_and_keys_that_there_are() -> None:
    from uploaderd.config import dropin

    table = "\n".join(line for line in DOCS.read_text().splitlines() if line.startswith("| `"))
    code = Path(dropin.__file__).read_text()
    variables = set(re.findall(r'"((?:AWS|AZURE|GCP|GCS|GOOGLE|TAVUS|STORAGE|RECORDINGS)_[A-Z0-9_]+)"', code))
    assert variables == set(re.findall(r"`([A-Z0-9]+_[A-Z0-9_]+)`", table))
    for provider, key in re.findall(r"`\[providers\.(\w+)\] (\w+)`", table):
        assert slot(("providers", provider, key)) is not None, key


def test_an_env_file_fills_in_what_is_not_set_and_can_be_read_again(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# comment\nexport A='one # two'\nB=two # said\nC=\"${A}\"\nD=\nSET=file\n")
    env = {"SET": "environment"}
    variables = EnvFile(file)
    variables.apply(env)
    assert env == {"A": "one # two", "B": "two", "C": "${A}", "D": "", "SET": "environment"}
    file.write_text("B=three\nSET=file\n")
    variables.apply(env)
    assert env == {"B": "three", "SET": "environment"}


@pytest.mark.parametrize("content", ["A=1\nnot-a-real-secret\n", "A=1\n'B=not-a-real-secret\n"])
def test_a_line_that_is_none_is_named_by_its_number_alone(content: str, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(content)
    env: dict[str, str] = {}
    with pytest.raises(ConfigError) as refused:
        EnvFile(file).apply(env)
    assert (refused.value.faults, env) == ((f"--env-file {file}: line 2: must be NAME=value",), {})


def test_the_example_of_a_file_is_toml() -> None:
    assert tomllib.loads(text(loaded(S3)))["providers"]["s3"]["bucket"] == "recordings"
