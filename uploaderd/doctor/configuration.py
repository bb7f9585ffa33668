"""The configuration: what it says, who may read its secrets, and what leaves the machine unencrypted."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from uploaderd.config import AzureProvider, Config, DirectoryProvider, GcsProvider
from uploaderd.config import Provider as ProviderConfig
from uploaderd.doctor.findings import Found, Look, blocking, fail, ok, warn

SUBJECT: Final = "configuration"

EMULATOR: Final = "STORAGE_EMULATOR_HOST"


def looks(config: Config, lacks: Sequence[str], env: Mapping[str, str]) -> Iterator[tuple[str, Look]]:
    """The checks, by name.

    Args:
        config: as this user can read it.
        lacks: what a daemon would miss, each a line: secrets that only its own surroundings have.
        env: this process's environment.
    """
    yield "file", blocking(lambda: [_file(config)])
    yield "completeness", blocking(lambda: _lacking(lacks))
    yield "secrets", blocking(lambda: _secrets(config))
    yield "encryption", blocking(lambda: _encryption(config))
    yield "environment", blocking(lambda: _environment(config, env))


def unusable(faults: Sequence[str]) -> Iterator[Found]:
    """A configuration that cannot be read at all."""
    for fault in faults:
        yield fail(fault, "correct that; `uploaderd config check` tells whether it is right")


def _file(config: Config) -> Found:
    place = config.file or "the environment"
    if not config.sources or not config.providers:
        missing = "source" if not config.sources else "provider"
        return fail(
            f"{place}: no {missing} is configured",
            f"add a [{missing}s.NAME] table (config.example.toml shows one)",
        )
    return ok(f"{place}: sources {', '.join(config.sources)}; providers {', '.join(config.providers)}")


def _lacking(lacks: Sequence[str]) -> Iterator[Found]:
    for fault in lacks:
        yield fail(
            fault,
            "set it; or, if only the daemon has it, say where: --secrets-dir (of a running unit's credentials"
            " /run/credentials/uploaderd.service), --env-file, its variables",
        )
    if not lacks:
        yield ok("nothing is missing that the daemon needs")


def _secrets(config: Config) -> Iterator[Found]:
    """Files with secrets that everybody on this machine may read."""
    exposed = [path for path in _secret_files(config) if _world_readable(path)]
    for path in exposed:
        yield warn(
            f"{path} holds secrets, and everybody on this machine may read it",
            f"chmod o= {path} (and let the daemon's user own it, or its group read it)",
        )
    if not exposed:
        yield ok("no file with secrets may be read by everybody")


def _secret_files(config: Config) -> Iterator[Path]:
    seen: set[Path] = set()
    tables = [(("providers", name), table) for name, table in config.providers.items()]
    for key, table in [*tables, (("web",), config.web)]:
        for name, value in table:
            if isinstance(value, SecretStr):
                seen.add(Path(config.origin((*key, name))))
    for provider in config.providers.values():
        if isinstance(provider, GcsProvider) and provider.credentials_file is not None:
            seen.add(provider.credentials_file)
    # An origin may be a variable, which is no file.
    yield from sorted(path for path in seen if path.is_absolute())


def _world_readable(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH) and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in path.parents
        )
    except OSError:
        return False  # not even by us


def _encryption(config: Config) -> Iterator[Found]:
    plain = {name: url for name, one in config.providers.items() if (url := _plain(one))}
    for name, url in plain.items():
        yield warn(
            f"[providers.{name}] is reached over plain http ({url}): anybody on the way can read along",
            "use an https address; with a certificate of your own, name its authority in ca_file",
        )
    if not plain:
        yield ok("no provider is reached over plain http")


def _plain(provider: ProviderConfig) -> str:
    """The provider's address, without whatever may be secret, if it is plain http; or nothing."""
    if isinstance(provider, DirectoryProvider) or not provider.enabled:
        return ""
    if isinstance(provider, AzureProvider) and provider.connection_string is not None:
        string = provider.connection_string.get_secret_value()
        parts = dict(part.partition("=")[::2] for part in string.split(";"))
        url = (
            parts.get("BlobEndpoint", "").partition("?")[0]
            or parts.get("DefaultEndpointsProtocol", "") + "://"
        )
    else:
        url = provider.endpoint_url or ""
    return url if url.startswith("http://") else ""


def _environment(config: Config, env: Mapping[str, str]) -> Iterator[Found]:
    google = any(isinstance(one, GcsProvider) for one in config.providers.values())
    emulated = google and env.get(EMULATOR)
    # Where there is no file, that variable may be the configuration itself (docs/drop-in.md).
    endpoints = " ".join(config.origin(("providers", name, "endpoint_url")) for name in config.providers)
    redirected = [
        name
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
        if env.get(name) and name not in endpoints.split()
    ]
    if emulated:
        yield warn(
            f"{EMULATOR} is set: Google's own libraries send everything there, without TLS verification and"
            " login. uploaderd passes it over, other tools on this machine do not",
            f"unset {EMULATOR}; an emulator is named in a provider's endpoint_url",
        )
    for name in redirected:
        yield warn(
            f"{name} is set: uploaderd passes it over, other tools on this machine do not",
            f"name a compatible store in the provider's endpoint_url, and unset {name}",
        )
    if not emulated and not redirected:
        yield ok("no variable that would redirect a provider")
