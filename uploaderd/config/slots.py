"""What may stand where: from a key such as ("sources", "cameras", "quiet_for") to its field.

The models are the only description of the configuration; this reads them for those who meet a key
before it is validated (variables, secret files, relative paths) or have to name it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from uploaderd.config.kinds import is_secret_path
from uploaderd.config.whole import Config, Key

Models = tuple[type[BaseModel], ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the configuration.

    Attributes:
        models: a table's class; several where `type` decides (a provider).
        named: those are the classes of each table below it, under any name.
        texts: a table of texts under any key, such as `metadata`.
        shapes: of a value: its types, its literal values, and what annotates them.
        field: of a value or a single table: its declaration.
    """

    models: Models = ()
    named: bool = False
    texts: bool = False
    shapes: tuple[object, ...] = ()
    field: FieldInfo | None = None

    @property
    def is_table(self) -> bool:
        """Whether it has keys of its own: neither a value, nor a table of named tables."""
        return bool(self.models) and not self.named

    @property
    def is_path(self) -> bool:
        return Path in self.shapes

    @property
    def is_secret_path(self) -> bool:
        return any(is_secret_path(shape) for shape in self.shapes)

    @property
    def known(self) -> tuple[str, ...]:
        """The keys that the table knows, in order of declaration; none where any name will do."""
        return (
            ()
            if self.named
            else tuple(dict.fromkeys(key for model in self.models for key in model.model_fields))
        )

    def below(self, part: str) -> Slot | None:
        """The place one step down; None if there is none of this name."""
        if self.named:
            return Slot(models=self.models)
        if self.texts:
            return Slot(shapes=self.shapes[1:])  # after `dict`, those of its values
        for model in self.models:
            if part in model.model_fields:
                return _of(model.model_fields[part])
        return None


ROOT = Slot(models=(Config,))


def slot(key: Key) -> Slot | None:
    """The place of a key; None if the configuration has no such key."""
    here: Slot | None = ROOT
    for part in key:
        here = here.below(part) if here else None
    return here


def every(here: Slot = ROOT, key: Key = ()) -> Iterator[tuple[Key, Slot, Models]]:
    """Each key that holds a value, with its place and the classes that have it; "*" stands for a name."""
    if here.named:
        yield from every(Slot(models=here.models), (*key, "*"))
        return
    for name in here.known:
        below = here.below(name)
        assert below is not None  # `known` has named it
        if below.models:
            yield from every(below, (*key, name))
        else:
            yield (*key, name), below, tuple(model for model in here.models if name in model.model_fields)


def _of(field: FieldInfo) -> Slot:
    shapes = tuple(_flat(field.annotation)) + tuple(field.metadata)
    if get_origin(field.annotation) is dict:
        of_values = tuple(_flat(get_args(field.annotation)[1]))
        models = _models(of_values)
        return (
            Slot(models=models, named=True, field=field)
            if models
            else Slot(texts=True, shapes=(dict, *of_values), field=field)
        )
    return Slot(models=_models(shapes), shapes=shapes, field=field)


def _models(shapes: tuple[object, ...]) -> Models:
    return tuple(shape for shape in shapes if isinstance(shape, type) and issubclass(shape, BaseModel))


def _flat(annotation: object) -> Iterator[object]:
    """Members of unions, insides of Annotated, values of Literal; of tuples and dicts the bare type."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType, Annotated):
        inside, *marks = get_args(annotation)
        if origin is Annotated:
            yield from _flat(inside)
            yield from marks
        else:
            for member in (inside, *marks):
                yield from _flat(member)
    elif origin is Literal:
        yield from get_args(annotation)
    else:
        yield origin or annotation
