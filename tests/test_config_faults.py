"""What is refused, and in which words. Each fault names the file, the key and the way out."""

from pathlib import Path
from typing import Any

import pytest

from uploaderd.config import Config, ConfigError, Source, load
from uploaderd.config.contradictions import LONGEST_SOCKET
from uploaderd.config.slots import slot

GOOD = """
[ledger]
path = "/state/ledger.db"
[sources.cams]
path = "/rec"
{source}
[providers.main]
type = "s3"
bucket = "b"
{provider}
[providers.nas]
type = "directory"
path = "/mnt/nas"
{directory}
{rest}
"""


def refused(tmp_path: Path, *, complete: bool = True, **parts: str) -> tuple[str, ...]:
    """The faults of the good configuration with these additions, without the file's name."""
    path = tmp_path / "c.toml"
    path.write_text(GOOD.format(**({"source": "", "provider": "", "directory": "", "rest": ""} | parts)))
    with pytest.raises(ConfigError) as error:
        load(path, env={}, complete=complete)
    assert all(fault.startswith(f"{path}: ") for fault in error.value.faults)
    return tuple(fault.removeprefix(f"{path}: ") for fault in error.value.faults)


def accepted(tmp_path: Path, *, complete: bool = True, **parts: str) -> Config:
    path = tmp_path / "c.toml"
    path.write_text(GOOD.format(**({"source": "", "provider": "", "directory": "", "rest": ""} | parts)))
    return load(path, env={}, complete=complete)


@pytest.mark.parametrize(
    ("part", "text", "fault"),
    [
        (
            "source",
            "quiet_for = 5",
            'sources.cams.quiet_for: 5 has no unit; write a duration such as "5s", or "auto"',
        ),
        ("source", "quite_for = 5", 'sources.cams.quite_for: unknown key; did you mean "quiet_for"?'),
        ("source", 'sweep_every = "0s"', "sources.cams.sweep_every: must be longer than nothing"),
        ("source", 'include = "*.mp4"', 'sources.cams.include: must be a list, such as ["..."]'),
        ("source", "include = []", "sources.cams.include: must not be empty"),
        ("source", 'include = ["a", 3]', "sources.cams.include: item 2: must be text in quotes"),
        ("source", 'exclude = ["a", "../b"]', "sources.cams.exclude: item 2: '../b' must be relative to"),
        ("source", 'polling = "yes"', 'sources.cams.polling: must be "auto", true or false'),
        ("source", "required = true", 'sources.cams.required: must be "all", a number'),
        ("source", "required = []", 'sources.cams.required: must be "all", a number'),
        ("source", "required = 0", "sources.cams.required: 0 of 2 providers cannot be; write 1 to 2"),
        ("source", "required = 3", "sources.cams.required: 3 of 2 providers cannot be; write 1 to 2"),
        ("source", 'required = ["mian"]', "sources.cams.required: 'mian' is not among"),
        (
            "source",
            'providers = ["main", "nsa"]',
            "sources.cams.providers: item 2: no provider is named 'nsa'; did you mean \"nas\"?",
        ),
        ("source", "providers = []", "sources.cams.providers: must not be empty"),
        ("source", 'providers = ["nas", "nas"]', "sources.cams.providers: 'nas' is there twice"),
        ("source", 'providers = ["nas"]\nrequired = ["main"]', "sources.cams.required: 'main' is not among"),
        ("source", 'key = "{sorce}/{path}"', "sources.cams.key: unknown field {sorce}"),
        ("source", 'key = "../{path}"', "sources.cams.key: a key has no empty, '.' or '..' component"),
        ("source", 'key = "/{path}"', "sources.cams.key: a key neither begins nor ends with"),
        ("source", 'key = "{date:%Q}/{path}"', "sources.cams.key: %Q is not a date format"),
        ("source", 'key = "{date:%Y%}/{path}"', "sources.cams.key: % is not a date format"),
        ("source", 'key = "{site}/{path}"', "sources.cams.key: takes up {site}, and nothing says what it is"),
        ("source", 'key = "{env:ROOM}/{path}"', "sources.cams.key: the variable ROOM"),
        ("source", 'timezone = "Europe/Berlinn"', "sources.cams.timezone: 'Europe/Berlinn' is no time zone"),
        (
            "source",
            'timezone = "../../etc/passwd"',
            "sources.cams.timezone: '../../etc/passwd' is no time zone",
        ),
        ("source", 'empty = "skp"', 'sources.cams.empty: must be "skip" or "upload"; did you mean "skip"?'),
        ("source", "cleanup = 5", "sources.cams.cleanup: must be a table"),
        ("source", "metadata = { a = 5 }", "sources.cams.metadata.a: must be text in quotes"),
        ("provider", 'enabled = "yes"', "providers.main.enabled: must be true or false"),
        ("provider", "max_uploads = true", "providers.main.max_uploads: must be a whole number"),
        ("provider", "max_uploads = 0", "providers.main.max_uploads: must be at least 1"),
        ("provider", 'part_size = "4MiB"', 'providers.main.part_size: must be from "5MiB" to "5GiB"'),
        ("provider", "part_size = 8", 'providers.main.part_size: 8 has no unit; write a size such as "8MiB"'),
        ("provider", 'prefix = "a/../b"', "providers.main.prefix: must have no empty"),
        (
            "provider",
            'container = "c"',
            "providers.main.container: unknown key here; only providers of type azure have it",
        ),
        (
            "provider",
            'behind_after = "5m"',
            "providers.main.behind_after: unknown key here; it belongs into [daemon]",
        ),
        (
            "provider",
            'secret_acces_key = "sesame"',
            'providers.main.secret_acces_key: unknown key; did you mean "secret_access_key"?',
        ),
        ("provider", "secret_access_key = 5", "providers.main.secret_access_key: must be text in quotes"),
        (
            "provider",
            'secret_access_key = " sesame"',
            "providers.main.secret_access_key: is empty, or begins or ends with white space",
        ),
        (
            "provider",
            'secret_access_key = "SET"',
            'providers.main.secret_access_key: is what `config show` prints ("SET") in the place of a secret',
        ),
        (
            "provider",
            'access_key_id = "a"',
            "providers.main.secret_access_key: is missing beside access_key_id",
        ),
        (
            "provider",
            'secret_access_key = "sesame"',
            "providers.main.access_key_id: is missing beside the secret",
        ),
        (
            "provider",
            'profile = "p"\naccess_key_id = "a"\nsecret_access_key = "sesame"',
            "providers.main.profile: two logins",
        ),
        ("provider", 'external_id = "e"', "providers.main.external_id: belongs to a role"),
        ("provider", 'kms_key_id = "k"', "providers.main.kms_key_id: is used only with sse"),
        (
            "provider",
            'endpoint_url = "minio:9000"',
            'providers.main.endpoint_url: is not an address such as "https',
        ),
        (
            "provider",
            'endpoint_url = "https://u:sesame@h"',
            "providers.main.endpoint_url: must hold no user, password",
        ),
        ("provider", 'endpoint_url = "https://h:sesame"', "providers.main.endpoint_url: is not an address"),
        ("provider", 'endpoint_url = "https://[sesame"', "providers.main.endpoint_url: is not an address"),
        ("provider", 'proxy = "sesame"', "providers.main.proxy: is not an address"),
        (
            "directory",
            'proxy = "http://h"',
            "providers.nas.proxy: unknown key here; only providers of type s3 and azure and gcs have it",
        ),
        (
            "directory",
            '[providers.x]\nbucket = "b"',
            'providers.x: has no type; write type = "s3", "azure", "gcs" or "directory"',
        ),
        (
            "directory",
            '[providers.x]\ntype = "azur"',
            'providers.x: its type must be "s3", "azure", "gcs" or "directory"; did you mean "azure"?',
        ),
        ("directory", '[providers.x]\ntype = "s3"', "providers.x.bucket: is missing (The bucket's name)"),
        (
            "directory",
            '[providers.x]\ntype = "s3"\nbucket = "s3://b/f"',
            "providers.x.bucket: is the name alone",
        ),
        (
            "directory",
            '[providers.x]\ntype = "gcs"\nbucket = "c"\npart_size = "300KiB"',
            'providers.x.part_size: must be a multiple of "256KiB"',
        ),
        (
            "directory",
            '[providers.x]\ntype = "gcs"\nbucket = "c"\nanonymous = true\ncredentials_file = "k"',
            "providers.x.anonymous: excludes credentials_file",
        ),
        ("directory", '[providers.x]\ntype = "azure"\ncontainer = "c"', "providers.x.account: is missing"),
        (
            "directory",
            '[providers.x]\ntype = "azure"\ncontainer="c"\naccount="a"\naccount_key="k"\nsas_token = "sv=s"',
            "providers.x.sas_token: several logins (account_key, sas_token); keep one",
        ),
        (
            "directory",
            '[providers.x]\ntype = "azure"\ncontainer = "c"\naccount = "a"\nclient_secret = "s"',
            "providers.x.client_secret: needs tenant_id and client_id",
        ),
        (
            "directory",
            '[providers.X]\ntype = "s3"\nbucket = "c"',
            "providers.X: a name begins with a lower-case letter",
        ),
        (
            "directory",
            '[providers.a-b]\ntype = "s3"\nbucket = "c"',
            "providers.a-b: a name begins with a lower-case letter",
        ),
        (
            "directory",
            '[providers.x]\ntype = "s3"\nbucket = "b"',
            "providers.x: is the same place as main (s3://b)",
        ),
        (
            "directory",
            '[providers.x]\ntype = "directory"\npath = "/rec/out"',
            "providers.x.path: lies inside the source cams",
        ),
        (
            "directory",
            '[providers.x]\ntype = "directory"\npath = "/"',
            "sources.cams.path: lies inside the provider x",
        ),
        (
            "directory",
            '[sources.x]\npath = "/rec/../rec"',
            "sources.x.path: takes the same files as the source cams",
        ),
        ("directory", '[sources.x]\npath = "/state"', "ledger.path: lies inside the source x"),
        (
            "rest",
            "[foo]\nx = 1",
            "foo: unknown table; there are [ledger], [daemon], [web], [heartbeat], [sources.NAME], [prov",
        ),
        ("rest", "[web]\nzzzzz = 1", "web.zzzzz: unknown key; [web] knows socket, "),
        ("rest", '[damon]\nlog_level = "info"', 'damon: unknown key; did you mean "daemon"?'),
        (
            "rest",
            '[daemon]\nlog_level = "inof"',
            'daemon.log_level: must be "debug", "info", "warning" or "error"; did you mean "info"?',
        ),
        ("rest", '[daemon]\nlog_levels = { azure = "debg" }', "daemon.log_levels.azure: must be"),
        (
            "rest",
            '[daemon]\nretrieval_order = ["nsa"]',
            'daemon.retrieval_order: item 1: no provider has this name; did you mean "nas"?',
        ),
        (
            "rest",
            '[webhooks.ops]\nurl = "https://x.example"\nsecret = "not-real"\nevents = ["recording.saef"]',
            'webhooks.ops.events: item 1: must be "recording.safe", "recording.failed", ',
        ),
        ("rest", f'[web]\nsocket = "/{"x" * LONGEST_SOCKET}"', "web.socket: '/xxx"),
    ],
)
def test_what_is_refused(tmp_path: Path, part: str, text: str, fault: str) -> None:
    parts = {part: text}
    found = refused(tmp_path, complete=True, **parts)
    assert any(line.startswith(fault) for line in found), found
    assert len(found) == 1
    assert "sesame" not in found[0]


def test_all_faults_at_once(tmp_path: Path) -> None:
    found = refused(tmp_path, source="quiet_for = 5\nempty = 5", provider="enabled = 1", rest="[web]\nx = 1")
    assert len(found) == 4


def test_keys_without_a_name_above_them(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[sources]\npath = "/rec"\n')
    with pytest.raises(ConfigError) as error:
        load(path, env={})
    assert error.value.faults == (f"{path}: sources.path: must be a table: [sources.NAME]",)


def test_a_source_that_goes_nowhere(tmp_path: Path) -> None:
    (fault,) = refused(tmp_path, provider="enabled = false", directory="enabled = false")
    assert "no provider is enabled" in fault
    (fault,) = refused(tmp_path, source='providers = ["main", "nas"]', directory="enabled = false")
    assert "'nas' is disabled" in fault


def test_who_only_reads_needs_no_secrets(tmp_path: Path) -> None:
    accepted(
        tmp_path,
        complete=False,
        source='key = "{env:ROOM}/{path}"',
        provider='access_key_id = "a"',
        directory='[providers.x]\ntype = "azure"\ncontainer = "c"',
    )


def test_one_bucket_under_two_prefixes_is_two_places(tmp_path: Path) -> None:
    two = '[providers.x]\ntype = "s3"\nbucket = "b"\nprefix = "two"'
    accepted(tmp_path, directory=two)
    accepted(tmp_path, directory='[providers.x]\ntype = "s3"\nbucket = "b"\nendpoint_url = "https://other"')
    assert refused(tmp_path, directory='[providers.x]\ntype = "s3"\nbucket = "b"\nprefix = "/"')


def test_the_account_in_a_connection_string_is_the_same_account(tmp_path: Path) -> None:
    azure = '[providers.{}]\ntype = "azure"\ncontainer = "c"\n{}\n'
    both = azure.format("x", 'account = "acc"') + azure.format(
        "y", 'connection_string = "AccountName=acc;AccountKey=sesame"'
    )
    (fault,) = refused(tmp_path, directory=both)
    assert "is the same place as x (azure://acc/c)" in fault


def test_what_a_recording_requires(tmp_path: Path) -> None:
    def required(source: str) -> tuple[tuple[str, ...], set[str], int]:
        requirement = accepted(tmp_path, source=source).required_for("cams")
        return requirement.providers, set(requirement.named), requirement.count

    assert required("") == (("main", "nas"), {"main", "nas"}, 2)
    assert required("required = 1") == (("main", "nas"), set(), 1)
    assert required('required = ["nas"]') == (("main", "nas"), {"nas"}, 1)
    assert required('providers = ["nas"]') == (("nas",), {"nas"}, 1)
    config = accepted(tmp_path, provider="enabled = false")
    assert config.required_for("cams").providers == ("nas",)


def test_site_and_retrieval_order(tmp_path: Path) -> None:
    config = accepted(
        tmp_path,
        source='key = "{site}/{path}"\nmetadata = { site = "hall" }',
        directory='[sources.b]\npath = "/b"\n[sources.b.cleanup]\n',
        rest='[daemon]\nsite = "town"\nretrieval_order = ["nas"]',
    )
    assert (config.site_of("cams"), config.site_of("b")) == ("hall", "town")
    assert config.retrieval_order() == ("nas", "main")


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({"rest": '[daemon]\nbandwidth = "100kbit/s"'}, "daemon.bandwidth: 100kbit/s is less than 128kbit/s"),
        (
            {"provider": 'bandwidth = { "22:00-06:00" = "8kbit/s" }'},
            "providers.main.bandwidth: 8kbit/s is less than 64kbit/s",
        ),
    ],
)
def test_a_limit_that_lets_no_part_through_is_refused(
    tmp_path: Path, parts: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        accepted(tmp_path, **parts)
    assert fault in str(refused.value)
    accepted(tmp_path, provider='bandwidth = "64kbit/s"', rest='[daemon]\nbandwidth = "128kbit/s"')


def test_quiet_time() -> None:
    source = Source(path=Path("/rec"))
    assert source.quiet_time(lease=True, network=False) == 2
    assert source.quiet_time(lease=False, network=False) == 60
    assert source.quiet_time(lease=False, network=True) == 300
    source = Source.model_validate({"path": "/rec", "quiet_for": "200ms"})
    assert source.quiet_time(lease=False, network=True) == 0.2


def test_slots() -> None:
    assert slot(("sources", "x", "cleanup", "policy"))
    assert slot(("sources", "x", "metadata", "any"))
    for key in (
        ("source",),
        ("sources", "x", "y"),
        ("ledger", "path", "x"),
        ("sources", "x", "metadata", "a", "b"),
    ):
        assert slot(key) is None, key
