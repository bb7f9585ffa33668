"""docs/cli.md: every command, option and exit code; and help texts with examples that run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from tests.cli.process import ROOT, uploaderd
from uploaderd.cli import exits
from uploaderd.cli.entry import app

PAGE: Final = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def commands() -> Iterator[tuple[str, Any]]:
    """Each command that does something, by its full name."""
    for name, command in _below(typer.main.get_command(app), "uploaderd"):
        if not hasattr(command, "commands"):
            yield name, command


def _below(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for below, inner in getattr(command, "commands", {}).items():
        yield from _below(inner, f"{name} {below}")


def section(name: str) -> str:
    found = re.search(rf"^##+ `{re.escape(name)}.*?(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/cli.md has no section `{name}`"
    return found.group()


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=[name for name, _ in commands()])
def test_every_command_and_option_is_documented(name: str, command: Any) -> None:
    text = section(name)
    for parameter in command.params:
        if parameter.name in ("help", "config"):
            continue  # of every command: said once, at the top
        names = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar]
        for shown in names:
            assert shown in text, f"{name}: {shown}"


def test_what_every_command_takes_is_documented() -> None:
    for option in ("--config", "--version", "--help", "--install-completion", "--show-completion"):
        assert option in PAGE


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=[name for name, _ in commands()])
def test_every_help_has_examples_that_are_its_own(name: str, command: Any) -> None:
    assert command.help
    assert "Examples:" in command.epilog
    examples = [line.strip() for line in command.epilog.splitlines() if line.startswith("  ")]
    assert examples
    assert all(example.startswith(name) for example in examples)
    options = {option for parameter in command.params for option in parameter.opts}
    for example in examples:
        used = set(re.findall(r"(?<=\s)--[a-z-]+", example.partition("  ")[0].partition("|")[0]))
        assert used <= options, example


def test_every_exit_code_is_documented() -> None:
    for name, code in vars(exits).items():
        if isinstance(code, int):
            assert re.search(rf"^\| {code} \|", PAGE, re.MULTILINE), f"{name} ({code})"


def test_no_section_is_about_a_command_that_is_not_there() -> None:
    known = {name for name, _ in _below(typer.main.get_command(app), "uploaderd")}
    for heading in re.findall(r"^##+ `(uploaderd[a-z ]*)", PAGE, re.MULTILINE):
        assert heading.strip() in known


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["uploaderd", "doc"], {"doctor"}),
        (["uploaderd", "doctor", "--no"], {"--no-write"}),
        (["uploaderd", "list", "--state", "s"], {"safe", "skipped", "superseded"}),
        (["uploaderd", "pause", ""], {"nas", "hall"}),
        (["uploaderd", "list", "--provider", ""], {"nas"}),
    ],
)
def test_the_shell_completes(typed: list[str], offered: set[str], tmp_path: Path) -> None:
    """As the script does that `--show-completion` prints."""
    (tmp_path / "c.toml").write_text(
        '[sources.hall]\npath = "in"\n[providers.nas]\ntype = "directory"\npath = "nas"\n'
    )
    asked = {
        "_UPLOADERD_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(typed),
        "COMP_CWORD": str(len(typed) - 1),
        "UPLOADERD_CONFIG": "c.toml",
    }
    ended = uploaderd(cwd=tmp_path, env=asked)
    assert (set(ended.out.split()), ended.err) == (offered, "")
