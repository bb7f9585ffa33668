"""The configuration as a whole, and the questions that only the whole can answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, PrivateAttr, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from uploaderd.config.kinds import NAME
from uploaderd.config.provider import Provider
from uploaderd.config.secret_files import SecretFiles
from uploaderd.config.source import Source
from uploaderd.config.tables import Daemon, Ledger, Web
from uploaderd.config.telling import Heartbeat, Webhook

Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
Key = tuple[str, ...]
"""A key with the tables above it: ("sources", "cameras", "path")."""

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Switches:
    """Which providers are on and which are off, and variables that do nothing here, each with why."""

    on: dict[str, str] = field(default_factory=dict)
    off: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a recording needs to be safe; frozen with the recording when it is queued.

    Attributes:
        providers: where it goes, in order.
        named: those of them that must each hold a verified copy.
        count: how many of them altogether must.
    """

    providers: tuple[str, ...]
    named: frozenset[str]
    count: int


class Config(BaseSettings):
    """The whole configuration. Made by `load`; cannot be changed afterwards.

    `sources` and `providers` are in the file's order, which decides: a file belongs to the first
    source that takes it.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    ledger: Ledger = Ledger()
    daemon: Daemon = Daemon()
    web: Web = Web()
    heartbeat: Heartbeat = Heartbeat()
    sources: dict[Name, Source] = {}
    providers: dict[Name, Annotated[Provider, Field(discriminator="type")]] = {}
    webhooks: dict[Name, Webhook] = {}

    _file: Path | None = PrivateAttr(default=None)
    _origins: Mapping[Key, str] = PrivateAttr(default_factory=dict)
    _secret_files: SecretFiles = PrivateAttr(default_factory=lambda: SecretFiles((), {}))
    _switches: Switches | None = PrivateAttr(default=None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the caller gives.

        The stock sources let unknown variables and missing files pass in silence; `load` brings its own.
        """
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @property
    def file(self) -> Path | None:
        """The file that it was read from; None if there was none."""
        return self._file

    def origin(self, key: Key) -> str:
        """Where a key's value came from: a file, a variable, or "default". Of a table, its first value's."""
        if key in self._origins:
            return self._origins[key]
        return next((origin for below, origin in self._origins.items() if below[: len(key)] == key), DEFAULT)

    def came_from(self, file: Path | None, origins: Mapping[Key, str]) -> None:
        """Note where the values came from. `load` alone calls this."""
        self._file = file
        self._origins = dict(origins)

    @property
    def switches(self) -> Switches:
        """Which providers are on and off, and why."""
        if self._switches is not None:
            return self._switches
        on = {name: "enabled" for name, provider in self.providers.items() if provider.enabled}
        return Switches(on, {name: "enabled = false" for name in self.providers if name not in on})

    def switched_by(self, switches: Switches | None) -> None:
        """Note what decided that, if not `enabled` alone. `load` alone calls this."""
        self._switches = switches

    @property
    def secret_files(self) -> SecretFiles:
        """Where secrets were read from."""
        return self._secret_files

    def kept_secret_in(self, files: SecretFiles) -> None:
        """Note where secrets were read from. `load` alone calls this."""
        self._secret_files = files

    def providers_of(self, source: str) -> tuple[str, ...]:
        """The enabled providers that a source's recordings go to, in order."""
        chosen = self.sources[source].providers or tuple(self.providers)
        return tuple(name for name in chosen if name in self.providers and self.providers[name].enabled)

    def required_for(self, source: str) -> Requirement:
        """What recordings of this source require."""
        providers = self.providers_of(source)
        match self.sources[source].required:
            case "all":
                return Requirement(providers, frozenset(providers), len(providers))
            case int(count):
                return Requirement(providers, frozenset(), count)
            case names:
                return Requirement(providers, frozenset(names), len(names))

    def site_of(self, source: str) -> str:
        """What `{site}` stands for in the source's keys; empty if nothing says."""
        return self.sources[source].metadata.get("site") or self.daemon.site or ""

    def retrieval_order(self) -> tuple[str, ...]:
        """All providers in the order in which they are asked for a URL: those named first, then the rest."""
        first = self.daemon.retrieval_order
        return first + tuple(name for name in self.providers if name not in first)

    def secrets(self) -> Iterator[str]:
        """Every secret's value, so that logs can mask it wherever it turns up."""
        for table in (self.web, self.heartbeat, *self.providers.values(), *self.webhooks.values()):
            yield from _secrets(table)


def _secrets(table: BaseModel) -> Iterator[str]:
    for _, value in table:
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
