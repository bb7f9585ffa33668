"""The README's commands are the ones that are run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(heading: str) -> list[str]:
    text = (ROOT / "README.md").read_text()
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return [block.strip() for block in re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)]


def test_ci_runs_the_readmes_test_command_and_nothing_else() -> None:
    (command,) = blocks("Test it")
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', command]


def test_there_is_one_command_that_ends_in_the_demo() -> None:
    (command,) = blocks("Try it")
    assert "\n" not in command
    assert command.endswith(".venv/bin/uploaderd demo")
    assert subprocess.run(["sh", "-n", "-c", command], check=False).returncode == 0


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / "README.md").read_text()))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_the_test_command_runs_on_an_old_python_far_enough_to_say_so() -> None:
    """It is read by whatever `python3` is: no syntax, and no import, that only newer ones have."""
    import ast

    source = (ROOT / "tests" / "run.py").read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names - {"tomllib"}
