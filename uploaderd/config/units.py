"""Durations, sizes and rates as people write them.

Each `parse_*` takes what the configuration holds and raises ValueError, with the right spelling in
its message, where a number has no unit: tusd once read a bare 100 as nanoseconds, and nobody noticed.
Each `format_*` writes what its `parse_*` reads back as the same value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

_DURATION_UNITS: Final = {
    "w": Fraction(604_800),
    "d": Fraction(86_400),
    "h": Fraction(3_600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1_000),
}
_SIZE_UNITS: Final[Mapping[str, int]] = {
    "TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10,
    "TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3, "kB": 10**3, "B": 1,
}  # fmt: skip
_BIT_UNITS: Final = {"Gbit": 10**9, "Mbit": 10**6, "kbit": 10**3, "bit": 1}

_RATE_UNITS: Final[Mapping[str, int | Fraction]] = {
    **_SIZE_UNITS,
    **{unit: Fraction(bits, 8) for unit, bits in _BIT_UNITS.items()},
}

_NUMBER: Final = r"([0-9]{1,20}(?:\.[0-9]{1,9})?)"
_DURATION: Final = re.compile(rf"{_NUMBER}(ms|[wdhms])")
_QUANTITY: Final = re.compile(rf"{_NUMBER} ?([A-Za-z]+)")
_LONGEST: Final = 100 * 366 * 86_400  # seconds; beyond it, adding to a date overflows sooner or later


def parse_duration(value: object) -> float:
    """`"90s"`, `"1h30m"`, `"1.5d"` -> seconds.

    Raises:
        ValueError: not a duration, or longer than a century.
    """
    text = _text(value, example="s", kind="duration")
    total, position, spent = Fraction(0), 0, 0
    order = list(_DURATION_UNITS)
    while match := _DURATION.match(text, position):
        number, unit = match.groups()
        if order.index(unit) < spent:
            break  # "30m1h", "1h1h": more likely a slip than a wish
        spent = order.index(unit) + 1
        total += Fraction(number) * _DURATION_UNITS[unit]
        position = match.end()
    if not text or position != len(text):
        raise ValueError(f'{text!r} is not a duration; write one such as "90s", "1h30m" or "400d"')
    if total > _LONGEST:
        raise ValueError(f"{text!r} is longer than a century")
    return float(total)


def format_duration(seconds: float) -> str:
    """Seconds -> `"1h30m"`; exact to the microsecond."""
    rest = Fraction(round(seconds * 1_000_000), 1_000_000)
    words = []
    for unit in ("d", "h", "m", "s"):
        count = rest // _DURATION_UNITS[unit]
        if count:
            words.append(f"{count}{unit}")
            rest -= count * _DURATION_UNITS[unit]
    if rest:
        words.append(f"{_decimal(rest * 1_000)}ms")
    return "".join(words) or "0s"


def parse_size(value: object) -> int:
    """`"8MiB"` (2**20), `"5GB"` (10**9), `"512B"` -> bytes.

    Raises:
        ValueError: not a size.
    """
    text = _text(value, example="MiB", kind="size")
    number, factor = _quantity(text, _SIZE_UNITS, 'a size; write one such as "8MiB", "5GB" or "512B"')
    return round(number * factor)


def format_size(size: int) -> str:
    """Bytes -> the largest binary unit that divides them: `"8MiB"`, `"1001B"`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def parse_rate(value: object) -> int | None:
    """`"40Mbit/s"`, `"5MiB/s"` -> bytes per second; `"unlimited"` -> None.

    Raises:
        ValueError: not a rate, or less than one byte per second.
    """
    text = _text(value, example="Mbit/s", kind="rate")
    if text == "unlimited":
        return None
    complaint = 'a rate; write one such as "40Mbit/s" or "5MiB/s", or "unlimited"'
    amount, slash, per = text.rpartition("/")
    if not slash or per != "s":
        raise ValueError(f"{text!r} is not {complaint}")
    number, factor = _quantity(amount, _RATE_UNITS, complaint)
    rate = round(number * factor)
    if rate < 1:
        raise ValueError(f"{text!r} is less than one byte per second; to stop a provider, disable it")
    return rate


def format_rate(rate: int | None) -> str:
    """Bytes per second -> `"40Mbit/s"`, `"5MiB/s"`, `"1001B/s"`; None -> `"unlimited"`."""
    if rate is None:
        return "unlimited"
    for unit, bits in _BIT_UNITS.items():
        if unit != "bit" and rate * 8 % bits == 0:
            return f"{rate * 8 // bits}{unit}/s"
    return f"{format_size(rate)}/s"


def _text(value: object, *, example: str, kind: str) -> str:
    """The value if it is text; refuse the bare number, with the spelling that was probably meant."""
    bare = re.fullmatch(r"[0-9]+(\.[0-9]+)?", str(value)) if not isinstance(value, bool) else None
    if bare:
        raise ValueError(f'{value} has no unit; write a {kind} such as "{value}{example}"')
    if not isinstance(value, str):
        # Not TypeError: pydantic reports a ValueError as a fault of the key, and lets a TypeError through.
        raise ValueError(f'must be a {kind} in quotes, such as "90{example}"')  # noqa: TRY004
    return value


def _quantity(text: str, units: Mapping[str, int | Fraction], complaint: str) -> tuple[Fraction, Fraction]:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units:
        # "8mib" or "40mbit": one spelling only, or "8Mb" would be read as bytes by some.
        near = next((unit for unit in units if match and unit.casefold() == match[2].casefold()), None)
        meant = f" ({near!r} is spelt so)" if near else ""
        raise ValueError(f"{text!r} is not {complaint}{meant}")
    return Fraction(match[1]), Fraction(units[match[2]])


def _decimal(value: Fraction) -> str:
    """An exact decimal without exponent; the value has a power of ten below the line."""
    return f"{float(value):.3f}".rstrip("0").rstrip(".")
