"""The effective configuration, for `config show` and the daemon's first lines: secrets and roles as SET."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from uploaderd.config.slots import slot
from uploaderd.config.whole import Config, Key


def effective(config: Config) -> dict[str, Any]:
    """Each key that has a value, as people write it ("90s", "8MiB"), in nested tables; no secret."""
    return _without_unset(config.model_dump(mode="json"))


def text(config: Config) -> str:
    """The same as TOML, with the origin of each value beside it.

    But for the secrets, `load` reads back the same configuration from it.
    """
    lines = [f"# {config.file or 'no file'}"]
    lines += [f"# provider {name} is off: {why}" for name, why in config.switches.off.items()]
    lines += [f"# without effect: {why}" for why in config.switches.unused]
    for key, table in _tables(effective(config), ()):
        values = [(name, _toml(value), config.origin((*key, name))) for name, value in table.items()]
        if values:
            lines += ["", "[" + ".".join(_bare(part) for part in key) + "]"]
        lines += [f"{_bare(name)} = {value}  # {origin}" for name, value, origin in values]
    return "\n".join(lines) + "\n"


def _tables(table: Mapping[str, Any], key: Key) -> Iterator[tuple[Key, dict[str, Any]]]:
    """A table's own values, then the tables below it, in order."""
    below = {name: value for name, value in table.items() if _is_table((*key, name))}
    if key:
        yield key, {name: value for name, value in table.items() if name not in below}
    for name, value in below.items():
        yield from _tables(value, (*key, name))


def _without_unset(table: Mapping[str, Any]) -> dict[str, Any]:
    """Without what has no value (pydantic's `exclude_none` would drop what is shown as "auto" or "off")."""
    return {
        name: _without_unset(value) if isinstance(value, dict) else value
        for name, value in table.items()
        if value is not None
    }


def _is_table(key: Key) -> bool:
    place = slot(key)
    return place is not None and bool(place.models)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_bare(name)} = {_toml(inner)}" for name, inner in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    # A TOML basic string is a JSON string, but for the delete character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _bare(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)
