"""The errors of this package."""

from __future__ import annotations

from collections.abc import Iterable

from uploaderd.errors import UploaderdError


class ConfigError(UploaderdError):
    """The configuration cannot be used; only a person can mend it (exit 78).

    Attributes:
        faults: one message each, complete in itself: where, which key, what is wrong, what to write
            instead. None holds a secret's value.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults: tuple[str, ...] = tuple(faults)
        super().__init__("\n".join(self.faults))


class NoConfigurationError(ConfigError):
    """There is none: no file in the usual places, no variable that names a source or provider."""
