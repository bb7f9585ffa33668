"""What the configuration knows and this version does not yet do. A key that is ignored in silence is a lie.

One entry for each; the entry goes when the feature comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from uploaderd.config.faults import Fault
from uploaderd.config.whole import Config, Key


@dataclass(frozen=True, slots=True)
class Pending:
    """A key, or some of its values, without effect so far.

    Attributes:
        key: with "*" for a name.
        feature: what is missing, in words.
        values: those refused; none of them named: all but the default.
    """

    key: str
    feature: str
    values: tuple[str, ...] = ()

    def refuses(self, table: BaseModel, name: str) -> bool:
        """Whether the table's value under this name asks for the feature."""
        value = getattr(table, name)
        return value in self.values if self.values else value != type(table).model_fields[name].get_default()


PENDING: Final = (Pending("sources.*.expect_every", "the alarm for silent sources"),)


def unsupported(config: Config) -> Iterator[Fault]:
    """A fault for each key that asks for what this version does not do."""
    for pending in PENDING:
        *tables, name = pending.key.split(".")
        for key, table in _tables(config, (), tuple(tables)):
            if name in type(table).model_fields and pending.refuses(table, name):
                value = f' = "{getattr(table, name)}"' if pending.values else ""
                yield Fault(
                    (*key, name),
                    f"{name}{value} is not supported in this version ({pending.feature}); take it out",
                )


def _tables(table: BaseModel, key: Key, path: tuple[str, ...]) -> Iterator[tuple[Key, BaseModel]]:
    """The tables at the end of the path below this one."""
    if not path:
        yield key, table
        return
    below = getattr(table, path[0])
    if path[1:2] == ("*",):
        for name, named in below.items():
            yield from _tables(named, (*key, path[0], name), path[2:])
    else:
        yield from _tables(below, (*key, path[0]), path[1:])
