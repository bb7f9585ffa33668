"""docs/guarantees.md names tests that exist, and each test of this folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "guarantees.md"


def test_the_page_names_tests_that_exist() -> None:
    file = ""
    for named, test in re.findall(r"(tests/[\w/]+\.py)?(?:::(test_\w+))?", PAGE.read_text(encoding="utf-8")):
        file = named or file
        if file:
            text = (ROOT / file).read_text(encoding="utf-8")
            assert not test or f"def {test}(" in text, f"{file}::{test}"


def test_each_test_of_this_folder_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    here = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    assert not [name for name in sorted(here) if f"tests/kill/{name}" not in page]
