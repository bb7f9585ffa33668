"""All commands, put together; and what an error means for the exit code."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Final, NoReturn

import typer

from uploaderd import __version__
from uploaderd.cli import exits, say
from uploaderd.cli.commands import Commands
from uploaderd.cli.options import ConfigFile, EnvironmentFile, examples
from uploaderd.errors import LedgerError, LedgerHeld, Refused, UploaderdError

EXAMPLES: Final = examples(
    "uploaderd demo                    see it work, without an account",
    "uploaderd run --quickstart        ./recordings into ./uploaded",
    "uploaderd status                  is everything safe?",
    "uploaderd why cam1/18-00.mp4      what holds this file back?",
)

app: Final = typer.Typer(
    name="uploaderd",
    cls=Commands,
    rich_markup_mode=None,  # rich would cost every command 30 ms
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXAMPLES,
)


def _version(wanted: bool) -> None:
    if wanted:
        say.data(f"uploaderd {__version__}")
        raise typer.Exit


@app.callback()
def _uploaderd(
    context: typer.Context,
    config: ConfigFile = None,
    env_file: EnvironmentFile = None,  # noqa: ARG001 - read by its callback
    version: Annotated[  # noqa: ARG001 - its callback ends the program
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Uploads every finished recording to every provider, and proves that each copy is there.

    Data goes to stdout, messages to stderr. Exit codes: 0 fine, 1 problems found, 2 usage (an unknown
    path or name too), 3 daemon not running, 69 provider unavailable, 75 try again, 78 configuration.
    """
    context.obj = config


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Carry out what the command line says, and exit.

    `arguments`: None for the process's own, which then ends whatever its threads do.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever began us (`>&-`): nobody wants to read it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the end
    # A path or message that the terminal's encoding lacks is shown escaped: it must not end the command.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code: int | None = None

    def end_now() -> None:
        if code is not None:
            _end_now(code)

    if arguments is None:
        # Registered first, called last: by then threads are joined, and other handlers were called.
        atexit.register(end_now)
    code = _written(_carried_out(arguments))
    if arguments is None:
        _end_soon(code)
    sys.exit(code)


def _carried_out(arguments: Sequence[str] | None) -> int:
    """Do it; the exit code."""
    try:
        typer.main.get_command(app).main(args=arguments, prog_name="uploaderd")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else exits.OK
    except LedgerError as error:
        say.error(error.message, error.hint)
        return exits.TRY_AGAIN if isinstance(error, LedgerHeld) else exits.PROBLEMS
    except UploaderdError as error:
        return _told(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        say.error(f"{where}{error.strerror or error}")
        return exits.PROBLEMS
    return exits.OK


def _written(code: int) -> int:
    """Write out what was said; the exit code, which is not 0 if that failed: half an export is none."""
    try:
        say.flush()
    except OSError as error:
        say.error(f"not all could be written to stdout: {error.strerror or error}")
        return code or exits.PROBLEMS
    return code


def _end_soon(code: int) -> None:
    """The interpreter would wait for a thread that hangs in the kernel, for ever."""
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        last = threading.Timer(exits.LINGER_SECONDS, os._exit, (code,))
        last.daemon = True
        last.start()


def _end_now(code: int) -> None:
    """The interpreter would take all modules apart: a fifth of a `status`. What is to be closed is closed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _told(error: UploaderdError) -> int:
    """Say what went wrong; the exit code."""
    from uploaderd.config import ConfigError
    from uploaderd.report.lookup import Ambiguous, Unknown

    match error:
        case Refused():
            say.error(error.message, error.hint)
            return exits.OF_REFUSAL.get(error.kind, exits.PROBLEMS)
        case ConfigError():
            for fault in error.faults:
                say.error(fault)
            return exits.CONFIGURATION
        case Ambiguous():
            say.error(str(error))
            for candidate in error.candidates:
                say.message(f"  {candidate}")
            return exits.USAGE
        case Unknown():
            say.error(str(error))
            return exits.USAGE
    say.error(str(error))
    return exits.PROBLEMS
