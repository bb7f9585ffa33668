"""The three calls of Cloud Storage's resumable protocol: open, send a chunk or ask, end.

Source: "Perform resumable uploads" of the Cloud Storage documentation. A session's address is a bearer
secret that is good for a week; it needs no other login.

The chunk that reaches the object's end completes it at once, while `Provider` keeps sending and
completing apart. So the last 1 to 256 KiB of an object are never sent by `put_part`: they wait in
memory, and `complete` sends them together with the checksum of the whole. After a restart they are
simply not among what the session holds, and come again through `put_part`.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from uploaderd.checksum import b64_crc32c
from uploaderd.errors import Corrupted, Fault, KeyTaken, SessionGone
from uploaderd.model import Checksum, HeldPart, ObjectSpec, Part, Session
from uploaderd.provider import Body
from uploaderd.providers.gcs_faults import Answer
from uploaderd.providers.gcs_wire import Halves, Wire, resource_of, write_query

CHUNK: Final = 256 * 1024
"""Bytes: each chunk but the last is a multiple of it."""

_INCOMPLETE: Final = 308
_CANCELLED: Final = 499
_RANGE: Final = re.compile(r"bytes=0-([0-9]+)")


@dataclass(frozen=True, slots=True)
class _Known:
    """What we know of a session: it holds the first `held` bytes; `tail` is all that follows them."""

    held: int
    tail: bytes | None = None


class Resumable:
    """Uploads in parts to one bucket. `remembered`: how many sessions' tails are kept in memory.

    A tail that was dropped is no loss: `complete` then says that the last bytes are to be sent again.
    """

    def __init__(
        self, wire: Wire, storage_class: str | None, kms_key_name: str | None, remembered: int
    ) -> None:
        self._wire = wire
        self._storage_class = storage_class
        self._kms_key_name = kms_key_name
        self._remembered = remembered
        self._sessions: OrderedDict[str, _Known] = OrderedDict()

    async def open(self, spec: ObjectSpec, part_size: int) -> Session:
        """Metadata, settings and login are checked here; whether the key is taken at the end too."""
        act = f"opening an upload of {spec.key!r}"
        resource = json.dumps(resource_of(spec, self._storage_class)).encode()
        answer = await self._wire.call(
            "POST",
            self._wire.upload_url(uploadType="resumable", **write_query(spec, self._kms_key_name)),
            act,
            fine=(200, 201),
            headers={
                "Content-Type": "application/json; charset=UTF-8",
                "X-Upload-Content-Type": spec.content_type,
                "X-Upload-Content-Length": str(spec.size),
            },
            data=resource,
        )
        address = answer.headers.get("Location")
        if not address:
            raise Fault(f"{act}: the reply names no session", code="NoLocation", recognised=False)
        self._remember(address, _Known(held=0))
        return Session(spec=spec, part_size=part_size, handle=address)

    async def parts(self, session: Session) -> Sequence[HeldPart]:
        held = await self._ask(session)
        return [HeldPart(number=1, offset=0, size=held, etag="")] if held else []

    async def put_part(self, session: Session, number: int, body: Body) -> Part:
        """Send a part, or of the last part what comes before the tail.

        Bytes that the session holds cannot be replaced: a part that begins elsewhere than where the
        session ends is refused, and `parts` tells where that is.
        """
        spec = session.spec
        act = f"sending part {number} of {spec.key!r}"
        known = self._sessions.pop(session.handle, None)  # back only once the outcome is known
        held = known.held if known else await self._ask(session)
        if body.offset != held:
            message = f"{act}: it begins at byte {body.offset}, but the session ends at byte {held}"
            raise Fault(message, code="OffsetMismatch")
        end = body.offset + body.size
        stop = _tail_begins(spec.size) if end == spec.size else end
        halves = Halves(body, stop - held)
        if stop > held:
            answer = await self._put(
                session, act, f"bytes {held}-{stop - 1}/{spec.size}", body=halves, length=stop - held
            )
            told = _held(answer)
            if told != stop:
                message = f"{act}: only {told - held} of {stop - held} bytes were kept"
                raise Fault(message, code="ShortWrite", http_status=answer.status)
        rest = await halves.rest()
        self._remember(session.handle, _Known(stop, rest if end == spec.size else None))
        return Part(number, body.offset, body.checksum, etag="", checked=None)

    async def complete(self, session: Session, content: Checksum) -> Answer:
        """Send the tail with the checksum of the whole: the service refuses any other content."""
        spec = session.spec
        act = f"completing {spec.key!r}"
        known = _Known(0, b"") if spec.size == 0 else self._sessions.get(session.handle)
        if known is None or known.tail is None:
            held = await self._ask(session)
            message = f"{act}: the session holds {held} of {spec.size} bytes; the rest is to be sent again"
            raise Fault(message, code="TailNotSent")
        ended = f"{known.held}-{spec.size - 1}" if spec.size else "*"
        try:
            answer = await self._wire.call(
                "PUT",
                session.handle,
                act,
                fine=(200, 201, _INCOMPLETE, 400),
                headers={
                    "Content-Length": str(len(known.tail)),
                    "Content-Range": f"bytes {ended}/{spec.size}",
                    "X-Goog-Hash": f"crc32c={b64_crc32c(content.crc32c)}",
                },
                data=known.tail,
                in_session=True,
            )
        except (KeyTaken, SessionGone):
            self._sessions.pop(session.handle, None)
            raise
        # A fault of the way leaves the tail: a session that has ended answers the same bytes with its object.
        self._sessions.pop(session.handle, None)
        if answer.status == 400:
            # Metadata was accepted when the session was opened: what is refused here is the content.
            message = f"{act}: Cloud Storage refused the content: checksum or size are not what it received"
            raise Corrupted(message, **answer.told())
        if answer.status == _INCOMPLETE:
            raise Fault(f"{act}: only {_held(answer)} of {spec.size} bytes were kept", code="ShortWrite")
        return answer

    async def abort(self, session: Session) -> bool:
        self._sessions.pop(session.handle, None)
        # 405, 501: an endpoint that cannot discard (gcp-storage-emulator). The session expires there, and
        # asking again would not help.
        await self._wire.call(
            "DELETE",
            session.handle,
            f"discarding the upload of {session.spec.key!r}",
            fine=(_CANCELLED, 200, 204, 404, 410, 405, 501),
            headers={"Content-Length": "0"},
            in_session=True,
        )
        return True

    def release(self) -> None:
        self._sessions.clear()

    async def _ask(self, session: Session) -> int:
        """Where the session ends: a multiple of `CHUNK`, before the tail.

        A session that holds all bytes of its object is completed by the very question, so an empty
        object's is not asked. Any other's does not: the tail was never sent.
        """
        if session.spec.size == 0:
            return 0
        self._sessions.pop(session.handle, None)
        act = f"asking what the upload of {session.spec.key!r} holds"
        answer = await self._put(session, act, f"bytes */{session.spec.size}")
        told = _held(answer)
        # gcp-storage-emulator says `bytes=0-0` of an empty session. Bytes beyond a multiple, or of the tail,
        # are sent again: the service passes over what it has.
        held = min(told - told % CHUNK, _tail_begins(session.spec.size))
        self._remember(session.handle, _Known(held))
        return held

    async def _put(
        self, session: Session, act: str, content_range: str, *, body: Halves | None = None, length: int = 0
    ) -> Answer:
        """A chunk or a question: 308 is the answer of a session that goes on.

        Raises:
            SessionGone: also where the object is complete, as after a lost reply: look at it.
        """
        answer = await self._wire.call(
            "PUT",
            session.handle,
            act,
            fine=(_INCOMPLETE, 200, 201),
            headers={"Content-Length": str(length), "Content-Range": content_range},
            body=body,
            data=body.first() if body else b"",
            in_session=True,
        )
        if answer.status != _INCOMPLETE:
            raise SessionGone(
                f"{act}: the upload is complete already", code="Completed", http_status=answer.status
            )
        return answer

    def _remember(self, handle: str, known: _Known) -> None:
        self._sessions[handle] = known
        self._sessions.move_to_end(handle)
        while len(self._sessions) > self._remembered:
            self._sessions.popitem(last=False)


def _tail_begins(size: int) -> int:
    """Offset of the object's last 1 to 256 KiB (0 for an empty object)."""
    return max(0, (size - 1) // CHUNK * CHUNK)


def _held(answer: Answer) -> int:
    """Bytes that a 308 says are held; without Range none are."""
    found = _RANGE.fullmatch(answer.headers.get("Range", ""))
    return int(found.group(1)) + 1 if found else 0
