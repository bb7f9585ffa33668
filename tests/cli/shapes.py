"""Whether a value has the shape of a TypedDict: every key, no other, and every value of its type."""

from __future__ import annotations

import re
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def conforms(value: object, shape: Any, where: str = "") -> None:
    """Raises AssertionError with the place that does not."""
    if is_typeddict(shape):
        _table(value, shape, where)
        return
    origin, arguments = get_origin(shape), get_args(shape)
    if origin is list:
        assert isinstance(value, list), where
        for index, item in enumerate(value):
            conforms(item, arguments[0], f"{where}[{index}]")
    elif origin is dict:
        assert isinstance(value, dict), where
        for key, item in value.items():
            assert isinstance(key, arguments[0])
            conforms(item, arguments[1], f"{where}.{key}")
    elif origin is Literal:
        assert value in arguments, where
    elif origin in (Union, UnionType):
        (plain,) = (one for one in arguments if one is not NoneType)
        if value is not None:
            conforms(value, plain, where)
    elif shape is float:
        assert isinstance(value, float), f"{where}: {value!r}"
    elif shape is not object:
        assert isinstance(value, shape), f"{where}: {value!r}"
        assert shape is not int or not isinstance(value, bool), f"{where}: {value!r}"


def _table(value: object, shape: Any, where: str) -> None:
    assert isinstance(value, dict), where
    hints = get_type_hints(shape)
    assert set(value) == set(hints), f"{where}: {set(value) ^ set(hints)}"
    for key, hint in hints.items():
        conforms(value[key], hint, f"{where}.{key}")
        if (key.endswith("_at") or key in ("at", "since")) and value[key] is not None:
            assert _TIME.fullmatch(str(value[key])), f"{where}.{key}: {value[key]}"
