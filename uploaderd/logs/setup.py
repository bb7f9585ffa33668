"""Log lines: one format for our own lines and the libraries', on stderr, without secrets.

JSON, one object a line, where stderr is not a terminal; coloured lines for people where it is one
(without colours under `NO_COLOR`). Whatever is bound with `about` stands in every line that its task
writes, a library's lines included.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, NoReturn, TextIO, cast

from uploaderd.logs.absent import absent
from uploaderd.logs.secrets import MASK, mask, mask_name, mask_registered

# Rich's tracebacks print local variables, secrets among them; and loading it is a twentieth of a start.
with absent("rich"):
    import structlog
    from structlog.typing import EventDict, Processor, WrappedLogger

LEVELS = ("debug", "info", "warning", "error", "critical")
"""The names that `log_level` and `log_levels` take, from the most to the least talkative."""

Form = Literal["auto", "json", "console"]

_DEEPEST = 8
"""Levels of nesting that a line shows; what lies deeper is shown as its `repr`. Ends cycles too."""

_FIRST = ("level", "event", "logger")


def configure(
    *,
    level: str = "info",
    libraries: str = "warning",
    levels: Mapping[str, str] | None = None,
    form: Form = "auto",
    stream: TextIO | None = None,
) -> None:
    """Send every log line of this process, the libraries' included, to one place in one format.

    Args:
        level: from which level on uploaderd's own lines are shown.
        libraries: from which level on everybody else's are; at `info`, azure's prints every request.
        levels: the same for single libraries or modules, by logger name (`{"azure": "debug"}`).
        form: `auto` looks at the stream.
        stream: stderr unless given.

    Raises:
        ValueError: a level that is not one of `LEVELS`.

    Calling it again replaces what was configured (a reload does).
    """
    stream = stream if stream is not None else sys.stderr
    if form == "auto":
        form = "console" if stream.isatty() else "json"
    named = {"uploaderd": level, **(levels or {})}
    numbers = {name: _number(value) for name, value in named.items()}

    rendering = _rendering(form, colours=stream.isatty() and not os.environ.get("NO_COLOR"))
    root = logging.getLogger()
    for handler in _handlers() or [_Handler()]:
        handler.take(stream, rendering)
        root.addHandler(handler)
    root.setLevel(_number(libraries))
    for name in _levelled - numbers.keys():
        logging.getLogger(name).setLevel(logging.NOTSET)
    for name, number in numbers.items():
        logging.getLogger(name).setLevel(number)
    _levelled.clear()
    _levelled.update(numbers)

    # No line tells by whom in the process it was written (Logging HOWTO, "Optimization").
    logging._srcfile = None  # noqa: SLF001 - that page shows it so
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_crash
    threading.excepthook = _log_thread_crash
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_COMMON,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            _show,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; the name is the module's, `__name__`, so that `log_levels` finds it."""
    return structlog.stdlib.get_logger(name)


@contextmanager
def about(**facts: object) -> Iterator[None]:
    """Every line that this task writes inside the block carries these facts.

    For an upload: `with about(recording=..., provider=..., attempt=...)`.
    """
    with structlog.contextvars.bound_contextvars(**facts):
        yield


_levelled: set[str] = set()  # the loggers whose level the last `configure` set

_COMMON: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
)


def _number(level: str) -> int:
    if level not in LEVELS:
        raise ValueError(f"{level!r} is not a log level; one of: {', '.join(LEVELS)}")
    return cast("int", getattr(logging, level.upper()))


def _handlers() -> list[_Handler]:
    return [each for each in logging.getLogger().handlers if isinstance(each, _Handler)]


def _show(logger: WrappedLogger, method: str, line: EventDict) -> NoReturn:
    """The last processor of our own lines, which need no `LogRecord`: making one is a third of a line.

    Loggers keep their processors from their first line on: where a line goes is looked up for each.

    Raises:
        DropEvent: always, so that structlog is done with it.
    """
    for handler in _handlers():
        handler.show(logger, method, line)
    raise structlog.DropEvent


def _rendering(form: Form, *, colours: bool) -> Sequence[Processor]:
    """What makes text of a line; the last gives it."""
    # Tracebacks become text before the masking, which sees them so.
    stamp: Processor
    render: list[Processor]
    if form == "console":
        stamp = structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False)
        for_people = structlog.dev.ConsoleRenderer(
            colors=colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0, sort_keys=False
        )
        render = [for_people, _mask_line]
    else:
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        render = [_render_json]
    return [stamp, structlog.processors.format_exc_info, _plain_and_masked, *render]


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines, and keeps quiet about the contents of one that it cannot write.

    The standard handler prints message and arguments, unmasked, when formatting fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rendering: Sequence[Processor] = ()

    def take(self, stream: TextIO, rendering: Sequence[Processor]) -> None:
        """Write there, in that form, from the next line on; no line is lost between."""
        without_its_own = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        formatter = structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_COMMON, processors=[without_its_own, *rendering]
        )
        self.acquire()
        try:
            self.stream, self._rendering, self.formatter = stream, rendering, formatter
        finally:
            self.release()

    def show(self, logger: WrappedLogger, method: str, line: EventDict) -> None:
        """Write a line that is no record of the standard library's."""
        self.acquire()  # for its time stamp, too: lines stand in the order of theirs
        try:
            shown: Any = line
            for processor in self._rendering:
                shown = processor(logger, method, shown)
            self.stream.write(shown + self.terminator)
            self.flush()
        except Exception:  # noqa: BLE001 - no line is worth what it tells of
            self._unwritten(logger.name)
        finally:
            self.release()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        self._unwritten(record.name)

    def _unwritten(self, logger: str) -> None:
        kind, _, _ = sys.exc_info()
        if kind is None or issubclass(kind, OSError):
            return  # stderr is gone: there is nobody left to tell
        line = {
            "level": "error",
            "event": "a log line could not be written",
            "logger": logger,
            "error": kind.__name__,
        }
        try:
            self.stream.write(mask_registered(json.dumps(line)) + self.terminator)
            self.flush()
        except (OSError, ValueError):
            return


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    get_logger("uploaderd").critical("crashed: an error that nothing expected", exc_info=(kind, error, trace))


def _log_thread_crash(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        get_logger("uploaderd").critical(
            "a thread crashed: an error that nothing expected",
            thread=args.thread.name if args.thread else None,
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        )


def _plain_and_masked(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """The line in JSON's types alone, masked, the fields that people look for first."""
    stamp = {"timestamp": line.pop("timestamp")}  # our own, new in every line: nothing to look through
    plain = _fields(line, 0)
    return stamp | {name: plain.pop(name) for name in _FIRST if name in plain} | plain


def _plain(value: object, depth: int) -> object:
    """The value in JSON's types. Every text in it is masked here, before quoting can hide a secret."""
    if type(value) is str:
        return _printable(mask(value))
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        text = repr(value)
        finite = text.lstrip("-")[:1].isdigit()  # JSON has no inf and no nan
        return value if finite and mask_registered(text) == text else mask(text)
    if depth < _DEEPEST and isinstance(value, Mapping):
        return _fields(value, depth)
    if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth + 1) for each in value]
    return _printable(mask(_text(value)))


def _fields(values: Mapping[Any, object], depth: int) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in values.items():
        shown, secret = mask_name(_text(name))
        hidden = secret and value not in (None, "", "SET", True, False)
        plain[_printable(shown)] = MASK if hidden else _plain(value, depth + 1)
    return plain


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "surrogateescape")
    try:
        return str(value) if isinstance(value, os.PathLike) else repr(value)
    except Exception as error:  # noqa: BLE001 - a broken repr of a library's object must not lose the line
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def _printable(text: str) -> str:
    """Without what would move a terminal's cursor; bytes of a path that are not UTF-8 as %XX."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else _spelled(each) for each in text)


def _spelled(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"%{code - 0xDC00:02X}"
    return character.encode("unicode_escape").decode()


def _render_json(_: WrappedLogger, __: str, line: EventDict) -> str:
    text = json.dumps(line, ensure_ascii=False)
    masked = mask_registered(text)
    if (
        masked != text
    ):  # no value holds a secret any more: quoting has put one together, `\\n` and `abc` to nabc
        try:
            json.loads(masked)
        except ValueError:
            withheld = "a line was withheld: without a secret that it spelled it was no longer JSON"
            return json.dumps(
                {**{name: line.get(name) for name in ("timestamp", *_FIRST)}, "event": withheld}
            )
    return masked


def _mask_line(_: WrappedLogger, __: str, line: EventDict) -> str:
    """The last net, over the text as it will stand: the registered values once more."""
    return mask_registered(cast("str", line))
