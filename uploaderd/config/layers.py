"""Where values come from: the file, secret files, the environment; each is a layer over the one below.

A layer notes the origin of each of its values, and what it cannot take as a fault: pydantic-settings'
own sources pass over unknown variables and missing files in silence.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from uploaderd.config.bandwidth import Bandwidth
from uploaderd.config.errors import ConfigError
from uploaderd.config.faults import nearest
from uploaderd.config.kinds import NAME
from uploaderd.config.slots import ROOT, Slot, every, slot
from uploaderd.config.whole import Config, Key

PREFIX: Final = "UPLOADERD_"
SEPARATOR: Final = "__"

NAMED: Final = ("sources", "providers", "webhooks")
"""The tables of tables."""

CONFIG_VARIABLE: Final = "UPLOADERD_CONFIG"
# Kubernetes describes each Service of the namespace to each pod: UPLOADERD_SERVICE_HOST, UPLOADERD_PORT,
# UPLOADERD_PORT_9464_TCP_ADDR, and for a Service `uploaderd-web` the same behind UPLOADERD_WEB_. None has
# the double underscore that each variable of ours has.
_KUBERNETES: Final = re.compile(
    r"UPLOADERD_(?:SERVICE_.*|PORT.*|(?:(?!.*__)\w+_)(?:SERVICE_(?:HOST|PORT)\w*|PORT(?:_\d+_\w+)?))"
)


class Layer(PydanticBaseSettingsSource):
    """Values from one place, in nested tables as TOML has them.

    Attributes:
        values: the tables.
        origins: for each value, where it is from, as a person would look for it.
        faults: what could not be taken, each a whole line.
    """

    def __init__(self) -> None:
        super().__init__(Config)
        self.values: dict[str, Any] = {}
        self.origins: dict[Key, str] = {}
        self.faults: list[str] = []

    def __call__(self) -> dict[str, Any]:
        return self.values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """A top-level table, as pydantic-settings asks for it."""
        del field
        return self.values.get(field_name), field_name, False

    def put(self, key: Key, value: object, origin: str) -> None:
        """Set one value."""
        table = self.values
        for part in key[:-1]:
            table = table.setdefault(part, {})
        if isinstance(value, dict) and isinstance(table.get(key[-1]), dict):
            table[key[-1]].update(value)
        else:
            table[key[-1]] = value
        self.origins[key] = origin

    def get(self, key: Key) -> object:
        """A value, or None."""
        here: object = self.values
        for part in key:
            here = here.get(part) if isinstance(here, dict) else None
        return here

    def names(self, table: str) -> tuple[str, ...]:
        """The names below `sources`, `providers` or `webhooks`."""
        named = self.values.get(table)
        return tuple(named) if isinstance(named, dict) else ()


def of_values(values: dict[str, Any], origin: str) -> Layer:
    """A layer of tables that are already there, all from one place."""
    layer = Layer()
    layer.values = values
    layer.origins = dict.fromkeys(_leaves(values, ()), origin)
    return layer


def of_file(path: Path) -> Layer:
    """The TOML file.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    try:
        # Editors elsewhere put a byte order mark in front, which TOML does not have.
        return of_values(tomllib.loads(path.read_bytes().decode("utf-8-sig")), str(path))
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file"]) from None
    except OSError as error:
        raise ConfigError(
            [f"{path}: cannot be read ({error.strerror}); it must be a file that this user may read"]
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text (byte {error.start})"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: is not TOML: {error}"]) from None


def of_environment(env: Mapping[str, str], file: Layer) -> Layer:
    """Variables `UPLOADERD_<TABLE>__<NAME>__<KEY>`; an empty one counts as unset."""
    layer = Layer()
    seen: dict[Key, str] = {}
    for variable in sorted(env):
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or _KUBERNETES.fullmatch(variable):
            continue
        if not env[variable]:
            continue
        key = _key(variable.removeprefix(PREFIX).lower(), file)
        place = slot(key)
        if not key or place is None:
            near = _nearest_variable(variable, key, file)
            layer.faults.append(f"environment {variable}: unknown variable{near}")
        elif place.models:
            layer.faults.append(
                f"environment {variable}: is a table; set its keys, such as {_example(variable, place)}"
            )
        elif key in seen:
            layer.faults.append(f"environment {variable}: is the same key as {seen[key]}; set one of them")
        else:
            seen[key] = variable
            layer.put(key, coerce(env[variable], place), f"environment {variable}")
    return layer


def of_secret_files(directory: Path, file: Layer) -> Layer:
    """Files named `<table>__<name>__<key>`; a last line end is not the value's; empty is unset.

    Other files of the directory are somebody else's, unless they begin with one of our tables. Where the
    value would be a path to a secret file (`credentials_file`, `ca_file`), the file itself is it.
    """
    layer = Layer()
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        layer.faults.append(
            f"{directory}: cannot be read as the directory of secret files ({error.strerror})"
        )
        return layer
    for entry in entries:
        table, separator, _ = entry.name.partition(SEPARATOR)
        if not separator or table not in ROOT.known or entry.is_dir():
            continue
        key = _key(entry.name, file)
        place = slot(key)
        if not key or place is None or place.models:
            known = _known_keys(key, file)
            layer.faults.append(
                f"{entry}: no key is meant by this name{nearest(entry.name, map(SEPARATOR.join, known))}"
            )
            continue
        try:
            value = entry.read_bytes().decode().removesuffix("\n").removesuffix("\r")
        except OSError as error:
            layer.faults.append(f"{entry}: cannot be read ({error.strerror})")
        except UnicodeDecodeError:
            layer.faults.append(f"{entry}: is not UTF-8 text")
        else:
            if value:
                layer.put(
                    key, str(entry.absolute()) if place.is_secret_path else coerce(value, place), str(entry)
                )
    return layer


def make_absolute(layer: Layer, base: Path, home: str | None) -> None:
    """Paths: `~` expanded, relative ones put below `base`, `..` and `.` resolved without asking the disk."""
    for key in tuple(layer.origins):
        place, value = slot(key), layer.get(key)
        if place is not None and place.is_path and isinstance(value, str) and value:
            if home and (value == "~" or value.startswith("~/")):
                value = home + value[1:]
            layer.put(key, os.path.normpath(base / value), layer.origins[key])


def coerce(text: str, place: Slot) -> object:
    """Text from a variable or a file -> what TOML would have had there; the models judge the outcome.

    Lists are JSON (`["a", "b"]`) or `a,b`; tables are JSON.
    """
    shapes = place.shapes
    is_table, is_list = dict in shapes or Bandwidth in shapes, tuple in shapes
    if (is_table and text.startswith("{")) or (is_list and text.startswith("[")):
        try:
            return json.loads(text)
        except ValueError:
            return text
    if text in shapes:  # one of the words that the key knows
        return text
    if bool in shapes and text in ("true", "false"):
        return text == "true"
    if int in shapes and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    return [item.strip() for item in text.split(",")] if is_list else text


def _leaves(values: Mapping[str, Any], key: Key) -> Iterator[Key]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*key, name))
        else:
            yield (*key, name)


def _key(text: str, file: Layer) -> Key:
    """`sources__cameras__cleanup__policy` -> the key; () if no key can be meant.

    A name may have a double underscore of its own: names of the file go first, the longest before all.
    """
    table, _, rest = text.partition(SEPARATOR)
    place = slot((table,))
    if place is None or not rest:
        return (table,) if place else ()
    if not place.named:
        return (table, *rest.split(SEPARATOR, 1))
    known = sorted(file.names(table), key=len, reverse=True)
    name = next(
        (name for name in known if rest == name or rest.startswith(name + SEPARATOR)),
        rest.partition(SEPARATOR)[0],
    )
    if not re.fullmatch(NAME, name):
        return ()
    keys = rest[len(name) + len(SEPARATOR) :]
    return (table, name, *keys.split(SEPARATOR, 1)) if keys else (table, name)


def _known_keys(meant: Key, file: Layer) -> Iterator[Key]:
    """Each key that could be meant, with the file's names and the name that was meant itself."""
    for key, *_ in every():
        if "*" not in key:
            yield key
        else:
            at = key.index("*")
            for name in dict.fromkeys((*meant[1:2], *file.names(key[0]))):
                yield (*key[:at], name, *key[at + 1 :])


def _nearest_variable(variable: str, meant: Key, file: Layer) -> str:
    word = variable.removeprefix(PREFIX)
    known = [SEPARATOR.join(key).upper() for key in _known_keys(meant, file)]
    # UPLOADERD_LOG_LEVEL: the table forgotten. Without the prefix, or all would be near to all.
    forgotten = [name for name in known if name.endswith(SEPARATOR + word)]
    near = forgotten[:1] or get_close_matches(word, known, n=1)
    if near:
        return f'; did you mean "{PREFIX}{near[0]}"?'
    return f"; what begins with {PREFIX} must name a key, as {PREFIX}<TABLE>__<NAME>__<KEY>"


def _example(variable: str, place: Slot) -> str:
    below: Iterable[str] = place.known or ("NAME",)
    return f"{variable}{SEPARATOR}{next(iter(below)).upper()}"
