"""A fault: which key, what is wrong and what to write instead, in one line for the person who mends it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from uploaderd.config.whole import Key


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a key. The message quotes no value that may be a secret."""

    key: Key
    message: str


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?`, or nothing if no known word is near."""
    near = get_close_matches(word, tuple(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def written(fault: Fault, *, origins: Mapping[Key, str], file: Path | None) -> str:
    """The fault as a line of text, beginning with the file, variable or secret file to look at.

    Args:
        fault: what is wrong.
        origins: where each value came from.
        file: where a value that is missing would belong.
    """
    return f"{_where(fault.key, origins, file)}: {'.'.join(fault.key)}: {fault.message}"


def _where(key: Key, origins: Mapping[Key, str], file: Path | None) -> str:
    if key in origins:
        return origins[key]
    # A table's own fault is where its values are; a missing key's, where its table's others are.
    for length in range(len(key), min(2, len(key)) - 1, -1):
        near = [origin for other, origin in origins.items() if other[:length] == key[:length]]
        if near:
            return str(file) if file and str(file) in near else near[0]
    return str(file) if file else "configuration"
