"""A provider in memory that outlives its clients, and fails on command. For runs of thousands of steps.

It is as strict as the strict endpoint where it matters here: conditions, checksums, whole parts, sessions.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from tests.kill.death import Life
from uploaderd import checksum
from uploaderd.errors import Corrupted, Fault, KeyTaken, SessionGone
from uploaderd.model import (
    Checksum,
    FailureClass,
    HeldPart,
    ObjectInfo,
    ObjectSpec,
    Part,
    Session,
    Token,
)
from uploaderd.provider import Body, Limits

T = TypeVar("T")

Call = Literal["open", "strays", "parts", "put_part", "complete", "put", "abort", "stat", "probe"]
Failing = Literal["lost request", "lost reply", "session gone", "damaged", "refused"]

PART_SIZE: Final = 4
LIMITS: Final = Limits(
    max_single=PART_SIZE, min_part=1, max_part=1 << 20, max_parts=100, max_object=1 << 20, proves_whole=True
)


@dataclass
class Stored:
    """An object. Strangers' have no token."""

    content: bytes
    token: Token | None
    etag: str


@dataclass
class Opened:
    spec: ObjectSpec
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Cloud:
    """What the provider has, and how it fails next: by call, one failure after another."""

    objects: dict[str, Stored] = field(default_factory=dict)
    sessions: dict[str, Opened] = field(default_factory=dict)
    failing: dict[Call, list[Failing]] = field(default_factory=dict)
    down: bool = False
    completions: Counter[Token] = field(default_factory=Counter)
    """How often an object with that token became visible."""

    def put_stranger(self, key: str, content: bytes) -> bool:
        """A stranger's object, if the key is free."""
        if key in self.objects:
            return False
        self.objects[key] = Stored(content, None, secrets.token_hex(8))
        return True

    def heal(self) -> None:
        self.failing.clear()
        self.down = False


class Client:
    """Satisfies `provider.Provider` and `Strays`; one process's connection to the cloud."""

    name = "cloud"
    login = "none"
    target = "memory"
    limits = LIMITS

    def __init__(self, cloud: Cloud, life: Life) -> None:
        self._cloud = cloud
        self._life = life

    def address(self, key: str) -> str:
        return f"memory:{key}"

    async def open(self, spec: ObjectSpec, part_size: int) -> Session:
        def opened() -> Session:
            handle = secrets.token_hex(8)
            self._cloud.sessions[handle] = Opened(spec)
            return Session(spec, part_size, handle)

        return await self._call("open", opened)

    async def strays(self, spec: ObjectSpec, seconds: float, but: Session | None = None) -> Sequence[Session]:
        def found() -> Sequence[Session]:
            return [
                Session(opened.spec, 0, handle)
                for handle, opened in self._cloud.sessions.items()
                if opened.spec.key == spec.key and (but is None or handle != but.handle)
            ]

        return await self._call("strays", found)

    async def parts(self, session: Session) -> Sequence[HeldPart]:
        def held() -> Sequence[HeldPart]:
            return [
                HeldPart(
                    number,
                    (number - 1) * session.part_size,
                    len(data),
                    "",
                    crc64nvme=checksum.of(data).crc64nvme,
                )
                for number, data in sorted(self._session(session).parts.items())
            ]

        return await self._call("parts", held, session)

    async def put_part(self, session: Session, number: int, body: Body) -> Part:
        content = await _read(body)

        def put() -> Part:
            self._session(session).parts[number] = content
            return Part(number, body.offset, body.checksum, "", "crc64nvme")

        return await self._call("put_part", put, session)

    async def complete(self, session: Session, parts: Sequence[Part], content: Checksum) -> ObjectInfo:
        def completed() -> ObjectInfo:
            opened = self._session(session)
            whole = b"".join(opened.parts.get(part.number, b"") for part in parts)
            if checksum.of(whole).crc64nvme != content.crc64nvme:
                raise Corrupted("completing: the parts are not that content", code="BadDigest")
            info = self._make_visible(opened.spec, whole)
            del self._cloud.sessions[session.handle]
            return info

        return await self._call("complete", completed, session)

    async def put(self, spec: ObjectSpec, body: Body) -> ObjectInfo:
        content = await _read(body)
        return await self._call("put", lambda: self._make_visible(spec, content))

    async def abort(self, session: Session) -> bool:
        def aborted() -> bool:
            self._cloud.sessions.pop(session.handle, None)
            return True

        return await self._call("abort", aborted)

    async def stat(self, key: str) -> ObjectInfo | None:
        def seen() -> ObjectInfo | None:
            stored = self._cloud.objects.get(key)
            return _info(key, stored) if stored is not None else None

        return await self._call("stat", seen)

    async def read(self, key: str, version_id: str | None = None) -> AsyncIterator[bytes]:
        yield self._cloud.objects[key].content

    async def probe(self) -> None:
        await self._call("probe", lambda: None)

    async def aclose(self) -> None:
        pass

    async def _call(self, name: Call, act: Callable[[], T], session: Session | None = None) -> T:
        async def answered() -> T:
            cloud = self._cloud
            waiting = cloud.failing.get(name)
            failure = "lost request" if cloud.down else waiting.pop(0) if waiting else None
            match failure:
                case "lost request":
                    raise Fault(f"{name}: no answer", code="reset")
                case "refused":
                    raise Fault(f"{name}: refused", failure=FailureClass.PROVIDER, code="AccessDenied")
                case "damaged":
                    raise Corrupted(f"{name}: damaged on the way", code="BadDigest")
                case "session gone" if session is not None:
                    cloud.sessions.pop(session.handle, None)
            result = act()
            if failure == "lost reply":
                raise Fault(f"{name}: the answer was lost", code="reset")
            return result

        return await self._life.around(answered)

    def _session(self, session: Session) -> Opened:
        try:
            return self._cloud.sessions[session.handle]
        except KeyError:
            raise SessionGone("no such session", code="NoSuchUpload") from None

    def _make_visible(self, spec: ObjectSpec, content: bytes) -> ObjectInfo:
        there = self._cloud.objects.get(spec.key)
        if (there.etag if there is not None else None) != spec.replaces:
            raise KeyTaken(f"{spec.key!r} is taken", code="PreconditionFailed")
        stored = self._cloud.objects[spec.key] = Stored(content, spec.token, secrets.token_hex(8))
        self._cloud.completions[spec.token] += 1
        return _info(spec.key, stored)


def _info(key: str, stored: Stored) -> ObjectInfo:
    crc64nvme = checksum.of(stored.content).crc64nvme
    return ObjectInfo(key, len(stored.content), etag=stored.etag, token=stored.token, crc64nvme=crc64nvme)


async def _read(body: Body) -> bytes:
    return b"".join([bytes(window) async for window in body])
