"""Which commands there are. Each is loaded with its module when it is asked for: all are by a help text only.

To load and describe all of them would be a tenth of what `uploaderd status` takes.
"""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True)
class Command:
    """A function of a module of this package, and the name of its examples there."""

    module: str
    function: str
    examples: str = "EXAMPLES"

    def add_to(self, app: typer.Typer, name: str) -> str:
        """The text of its examples."""
        module = import_module(f"uploaderd.cli.{self.module}")
        examples: str = getattr(module, self.examples)
        app.command(name, epilog=examples)(getattr(module, self.function))
        return examples


@dataclass(frozen=True, slots=True)
class Group:
    """Commands that have a first word in common, by the second.

    Attributes:
        help: what that word is about.
        foremost: the one whose examples are shown for all of them.
    """

    help: str
    foremost: str
    commands: dict[str, Command]


COMMANDS: Final[dict[str, Command | Group]] = {
    "run": Command("running", "run", "RUN_EXAMPLES"),
    "demo": Command("running", "demo", "DEMO_EXAMPLES"),
    "status": Command("status", "status"),
    "list": Command("recordings", "list_", "LIST_EXAMPLES"),
    "history": Command("recordings", "history", "HISTORY_EXAMPLES"),
    "why": Command("recordings", "why", "WHY_EXAMPLES"),
    "ensure": Command("ensuring", "ensure"),
    "verify": Command("verifying", "verify"),
    "url": Command("retrieving", "url"),
    "retry": Command("deciding", "retry", "RETRY_EXAMPLES"),
    "pause": Command("deciding", "pause", "PAUSE_EXAMPLES"),
    "resume": Command("deciding", "resume", "RESUME_EXAMPLES"),
    "acknowledge": Command("deciding", "acknowledge", "ACKNOWLEDGE_EXAMPLES"),
    "release": Command("deciding", "release", "RELEASE_EXAMPLES"),
    "backfill": Command("moving", "backfill", "BACKFILL_EXAMPLES"),
    "retire": Command("moving", "retire", "RETIRE_EXAMPLES"),
    "doctor": Command("doctor", "doctor"),
    "config": Group(
        "Check or show the configuration.",
        "show",
        {
            "check": Command("configuration", "check", "CHECK_EXAMPLES"),
            "show": Command("configuration", "show", "SHOW_EXAMPLES"),
        },
    ),
    "ledger": Group(
        "Check, copy, export or rebuild the ledger.",
        "check",
        {
            "check": Command("ledgers", "check", "CHECK_EXAMPLES"),
            "backup": Command("ledgers", "backup", "BACKUP_EXAMPLES"),
            "export": Command("ledgers", "export", "EXPORT_EXAMPLES"),
            "rebuild": Command("ledgers", "rebuild", "REBUILD_EXAMPLES"),
        },
    ),
}
"""In the order in which `--help` shows them."""


class Commands(TyperGroup):
    """What `typer` makes of `COMMANDS`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Loaded()


class _Loaded(UserDict[str, Any]):
    """Typer's commands by name, each made when it is looked up."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(COMMANDS))

    def __getitem__(self, name: str) -> Any:
        if self.data[name] is None:
            self.data[name] = _made(name, COMMANDS[name])
        return self.data[name]


def _made(name: str, what: Command | Group) -> object:
    """Its command or group, as `typer` has them."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    if isinstance(what, Command):
        what.add_to(app, name)
    else:
        examples = {second: command.add_to(app, second) for second, command in what.commands.items()}
        app.info.help, app.info.epilog = what.help, examples[what.foremost]
        app.info.no_args_is_help = True
    return typer.main.get_command(app)
