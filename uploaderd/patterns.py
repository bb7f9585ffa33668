"""Which files a source takes: its globs, and who comes first where sources share a tree.

A pattern is matched against the whole path relative to the source, case-sensitively. `*` and `?`
stay within one component, `[...]` is one character of a set, `**/` is any number of directories (none
too) and `**` at the end everything below. Names that begin with a dot are like any other: a recorder
may well use them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from uploaderd.markers import PATTERNS

OWN: Final = b".uploaderd"
"""Names that begin so are this program's own (a file put aside by cleanup): never recordings."""


class Rules(Protocol):
    """What of a source's configuration decides (`config.Source` is one)."""

    @property
    def path(self) -> os.PathLike[str]: ...

    @property
    def include(self) -> tuple[str, ...]: ...

    @property
    def exclude(self) -> tuple[str, ...]: ...

    @property
    def finished(self) -> str: ...


class Patterns:
    """`include` less `exclude`, compiled once."""

    def __init__(self, include: Iterable[str], exclude: Iterable[str]) -> None:
        self._include = _compiled(include)
        self._exclude = _compiled(exclude)

    def take(self, path: bytes) -> bool:
        """Whether the file at `path`, relative to the source, is taken."""
        if path.startswith(OWN) or b"/" + OWN in path:
            return False
        text = path.decode("utf-8", "surrogateescape")
        return self._include.fullmatch(text) is not None and self._exclude.fullmatch(text) is None


def excluded(rules: Rules) -> tuple[str, ...]:
    """What the source passes over: its `exclude`, and the markers if it goes by them."""
    return (*rules.exclude, *PATTERNS) if rules.finished == "marker" else rules.exclude


class Belonging:
    """Decides whose a file is: the first source, in the file's order, whose path and patterns take it."""

    def __init__(self, sources: Mapping[str, Rules]) -> None:
        self._sources = [
            (name, _folder(rules.path), Patterns(rules.include, excluded(rules)))
            for name, rules in sources.items()
        ]

    def owner(self, absolute: bytes) -> tuple[str, bytes] | None:
        """The source that has the file, and the path relative to it; None if nobody takes it."""
        for name, folder, patterns in self._sources:
            if absolute.startswith(folder) and patterns.take(absolute[len(folder) :]):
                return name, absolute[len(folder) :]
        return None

    def of(self, source: str) -> Claim:
        """The rules as seen from one source, for paths relative to it."""
        index = next(i for i, (name, _, _) in enumerate(self._sources) if name == source)
        _, folder, patterns = self._sources[index]
        rivals = [
            (other, earlier)
            for _, other, earlier in self._sources[:index]
            if other.startswith(folder) or folder.startswith(other)
        ]
        return Claim(folder, patterns, rivals)


class Claim:
    """What one source may take: what its patterns match and no earlier source takes."""

    def __init__(self, folder: bytes, patterns: Patterns, rivals: list[tuple[bytes, Patterns]]) -> None:
        self._folder = folder
        self._patterns = patterns
        self._rivals = rivals

    def take(self, path: bytes) -> bool:
        if not self._patterns.take(path):
            return False
        if not self._rivals:
            return True
        absolute = self._folder + path
        return not any(
            absolute.startswith(folder) and patterns.take(absolute[len(folder) :])
            for folder, patterns in self._rivals
        )


def _folder(path: os.PathLike[str]) -> bytes:
    return os.fsencode(path).rstrip(b"/") + b"/"


def _compiled(patterns: Iterable[str]) -> re.Pattern[str]:
    # (?s): a name may hold a newline. (?!) matches nothing: no patterns, no files.
    return re.compile("(?s:" + ("|".join(_regex(pattern) for pattern in patterns) or "(?!)") + ")")


_PIECE: Final = re.compile(
    r"(?P<deep>(?:(?<=/)|^)\*\*/+)|(?P<all>\*\*+)|(?P<star>\*)|(?P<one>\?)|\[(?P<set>!?\]?[^\]]*)\]"
)


def _regex(pattern: str) -> str:
    pieces = []
    position = 0
    for match in _PIECE.finditer(pattern):
        pieces.append(re.escape(pattern[position : match.start()]))
        position = match.end()
        match match.lastgroup:
            case "deep":
                pieces.append("(?:[^/]+/)*")
            case "all":
                pieces.append(".*")
            case "star":
                pieces.append("[^/]*")
            case "one":
                pieces.append("[^/]")
            case _:
                pieces.append(_set(match["set"]))
    pieces.append(re.escape(pattern[position:]))
    return "".join(pieces)


def _set(text: str) -> str:
    """`[abc]`, `[!abc]`, `[a-z]` of a glob as a regular expression."""
    negated = text.startswith("!")
    inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", text[negated:])
    # A slash is never matched by a set, so that a component stays a component.
    return f"(?!/)[{'^' if negated else ''}{inside}]" if inside else re.escape(f"[{text}]")
