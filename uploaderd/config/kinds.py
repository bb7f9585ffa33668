"""The kinds of value that a key can have, each with how it is read and how it is shown.

`model_dump(mode="json")` of a table gives every value as people write it ("90s", "8MiB"), and every
secret and role as SET; the plain attributes are what the program works with (seconds, bytes, paths).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    InstanceOf,
    PlainSerializer,
    SecretStr,
    Strict,
    StringConstraints,
)

from uploaderd.config.bandwidth import Bandwidth, format_bandwidth, parse_bandwidth
from uploaderd.config.units import format_duration, format_size, parse_duration, parse_size

SET: Final = "SET"
"""Stands for a secret that has a value, wherever the configuration is shown."""

NAME: Final = r"[a-z][a-z0-9_]*"
"""A name of a source or a provider. No hyphen: systemd and shells refuse it in variable names."""


class Table(BaseModel):
    """A table of the file: cannot be changed, refuses unknown keys, never quotes a value in an error."""

    # Built with Config, which holds them all: on its own, each would be built a second time.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)


def _seconds(word: str) -> Callable[[object], float | None]:
    """Read a duration, or the word that stands for "none"."""

    def read(value: object) -> float | None:
        if value == word:
            return None
        try:
            return parse_duration(value)
        except ValueError as error:
            raise ValueError(f'{error}, or "{word}"') from None

    return read


def _shown(word: str) -> Callable[[float | None], str]:
    return lambda seconds: word if seconds is None else format_duration(seconds)


def _positive(seconds: float | None) -> float | None:
    if seconds is not None and seconds <= 0:
        raise ValueError("must be longer than nothing")
    return seconds


def _json(show: Callable[..., object]) -> PlainSerializer:
    return PlainSerializer(show, when_used="json")


Seconds = Annotated[float, BeforeValidator(parse_duration), _json(format_duration)]
PositiveSeconds = Annotated[Seconds, AfterValidator(_positive)]
SecondsOrAuto = Annotated[float | None, BeforeValidator(_seconds("auto")), _json(_shown("auto"))]
SecondsOrOff = Annotated[
    float | None, BeforeValidator(_seconds("off")), AfterValidator(_positive), _json(_shown("off"))
]
SecondsOrForever = Annotated[
    float | None, BeforeValidator(_seconds("forever")), AfterValidator(_positive), _json(_shown("forever"))
]


def _size_or_auto(value: object) -> int | None:
    return None if value == "auto" else parse_size(value)


SizeOrAuto = Annotated[
    int | None,
    BeforeValidator(_size_or_auto),
    _json(lambda size: "auto" if size is None else format_size(size)),
]


def _count_or_off(value: object) -> int | None:
    if value == "off":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError('must be a whole number from 1 on, or "off"')


CountOrOff = Annotated[
    int | None, BeforeValidator(_count_or_off), _json(lambda count: "off" if count is None else count)
]
BandwidthLimit = Annotated[InstanceOf[Bandwidth], BeforeValidator(parse_bandwidth), _json(format_bandwidth)]

Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict()]
Text = Annotated[str, StringConstraints(min_length=1)]


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text or text != text.strip():
        raise ValueError("is empty, or begins or ends with white space")
    if text == SET:
        raise ValueError(
            f'is what `config show` prints ("{SET}") in the place of a secret; put the secret there'
        )
    return value


Secret = Annotated[SecretStr, AfterValidator(_secret), _json(lambda _: SET)]
Role = Annotated[Text, _json(lambda _: SET)]
"""No secret, but it tells an attacker what to ask for: shown as SET."""


def _http(text: str, example: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # its own message may quote the text
        usable = False
    if not usable:
        raise ValueError(f'is not an address such as "{example}"')
    return urlsplit(text)


def _url(text: str) -> str:
    parts = _http(text, "https://host:9000")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must hold no user, password, query or fragment; credentials have keys of their own")
    return text.rstrip("/")


def _proxy(value: SecretStr) -> SecretStr:
    _http(_secret(value).get_secret_value(), "http://proxy:3128")
    return value


def _secret_url(value: SecretStr) -> SecretStr:
    _http(_secret(value).get_secret_value(), "https://host/path")
    return value


Url = Annotated[str, AfterValidator(_url)]
ProxyUrl = Annotated[SecretStr, AfterValidator(_proxy), _json(lambda _: SET)]
"""May hold a password: a secret like the others."""
SecretUrl = Annotated[SecretStr, AfterValidator(_secret_url), _json(lambda _: SET)]
"""Whoever knows it may use it: the token is in its path or query."""

LocalPath = Path
"""Made absolute by `load`: relative to the file's folder, `~` expanded."""


class _FileOfItsOwn:
    """Marks a path whose file may itself lie among the secret files, under the key's name."""


SecretPath = Annotated[Path, _FileOfItsOwn()]


def is_secret_path(metadata: object) -> bool:
    """Whether a field's metadata entry is the mark of `SecretPath`."""
    return isinstance(metadata, _FileOfItsOwn)


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, if none is there twice.

    Raises:
        ValueError: one is.
    """
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there twice")
    return names


Names = Annotated[tuple[Text, ...], AfterValidator(distinct)]
