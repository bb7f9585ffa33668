"""What the daemon says of its configuration when it starts: all of it, secrets and roles as SET."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from uploaderd.config import Config, effective

_NAMED = ("sources", "providers", "webhooks")


def effective_lines(config: Config) -> Iterator[dict[str, object]]:
    """One line a table, ready for the log: `{"table": "providers.s3_main", "values": {...}}`."""
    for table, values in effective(config).items():
        if table in _NAMED:
            for name, named in values.items():
                yield _line(f"{table}.{name}", named)
        else:
            yield _line(table, values)


def switched(config: Config) -> dict[str, object]:
    """Which providers are on and which are off, and why; and variables that do nothing, if there are any."""
    switches = config.switches
    unused = {"unused": list(switches.unused)} if switches.unused else {}
    return {"on": dict(switches.on), "off": dict(switches.off), **unused}


def _line(table: str, values: dict[str, Any]) -> dict[str, object]:
    return {"table": table, "values": values}
