"""What pydantic refused, in our words.

Its own messages speak of models and input types, and some quote the input: a misspelt key may hold a
secret, so nothing here looks at a value but to find the nearest of the words that its key allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from uploaderd.config.faults import Fault, nearest
from uploaderd.config.kinds import NAME
from uploaderd.config.slots import ROOT, Slot, every, slot
from uploaderd.config.whole import Key

_TEXTS: Final[Mapping[str, str]] = {
    "bool_type": "must be true or false, without quotes",
    "int_type": "must be a whole number, without quotes",
    "string_type": "must be text in quotes",
    "path_type": "must be a path in quotes",
    "tuple_type": 'must be a list, such as ["..."]',
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "a name begins with a lower-case letter, and has only lower-case letters,"
    f" digits and _ ({NAME})",
}
_NOT_A_TABLE: Final = ("dict_type", "model_type", "model_attributes_type")


def faults(error: ValidationError, names: Mapping[str, tuple[str, ...]]) -> Iterator[Fault]:
    """One fault for each thing that the models refuse.

    Args:
        error: as pydantic raised it.
        names: those below "sources", "providers" and "webhooks", in all layers together.
    """
    found = [(_place(detail["loc"]), detail) for detail in error.errors(include_url=False)]
    with_items = {key for (key, item, _), _ in found if item}
    for (key, item, place), detail in found:
        if detail["type"] == "too_short" and key in with_items:
            continue  # pydantic counts only those items that are right
        message = _message(key, place, detail, names)
        yield Fault(key, f"item {item}: {message}" if item else message)


def _place(loc: tuple[int | str, ...]) -> tuple[Key, int, Slot]:
    """Pydantic's location -> the key, the item's number (from 1; 0 if not in a list), and the table around.

    The location holds a provider's type after its name, "[key]" where a name itself is wrong, and the
    members of a union that were tried.
    """
    key: list[str] = []
    around, here = ROOT, ROOT
    for part in loc:
        if isinstance(part, int):
            return tuple(key), part + 1, around
        if here.is_table and len(here.models) > 1:  # a type: the one class that it chose
            here = Slot(models=tuple(model for model in here.models if _type(model) == part))
            continue
        if part == "[key]" or not (here.is_table or here.named or here.texts):
            break
        key.append(part)
        around, here = here, here.below(part) or Slot()
    return tuple(key), 0, around


def _message(key: Key, around: Slot, detail: ErrorDetails, names: Mapping[str, tuple[str, ...]]) -> str:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    types = tuple(_type(model) for model in (slot(key) or ROOT).models)
    say: Mapping[str, Callable[[], str]] = {
        "extra_forbidden": lambda: _unknown(key, around),
        "missing": lambda: "is missing" + _meaning(key) + _misnamed(key[:-1], names),
        "union_tag_not_found": lambda: f"has no type; write type = {_either(types)}{_misnamed(key, names)}",
        "union_tag_invalid": lambda: f"its type must be {_either(types)}{nearest(context['tag'], types)}",
        "literal_error": lambda: (
            f"must be {context['expected']}".replace("'", '"') + _near_word(context["expected"], value)
        ),
        "greater_than_equal": lambda: f"must be at least {context['ge']}",
        "less_than_equal": lambda: f"must be at most {context['le']}",
        "value_error": lambda: str(context["error"]),
    }
    if kind in _NOT_A_TABLE:
        # Most often `[sources]` with keys where the names should be.
        return "must be a table" + (f": [{key[0]}.NAME]" if len(key) == 2 else "")
    return say[kind]() if kind in say else _TEXTS.get(kind, detail["msg"])


def _unknown(key: Key, around: Slot) -> str:
    # Known elsewhere, letter by letter: more likely meant than what merely looks like it here.
    siblings = (slot(key[:-1]) or ROOT).models
    if owners := [_type(model) for model in siblings if key[-1] in model.model_fields]:
        return f"unknown key here; only providers of type {' and '.join(owners)} have it"
    elsewhere = {".".join(path[:-1]).replace("*", "NAME") for path, *_ in every() if path[-1] == key[-1]}
    if elsewhere:
        return "unknown key here; it belongs into " + " or ".join(f"[{table}]" for table in sorted(elsewhere))
    if near := nearest(key[-1], around.known):
        return f"unknown key{near}"
    if len(key) == 1:
        tables = (f"[{name}.NAME]" if (slot((name,)) or ROOT).named else f"[{name}]" for name in around.known)
        return f"unknown table; there are {', '.join(tables)}"
    return f"unknown key; [{'.'.join(key[:-1])}] knows {', '.join(around.known)}"


def _type(model: type[BaseModel]) -> str:
    """The value of `type` that chooses this class."""
    place = Slot(models=(model,)).below("type")
    return str(place.shapes[0]) if place else ""


def _either(words: tuple[str, ...]) -> str:
    return ", ".join(f'"{word}"' for word in words[:-1]) + f' or "{words[-1]}"'


def _meaning(key: Key) -> str:
    place = slot(key)
    said = place.field.description if place and place.field else None
    return f" ({said.rstrip('.')})" if said else ""


def _misnamed(table: Key, names: Mapping[str, tuple[str, ...]]) -> str:
    """A half-empty table is often one that a variable with a misspelt name has made."""
    others = (name for name in names.get(table[0], ()) if name != table[-1]) if len(table) == 2 else ()
    return nearest(table[-1], others) if table else ""


def _near_word(expected: str, value: object) -> str:
    """`expected`: the words that are allowed, each in single quotes."""
    return nearest(value, re.findall("'([^']*)'", expected)) if isinstance(value, str) else ""
