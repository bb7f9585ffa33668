"""HTML by small pieces. What is not markup already is escaped: a path may have any byte in it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final


class Html(str):
    """Text that is markup."""

    __slots__ = ()


Content = str | int | None | Iterable["Content"]
"""A text, which is escaped; markup, which is not; nothing; or several of them."""

Attribute = str | int | float | bool | None
"""True: without a value. False, None: left out."""

_VOID: Final = frozenset({"br", "img", "input", "link", "meta"})
"""Elements of HTML that never have content, nor an end. Those of SVG end, or swallow what comes next."""


def tag(name: str, /, *content: Content, **attributes: Attribute) -> Html:
    """An element. `class_` and `for_` lose their underscore, others become hyphens."""
    told = "".join(
        f" {_name(key)}" if value is True else f' {_name(key)}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{join(*content)}</{name}>")


def join(*content: Content) -> Html:
    """Several pieces, one after another."""
    return Html("".join(_written(one) for one in content))


def _written(one: Content) -> str:
    if one is None:
        return ""
    if isinstance(one, Html):
        return one
    if isinstance(one, str | int):
        return escape(str(one))
    return join(*one)


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
