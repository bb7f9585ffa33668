"""What tests need of the machine: without it a test is left out, and where all of them must run it fails."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


class MissingError(Exception):
    """Something that tests need is not there; says how it gets there."""


def _must_run() -> bool:
    """Whether what cannot run is a failure instead of a skip: always in CI."""
    return os.environ.get("TESTS_REQUIRE_ALL") == "1" or os.environ.get("CI", "").lower() in (
        "1",
        "true",
    )


def lacking(what: object, *, demanded: bool = True) -> NoReturn:
    """End the test, for this is missing.

    `demanded`: False where it may be left out even if all must run, which tests/run.py has to tell of.
    """
    __tracebackhide__ = True  # whoever needs it is told of, not this line
    if demanded and _must_run():
        pytest.fail(f"this must run, and cannot: {what}", pytrace=False)
    pytest.skip(str(what))


def tool(name: str) -> str:
    """Where this program is; the test ends if it is nowhere."""
    __tracebackhide__ = True
    return shutil.which(name) or lacking(f"{name} is not installed")
