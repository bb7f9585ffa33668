"""Which recordings somebody asks for, where a provider sends on request alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Wanted:
    """Recordings by their rows: all up to `upto`, and those in `rows` besides."""

    upto: int = 0
    rows: Collection[int] = ()

    @classmethod
    def any_of(cls, several: Iterable[Wanted]) -> Wanted:
        """What at least one of them wants."""
        upto, rows = 0, set[int]()
        for one in several:
            upto = max(upto, one.upto)
            rows.update(one.rows)
        return cls(upto, rows)

    @property
    def values(self) -> dict[str, Any]:
        """What `CONDITION` is bound to."""
        return {"upto": self.upto, "rows": json.dumps(list(self.rows))}


EVERYTHING: Final = Wanted(upto=2**63 - 1)

CONDITION: Final = " AND (recording_id <= :upto OR recording_id IN (SELECT value FROM json_each(:rows)))"
"""What a statement over `uploads` adds to be about wanted recordings only."""
