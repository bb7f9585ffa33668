"""A server's process: found a port, waited for, ended, and never outliving the tests."""

from __future__ import annotations

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_READY_WITHIN = 60.0  # seconds; a cold start of azurite on a busy machine takes 5
_STOPPED_WITHIN = 10.0
_PORTS_TRIED = 3
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)


class ServerError(Exception):
    """A server that is installed did not start; holds the end of what it printed."""


@contextmanager
def running(
    command: Callable[[int], Sequence[str | Path]],
    *,
    env: Mapping[str, str] | None = None,
    ready_within: float = _READY_WITHIN,
) -> Iterator[int]:
    """Run the command that this port gives until it answers HTTP; yields the port; ends it.

    Raises:
        ServerError: it ended, or did not answer in time.
    """
    with tempfile.TemporaryDirectory(prefix="uploaderd-server-") as folder:
        for left in reversed(range(_PORTS_TRIED)):
            port = free_port()
            printed = Path(folder, "printed")
            process = _start(command(port), folder, printed, {**os.environ, **(env or {})})
            try:
                _wait(process, port, printed, ready_within)
            except _EndedError as error:
                # Between our look and its bind somebody else may have taken the port: another one, then.
                if left and "address" in str(error).lower():
                    continue
                raise
            else:
                yield port
                return
            finally:
                _end(process)


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _EndedError(ServerError):
    pass


def _start(
    command: Sequence[str | Path], folder: str, printed: Path, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    def with_us() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a killed test run leaves no server behind

    with printed.open("wb") as output:
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=env,
            preexec_fn=with_us,  # noqa: PLW1509 - one system call, resolved before the fork
        )


def _wait(process: subprocess.Popen[bytes], port: int, printed: Path, ready_within: float) -> None:
    deadline = time.monotonic() + ready_within
    while not _answers(port):
        if process.poll() is not None:
            raise _EndedError(_story(process, printed, f"ended with {process.returncode} before it answered"))
        if time.monotonic() > deadline:
            raise ServerError(
                _story(process, printed, f"did not answer on port {port} within {ready_within} s")
            )
        time.sleep(0.02)  # between two looks at the port, not a guess of how long it takes
    if process.poll() is not None:
        raise _EndedError(
            _story(process, printed, "ended, and somebody else answers: address already in use")
        )


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)  # never through a proxy
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    else:
        return True  # any answer, a refusal too
    finally:
        connection.close()


def _story(process: subprocess.Popen[bytes], printed: Path, what: str) -> str:
    end = printed.read_bytes()[-2000:].decode(errors="replace")
    return f"{process.args!r} {what}; it printed:\n{end}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOPPED_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
