"""Faults on command. A test names what shall go wrong, where and how often, and learns whether it did.

    with server.faults.expected(Fault(Kind.LOSE_REPLY, operation="UploadPart", key="*.mp4", skip=2)):
        ...                                      # the third UploadPart is done and never answered

Leaving the block without the fault having fired is an AssertionError: a test in which its fault never fired
has shown nothing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any


class Kind(StrEnum):
    """What goes wrong."""

    STATUS = "status"  # answer `status` and `code`, do nothing
    LATENCY = "latency"  # wait `seconds`, then go on
    HOLD = "hold"  # wait until released, then go on
    FORGET_SESSION = "forget_session"  # the session is gone before the request is looked at
    LOSE_REQUEST = "lose_request"  # reset the connection, do nothing
    LOSE_REPLY = "lose_reply"  # do the work, then reset the connection
    HOLD_REPLY = "hold_reply"  # do the work, answer only when released
    CUT_REPLY = "cut_reply"  # send `after_bytes` of the reply's body, then reset
    RESET_BODY = "reset_body"  # reset after `after_bytes` of the request's body
    STALL_BODY = "stall_body"  # stop reading after `after_bytes`, until released
    NEVER_CONTINUE = "never_continue"  # no `100 Continue`
    THROTTLE = "throttle"  # bodies pass at `rate` bytes a second, all requests of the fault together
    FLIP_IN_TRANSIT = "flip_in_transit"  # byte `at_byte` arrives wrong; the server checks what it got
    FLIP_AT_REST = "flip_at_rest"  # byte `at_byte` is stored wrong under the digests of what came
    TRUNCATE = "truncate"  # store the first `keep` bytes only (half, when negative), answer success
    DISCARD = "discard"  # store nothing, answer success
    ERROR_IN_200 = "error_in_200"  # S3: status 200, an error in the body, nothing done


@dataclass(eq=False)
class Fault:
    """One thing that goes wrong `count` times (None: always), after `skip` matching requests went unharmed.

    `protocol`, `operation` and `key` are shell patterns over "s3", "azure", "gcs", the operation's name as
    the provider's documentation has it ("UploadPart", "PutBlock", "ResumableChunk"), and the object's key
    ("" where only the body says it: GCS multipart, and an opening without `name` in the query).
    """

    kind: Kind
    protocol: str = "*"
    operation: str = "*"
    key: str = "*"
    skip: int = 0
    count: int | None = 1
    status: int = 503
    code: str = ""  # the provider's usual one for the status when empty
    retry_after: int | None = None  # seconds
    seconds: float = 0.0
    after_bytes: int = 0
    rate: int = 1024 * 1024
    at_byte: int = 0
    keep: int = -1
    id: int = field(default=0, init=False)
    matched: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)
    armed: int = field(default=0, init=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False)
    _released: bool = field(default=False, init=False, repr=False)
    _clear_at: float = field(default=0.0, init=False, repr=False)
    _waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(
        default_factory=list, init=False, repr=False
    )

    async def pace(self, size: int) -> None:
        """Wait until `size` more bytes may have passed at `rate`."""
        now = time.monotonic()
        self._clear_at = max(self._clear_at, now) + size / self.rate
        await asyncio.sleep(self._clear_at - now)

    def fire(self) -> None:
        with self._changed:
            self.fired += 1
            self._changed.notify_all()

    def wait_fired(self, times: int = 1, timeout: float = 20.0) -> None:
        """Block until it has fired `times` times. Raises AssertionError after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.fired >= times, timeout):
                raise AssertionError(
                    f"{self.kind} fired {self.fired} times in {timeout} s, not {times}: {self}"
                )

    def release(self) -> None:
        """Let every request that this fault holds or stalls go on, and hold no other. From any thread."""
        with self._changed:
            self._released = True
            waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    async def held(self) -> None:
        """Wait for the release (server's loop)."""
        event = asyncio.Event()
        with self._changed:
            if self._released:
                return
            self._waiting.append((asyncio.get_running_loop(), event))
        await event.wait()

    def as_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("_")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Fault:
        """A fault from JSON. Raises TypeError or ValueError for a name or kind that does not exist."""
        return cls(Kind(values["kind"]), **{name: value for name, value in values.items() if name != "kind"})


class FaultBook:
    """The faults that are in force."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: dict[int, Fault] = {}
        self._next = 1

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            fault.id, self._next = self._next, self._next + 1
            self._faults[fault.id] = fault
        return fault

    def get(self, number: int) -> Fault | None:
        return self._faults.get(number)

    def all(self) -> list[Fault]:
        with self._lock:
            return list(self._faults.values())

    def remove(self, fault: Fault) -> None:
        with self._lock:
            self._faults.pop(fault.id, None)
        fault.release()

    def clear(self) -> None:
        for fault in self.all():
            self.remove(fault)

    def arm(self, protocol: str, operation: str, key: str) -> list[Fault]:
        """The faults that this request shall meet."""
        armed: list[Fault] = []
        with self._lock:
            for fault in self._faults.values():
                if not (
                    fnmatchcase(protocol, fault.protocol)
                    and fnmatchcase(operation, fault.operation)
                    and fnmatchcase(key, fault.key)
                ):
                    continue
                fault.matched += 1
                if fault.matched > fault.skip and (fault.count is None or fault.armed < fault.count):
                    fault.armed += 1
                    armed.append(fault)
        return armed

    def disarm(self, fault: Fault) -> None:
        """The request ended before the fault could show (a body too short): the next match has its turn."""
        with self._lock:
            fault.armed -= 1

    @contextmanager
    def expected(self, *faults: Fault) -> Iterator[tuple[Fault, ...]]:
        """In force inside the block; each must have fired when the block ends without an exception."""
        for fault in faults:
            self.add(fault)
        try:
            yield faults
        finally:
            for fault in faults:
                self.remove(fault)
        silent = [str(_summary(fault)) for fault in faults if not fault.fired]
        assert not silent, f"these faults never fired, so the test has shown nothing: {'; '.join(silent)}"


def _summary(fault: Fault) -> dict[str, Any]:
    """Where the fault was to fire and how many requests came by."""
    return {
        name: fault.as_dict()[name] for name in ("kind", "protocol", "operation", "key", "skip", "matched")
    }
