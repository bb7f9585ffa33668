"""A package that a library takes where it finds it, and that we do without."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(name: str) -> Iterator[None]:
    """For imports inside, the package is not installed.

    None in `sys.modules` says so (The Python Language Reference, 5.3.1, "The module cache").
    """
    loaded = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if loaded is not None:
            sys.modules[name] = loaded
