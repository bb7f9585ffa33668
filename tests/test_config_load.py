"""Where the configuration comes from, and what overrides what."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.config import (
    Config,
    ConfigError,
    DirectoryProvider,
    GcsProvider,
    S3Provider,
    effective,
    load,
    text,
)

MINIMAL = """
[ledger]
path = "state/ledger.db"
[sources.cams]
path = "rec"
[providers.main]
type = "s3"
bucket = "b"
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(content)
        return path

    return write


def faults(path: Path | None, **options: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        load(path, **{"env": {}} | options)  # type: ignore[arg-type]
    return refused.value.faults


def test_paths_are_relative_to_the_files_folder(write: Write, tmp_path: Path) -> None:
    config = load(write(MINIMAL), env={})
    assert config.sources["cams"].path == tmp_path / "rec"
    assert config.ledger.path == tmp_path / "state/ledger.db"
    assert config.web.socket == tmp_path / "state/control.sock"
    assert config.origin(("web", "socket")) == "beside the ledger"


def test_home_is_expanded_and_dots_are_resolved(write: Write) -> None:
    config = load(write(MINIMAL.replace('"rec"', '"~/a/../rec"')), env={"HOME": "/home/me"})
    assert config.sources["cams"].path == Path("/home/me/rec")


def test_the_lookup_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(MINIMAL)
        return path

    flag, variable = put("flag.toml"), put("variable.toml")
    xdg, home = put("xdg/uploaderd/config.toml"), put("home/.config/uploaderd/config.toml")
    env = {"HOME": str(tmp_path / "home")}
    assert load(None, env=env).file == home
    env |= {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    assert load(None, env=env).file == xdg
    env |= {"UPLOADERD_CONFIG": str(variable)}
    assert load(None, env=env).file == variable
    assert load(flag, env=env).file == flag
    assert load(None, env=env | {"UPLOADERD_CONFIG": ""}).file == xdg


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    gone = tmp_path / "gone.toml"
    assert faults(gone) == (f"{gone}: there is no such file",)
    assert faults(None, env={"UPLOADERD_CONFIG": str(gone)}) == (f"{gone}: there is no such file",)
    assert "cannot be read" in faults(tmp_path)[0]


def test_no_configuration_says_where_it_looked(tmp_path: Path) -> None:
    if Path("/etc/uploaderd/config.toml").exists():
        pytest.fail("this machine has a configuration of its own in /etc/uploaderd")
    (fault,) = faults(None, env={"XDG_CONFIG_HOME": str(tmp_path)})
    for said in (
        str(tmp_path / "uploaderd/config.toml"),
        "/etc/uploaderd/config.toml",
        "--quickstart",
        "./uploaderd.db",
    ):
        assert said in fault
    # A variable that names neither a source nor a provider is no configuration.
    assert faults(None, env={"UPLOADERD_DAEMON__LOG_LEVEL": "debug"})[0].startswith(
        "there is no configuration"
    )


def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(None, env={"STATE_DIRECTORY": "/nowhere", "RUNTIME_DIRECTORY": "/nowhere"}, quickstart=True)
    assert config.ledger.path == tmp_path / "uploaderd.db"
    assert config.web.socket == tmp_path / "uploaderd.sock"
    assert config.sources["recordings"].path == tmp_path / "recordings"
    uploaded = config.providers["uploaded"]
    assert isinstance(uploaded, DirectoryProvider)
    assert uploaded.path == tmp_path / "uploaded"
    assert "--quickstart" in faults(tmp_path / "x.toml", quickstart=True)[0]


def test_the_service_managers_directories(write: Write) -> None:
    path = write(MINIMAL.replace('[ledger]\npath = "state/ledger.db"', ""))
    config = load(path, env={"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "RUNTIME_DIRECTORY": "/run/a"})
    assert (config.ledger.path, config.web.socket) == (
        Path("/var/lib/a/ledger.db"),
        Path("/run/a/control.sock"),
    )
    assert config.origin(("ledger", "path")) == "$STATE_DIRECTORY"
    config = load(path, env={"STATE_DIRECTORY": "/var/lib/a", "UPLOADERD_LEDGER__PATH": "/x/l.db"})
    assert (config.ledger.path, config.web.socket) == (Path("/x/l.db"), Path("/x/control.sock"))
    assert load(path, env={}).ledger.path == Path("/var/lib/uploaderd/ledger.db")


def test_what_overrides_what(write: Write, tmp_path: Path) -> None:
    path = write(MINIMAL + 'access_key_id = "id"\nsecret_access_key = "from file"\n')
    given, credentials = tmp_path / "given", tmp_path / "credentials"
    name = "providers__main__secret_access_key"
    env: dict[str, str] = {}

    def value(secrets_dir: Path | None = None) -> tuple[str, str]:
        config = load(path, env=env, secrets_dir=secrets_dir)
        provider = config.providers["main"]
        assert isinstance(provider, S3Provider)
        assert provider.secret_access_key
        return provider.secret_access_key.get_secret_value(), config.origin(
            ("providers", "main", "secret_access_key")
        )

    assert value() == ("from file", str(path))
    for directory, content in ((given, "given\n"), (credentials, "credential\r\n")):
        directory.mkdir()
        (directory / name).write_text(content)
    env["CREDENTIALS_DIRECTORY"] = str(credentials)
    assert value() == ("credential", str(credentials / name))
    assert value(given) == ("given", str(given / name))
    env["UPLOADERD_PROVIDERS__MAIN__SECRET_ACCESS_KEY"] = "variable"
    assert value(given) == ("variable", "environment UPLOADERD_PROVIDERS__MAIN__SECRET_ACCESS_KEY")
    env["UPLOADERD_PROVIDERS__MAIN__SECRET_ACCESS_KEY"] = ""
    assert value(given)[0] == "given"


def test_secret_files_of_others_are_left_alone_and_ours_must_be_right(write: Write, tmp_path: Path) -> None:
    path, secrets = write(MINIMAL), tmp_path / "secrets"
    secrets.mkdir()
    for name in ("tls.key", "..data", "other__thing", "web"):
        (secrets / name).write_text("x")
    (secrets / "providers__dir__sub").mkdir()
    load(path, env={}, secrets_dir=secrets)
    (secrets / "providers__main__secret_acces_key").write_text("sesame")
    (fault,) = faults(path, secrets_dir=secrets)
    assert fault.startswith(str(secrets / "providers__main__secret_acces_key"))
    assert 'did you mean "providers__main__secret_access_key"?' in fault
    assert "sesame" not in fault
    assert "cannot be read" in faults(path, secrets_dir=tmp_path / "gone")[0]


def test_a_secret_file_that_is_itself_the_value(write: Write, tmp_path: Path) -> None:
    path = write(MINIMAL.replace("s3", "gcs"))
    file = tmp_path / "providers__main__credentials_file"
    file.write_text("{}")
    provider = load(path, env={}, secrets_dir=tmp_path).providers["main"]
    assert isinstance(provider, GcsProvider)
    assert provider.credentials_file == file


def test_variables_of_every_shape(write: Write) -> None:
    path = write(MINIMAL + '[providers.nas]\ntype = "directory"\npath = "/mnt"\n')
    config = load(
        path,
        env={
            "UPLOADERD_SOURCES__CAMS__QUIET_FOR": "1h30m",
            "UPLOADERD_SOURCES__CAMS__INCLUDE": "a, b",
            "UPLOADERD_SOURCES__CAMS__EXCLUDE": '["c,d", "e"]',
            "UPLOADERD_SOURCES__CAMS__REQUIRED": "1",
            "UPLOADERD_SOURCES__CAMS__POLLING": "true",
            "UPLOADERD_PROVIDERS__NAS__MAX_UPLOADS": "9",
            "UPLOADERD_SOURCES__CAMS__METADATA__SITE": "7",
            "UPLOADERD_SOURCES__CAMS__METADATA": '{"a": "b"}',
            "UPLOADERD_SOURCES__CAMS__KEY": "{source}/{name}",
            "UPLOADERD_SOURCES__CAMS__CLEANUP__POLICY": "keep",
        },
    )
    source = config.sources["cams"]
    assert (source.quiet_for, source.required, source.polling) == (5400.0, 1, True)
    assert config.providers["nas"].max_uploads == 9
    assert (source.include, source.exclude) == (("a", "b"), ("c,d", "e"))
    assert source.metadata == {"a": "b", "site": "7"}
    assert source.key == "{source}/{name}"
    for value, required in (("all", "all"), ("nas", ("nas",)), ("main,nas", ("main", "nas"))):
        assert (
            load(path, env={"UPLOADERD_SOURCES__CAMS__REQUIRED": value}).sources["cams"].required == required
        )


def test_variables_alone_are_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(
        None,
        env={
            "UPLOADERD_SOURCES__A__PATH": "rec",
            "UPLOADERD_PROVIDERS__P__TYPE": "directory",
            "UPLOADERD_PROVIDERS__P__PATH": "/copies",
        },
    )
    assert config.file is None
    assert config.sources["a"].path == tmp_path / "rec"


def test_kubernetes_variables_are_not_ours(write: Write) -> None:
    load(
        write(MINIMAL),
        env={
            "UPLOADERD_PORT": "tcp://10.0.0.1:9464",
            "UPLOADERD_PORT_9464_TCP_ADDR": "10.0.0.1",
            "UPLOADERD_SERVICE_HOST": "10.0.0.1",
            "UPLOADERD_SERVICE_PORT_METRICS": "9464",
            "UPLOADERD_WEB_SERVICE_HOST": "10.0.0.1",
            "UPLOADERD_WEB_PORT_9464_TCP": "tcp://10.0.0.1:9464",
        },
    )


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("UPLOADERD_LOG_LEVEL", '"UPLOADERD_DAEMON__LOG_LEVEL"'),
        ("UPLOADERD_SOURCES__CAMS__QUITE_FOR", '"UPLOADERD_SOURCES__CAMS__QUIET_FOR"'),
        ("UPLOADERD_SOURCES__CAMS__CLEANUP", "UPLOADERD_SOURCES__CAMS__CLEANUP__POLICY"),
        ("UPLOADERD_SOURCES__CAMS", "UPLOADERD_SOURCES__CAMS__PATH"),
        ("UPLOADERD_SOURCES", "UPLOADERD_SOURCES__NAME"),
        ("UPLOADERD_DEBUG", "must name a key"),
        ("UPLOADERD_WEB_PORT__LISTEN", "unknown variable"),
        ("UPLOADERD_SOURCES__CAMS__KEY__X", "unknown variable"),
    ],
)
def test_unknown_variables_are_refused_without_their_value(write: Write, variable: str, said: str) -> None:
    (fault,) = faults(write(MINIMAL), env={variable: "sesame"})
    assert fault.startswith(f"environment {variable}: ")
    assert said in fault
    assert "sesame" not in fault


def test_a_misspelt_name_in_a_variable(write: Write) -> None:
    (fault,) = faults(write(MINIMAL), env={"UPLOADERD_PROVIDERS__MIAN__BUCKET": "b"})
    assert fault.startswith("environment UPLOADERD_PROVIDERS__MIAN__BUCKET: providers.mian: ")
    assert 'did you mean "main"?' in fault


def test_one_key_twice(write: Write) -> None:
    (fault,) = faults(write(MINIMAL), env={"UPLOADERD_WEB__SOCKET": "/a", "UPLOADERD_Web__socket": "/b"})
    assert "is the same key as" in fault


def test_names_with_double_underscores(write: Write) -> None:
    path = write(
        MINIMAL + '[providers.a__b]\ntype = "s3"\nbucket = "c"\n[providers.a]\ntype = "s3"\nbucket = "d"\n'
    )
    providers = load(
        path, env={"UPLOADERD_PROVIDERS__A__B__REGION": "one", "UPLOADERD_PROVIDERS__A__REGION": "two"}
    ).providers
    assert [getattr(providers[name], "region", None) for name in ("a__b", "a")] == ["one", "two"]


def test_the_files_order_is_kept(write: Write) -> None:
    path = write(MINIMAL + "".join(f'[providers.{name}]\ntype = "s3"\nbucket = "{name}"\n' for name in "zay"))
    config = load(
        path,
        env={
            "UPLOADERD_PROVIDERS__A__REGION": "r",
            "UPLOADERD_PROVIDERS__B__TYPE": "s3",
            "UPLOADERD_PROVIDERS__B__BUCKET": "q",
        },
    )
    assert tuple(config.providers) == ("main", "z", "a", "y", "b")
    assert config.providers_of("cams") == ("main", "z", "a", "y", "b")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"[a\n", "is not TOML"), (b"a = '\xff'", "is not UTF-8"), (b"[web]\n[web]\n", "is not TOML")],
)
def test_files_that_are_no_toml(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    (fault,) = faults(path)
    assert fault.startswith(f"{path}: {said}")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load(path, env={}).sources


def test_shown_without_secrets_and_read_back(write: Write, tmp_path: Path) -> None:
    secrets = {
        "secret_access_key": "sesame-1",
        "session_token": "sesame-2",
        "proxy": "http://me:sesame-3@proxy:3128",
        "assume_role_arn": "arn:aws:iam::000000000000:role/sesame-4",
        "external_id": "sesame-5",
    }
    lines = "".join(f'{key} = "{value}"\n' for key, value in secrets.items())
    path = write(
        MINIMAL
        + 'access_key_id = "AK"\ntags = { "a b" = "c\\"d" }\n'
        + lines
        + '[sources.other]\npath = "/o"\nquiet_for = "5s"\nkey = "x/{name}"\n'
    )
    config = load(path, env={"UPLOADERD_PROVIDERS__MAIN__PART_SIZE": "8MiB"})
    shown = text(config)
    assert "sesame" not in shown + repr(config) + str(effective(config))
    assert effective(config)["providers"]["main"]["secret_access_key"] == "SET"
    assert 'part_size = "8MiB"  # environment UPLOADERD_PROVIDERS__MAIN__PART_SIZE' in shown
    assert f'quiet_for = "5s"  # {path}' in shown
    assert 'quiet_for = "auto"  # default' in shown

    for key, value in secrets.items():
        shown = shown.replace(f'{key} = "SET"', f'{key} = "{value}"')
    again = tmp_path / "again.toml"
    again.write_text(shown)
    assert load(again, env={}).model_dump() == config.model_dump()
    assert sorted(config.secrets()) == sorted(
        value for key, value in secrets.items() if key in ("secret_access_key", "session_token", "proxy")
    )


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_can_be_shown_and_read_back(value: str) -> None:
    import tomllib

    config = Config(daemon={"site": value})
    assert tomllib.loads(text(config))["daemon"]["site"] == value


def test_neither_the_environment_nor_a_file_is_read_behind_the_callers_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LEDGER", '{"path": "/evil"}')
    monkeypatch.setenv("SOURCES", '{"x": {"path": "/evil"}}')
    assert Config() == Config(sources={})
    assert not Config().sources


def test_it_cannot_be_changed(write: Write) -> None:
    config = load(write(MINIMAL), env={})
    with pytest.raises(ValueError, match="frozen"):
        config.sources["cams"].empty = "upload"  # type: ignore[misc]


def test_the_import_brings_no_library_that_the_command_line_need_not_have() -> None:
    heavy = (
        "aiobotocore",
        "aiohttp",
        "azure",
        "gcloud",
        "structlog",
        "rich",
        "sqlite_utils",
        "watchfiles",
        "typer",
    )
    code = f"import uploaderd.config, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"
