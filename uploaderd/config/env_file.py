"""`--env-file`: variables from a `.env`, laid below those of the process itself."""

from __future__ import annotations

import io
from collections.abc import MutableMapping
from pathlib import Path

from dotenv.parser import parse_stream

from uploaderd.config.errors import ConfigError


class EnvFile:
    """A `.env`, put into an environment as often as it is read.

    What the process was started with goes first; what an earlier reading set, a later one changes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._ours: set[str] = set()

    def apply(self, env: MutableMapping[str, str]) -> None:
        """Read it, and set what nobody else has set.

        Raises:
            ConfigError: it cannot be read, or a line is no assignment. Nothing is changed then.
        """
        values = read(self._path)
        for name in self._ours - values.keys():
            env.pop(name, None)
        self._ours = {name for name in values if name in self._ours or name not in env}
        for name in self._ours:
            env[name] = values[name]


def read(path: Path) -> dict[str, str]:
    """`NAME=value` lines, with the quoting and comments of python-dotenv. `${...}` stays as it is written.

    Raises:
        ConfigError: it cannot be read, or a line is no assignment.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([f"--env-file {path}: cannot be read ({error.strerror})"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"--env-file {path}: is not UTF-8 text (byte {error.start})"]) from None
    bindings = list(parse_stream(io.StringIO(text)))
    # The line itself is not shown: it may hold a secret.
    if wrong := [one.original.line for one in bindings if one.error or (one.key and one.value is None)]:
        raise ConfigError([f"--env-file {path}: line {line}: must be NAME=value" for line in wrong])
    return {one.key: one.value for one in bindings if one.key and one.value is not None}
