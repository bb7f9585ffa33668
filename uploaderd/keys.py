"""Object keys: the template, what it may not produce, and the suffix that resolves a conflict.

A key is decided once, when the recording is queued, and frozen in the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from uploaderd.errors import KeyRefused
from uploaderd.provider import Limits

FIELDS: Final = ("source", "date", "path", "name", "stem", "ext", "host", "site", "env")

_FIELD: Final = re.compile(r"\{([a-z]+)(?::([^{}]*))?\}")
_LONGEST_EXTENSION: Final = 16
"""Bytes. What follows a dot further from the end is a part of the title, and may be cut."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Named:
    """What a template draws upon. `path` is relative to the source; `at_ms` dates the recording."""

    source: str
    path: bytes
    at_ms: int
    timezone: str = "UTC"
    host: str = ""
    site: str = ""
    environ: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: literals, and (field, argument) pairs."""

    text: str
    pieces: tuple[str | tuple[str, str], ...]

    def render(self, named: Named) -> str:
        """The key, without a provider's prefix.

        Raises:
            KeyRefused: a value is empty or missing, or would climb out with `..` or `/`.
        """
        key = "".join(
            piece if isinstance(piece, str) else self._value(*piece, named) for piece in self.pieces
        )
        for part in key.split("/"):
            if part in ("", ".", ".."):
                raise KeyRefused(
                    f"the key {key!r} (template {self.text!r}) has the path component {part!r}",
                    code="key-component",
                    hint="change the value that the template takes it from, or `key` itself",
                )
        return key

    def _value(self, field: str, argument: str, named: Named) -> str:
        path = text_of(named.path)
        name = path.rpartition("/")[2]
        stem, _, ext = name.rpartition(".")
        if not stem:
            stem, ext = name, ""
        match field:
            case "source":
                value = named.source
            case "path":
                return path
            case "name":
                value = name
            case "stem":
                value = stem
            case "ext":
                value = ext
            case "date":
                moment = datetime.fromtimestamp(named.at_ms / 1000, ZoneInfo(named.timezone))
                value = moment.strftime(argument)
            case "host":
                value = named.host
            case "site":
                value = named.site
            case _:
                value = (named.environ or {}).get(argument, "")
        if not value and field != "ext":
            shown = f"env:{argument}" if field == "env" else field
            raise KeyRefused(
                f"the key template {self.text!r} uses {{{shown}}}, which is empty here",
                code="key-empty",
                hint="set the value, or take the field out of `key`",
            )
        # The environment may hold bytes that are not UTF-8, as a path may.
        value = text_of(value.encode("utf-8", "surrogateescape"))
        if value.startswith("/") or ".." in value.split("/"):
            raise KeyRefused(
                f"the value {value!r} of {{{field}}} would climb out of its place in the key",
                code="key-climbs",
                hint="use a relative value without `..`",
            )
        return value


def parse_template(text: str) -> Template:
    """Parse a key template.

    Raises:
        ValueError: an unknown field, a stray brace, a climbing literal, or a bad argument; the
            message is meant for the person who wrote it.
    """
    pieces: list[str | tuple[str, str]] = []
    position = 0
    for match in _FIELD.finditer(text):
        if match.start() > position:
            pieces.append(text[position : match.start()])
        field, argument = match.group(1), match.group(2)
        if field not in FIELDS:
            raise ValueError(f"unknown field {{{field}}}; known are " + ", ".join(FIELDS))
        if (field in ("date", "env")) != (argument is not None):
            form = {"date": "{date:%Y/%m/%d}", "env": "{env:NAME}"}.get(field, f"{{{field}}}")
            raise ValueError(f"write {form}")
        if field == "env" and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", argument or ""):
            raise ValueError(f"{argument!r} is not the name of an environment variable")
        if field == "date" and "%" not in (argument or ""):
            raise ValueError("{date:...} needs a format such as %Y/%m/%d")
        pieces.append((field, argument or ""))
        position = match.end()
    pieces.append(text[position:])
    pieces = [piece for piece in pieces if piece]
    literals = "".join(piece for piece in pieces if isinstance(piece, str))
    if "{" in literals or "}" in literals:
        raise ValueError("a brace that belongs to no field")
    sample = _FIELD.sub(_sample, text)
    if sample.startswith("/") or sample.endswith("/") or _CONTROL.search(sample):
        raise ValueError("a key neither begins nor ends with '/', nor holds control characters")
    if any(part in ("", ".", "..") for part in sample.split("/")):
        raise ValueError("a key has no empty, '.' or '..' component")
    if not any(isinstance(piece, tuple) and piece[0] in ("path", "name", "stem") for piece in pieces):
        raise ValueError("without {path}, {name} or {stem} every recording would get the same key")
    return Template(text, tuple(pieces))


def text_of(path: bytes) -> str:
    """A path as it appears in keys and JSON.

    Control characters and bytes that are not UTF-8 are percent-encoded, everything else stays.
    """
    text = path.decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable():
        return text  # nearly all of them, and it is asked for each recording several times
    text = "".join(f"%{ord(char) - 0xDC00:02X}" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in text)
    return _CONTROL.sub(_percent, text)


def place(prefix: str, key: str, limits: Limits) -> str:
    """The key at one provider, with its prefix.

    Raises:
        KeyRefused: longer than the provider allows.
    """
    whole = f"{prefix.strip('/')}/{key}" if prefix.strip("/") else key
    if (length := len(whole.encode())) > limits.max_key_bytes:
        raise KeyRefused(
            f"the key {whole[:80]!r}... has {length} bytes; {limits.max_key_bytes} are allowed",
            code="key-too-long",
            hint="shorten `key` or `prefix`, or rename the file",
        )
    longest = limits.max_key_component_bytes
    if longest is not None and any(len(part.encode()) > longest for part in whole.split("/")):
        raise KeyRefused(
            f"a component of the key {whole[:80]!r} has more than {longest} bytes",
            code="key-too-long",
            hint="shorten `key`, or rename the file",
        )
    return whole


def with_suffix(key: str, crc64nvme: int, limits: Limits) -> str:
    """The key that a recording takes when another content has its own: `name.CRC.ext`.

    Made from the content, so that the same content always comes to the same key. The stem is cut
    where limits demand it, never the suffix or the extension.
    """
    folder, slash, name = key.rpartition("/")
    stem, dot, ext = name.rpartition(".")
    if not stem or len(ext.encode()) > _LONGEST_EXTENSION:
        stem, dot, ext = name, "", ""
    tail = f".{crc64nvme:016x}{dot}{ext}"
    room = limits.max_key_bytes - len((folder + slash + tail).encode())
    if limits.max_key_component_bytes is not None:
        room = min(room, limits.max_key_component_bytes - len(tail.encode()))
    if room < 1:
        raise KeyRefused(
            f"no room for a suffix in the key {key[:80]!r}",
            code="key-too-long",
            hint="shorten `key` or `prefix`, or rename the file",
        )
    cut = stem.encode()[:room].decode("utf-8", "ignore")
    return f"{folder}{slash}{cut}{tail}"


def _sample(field: re.Match[str]) -> str:
    """A field as it may look in a key: a date's own slashes count, other values are checked later."""
    name, argument = field.group(1), field.group(2)
    return datetime(2026, 11, 20, tzinfo=UTC).strftime(argument) if name == "date" else "x"


def _percent(match: re.Match[str]) -> str:
    return f"%{ord(match.group()):02X}"
