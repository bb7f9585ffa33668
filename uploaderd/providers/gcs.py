"""Google Cloud Storage, over its JSON API.

Small objects go in one `uploadType=multipart` request, larger ones through the resumable protocol
(`gcs_resumable`): gcloud-aio-storage's own `upload` cannot resume. The service computes CRC-32C over
every object and refuses content that does not match ours.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from gcloud.aio.storage import Blob

from uploaderd import addresses
from uploaderd.checksum import b64_crc32c
from uploaderd.config import GcsProvider
from uploaderd.errors import CannotLook, Corrupted, Fault, KeyRefused
from uploaderd.model import Checksum, FailureClass, HeldPart, ObjectInfo, ObjectSpec, Part, Session, Token
from uploaderd.provider import Body, Limits, Rules
from uploaderd.providers import bounds
from uploaderd.providers.gcs_faults import Answer, Place
from uploaderd.providers.gcs_login import Login
from uploaderd.providers.gcs_resumable import CHUNK, Resumable
from uploaderd.providers.gcs_signing import LONGEST, LONGEST_BY_IAM, unsigned
from uploaderd.providers.gcs_wire import GOOGLE, Halves, Wire, info_of, resource_of, write_query

_PROBE: Final = ".uploaderd-probe"


async def connect(name: str, config: GcsProvider) -> Gcs:
    """The provider; nothing is asked of the network yet, and what is wrong shows at the first call."""
    place = Place(name, config.bucket, config.target, encrypts=config.kms_key_name is not None)
    login = Login(place, config)
    with suppress(Fault):
        await login.prepare()
    return Gcs(place, config, login)


class Gcs:
    """One bucket. Satisfies `provider.Provider`, `Signs`, `Deletes` and `Tells`."""

    def __init__(self, place: Place, config: GcsProvider, login: Login) -> None:
        self._place = place
        self._config = config
        self._login = login
        self._wire = Wire(place, config, login)
        # "Request preconditions": generation 0. An emulator may know none.
        self._limits = replace(bounds.GCS, guards_keys=self._wire.root == GOOGLE)
        self._resumable = Resumable(
            self._wire, config.storage_class, config.kms_key_name, remembered=2 * config.max_uploads + 8
        )

    @property
    def name(self) -> str:
        return self._place.name

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def login(self) -> str:
        return self._login.text

    @property
    def target(self) -> str:
        return self._place.target

    def address(self, key: str) -> str:
        return addresses.address(self._config, key) or ""

    async def open(self, spec: ObjectSpec, part_size: int) -> Session:
        _check_key(spec.key)
        return await self._resumable.open(spec, part_size)

    async def parts(self, session: Session) -> Sequence[HeldPart]:
        return await self._resumable.parts(session)

    async def put_part(self, session: Session, number: int, body: Body) -> Part:
        return await self._resumable.put_part(session, number, body)

    async def complete(
        self,
        session: Session,
        parts: Sequence[Part],  # noqa: ARG002 - the session knows them
        content: Checksum,
    ) -> ObjectInfo:
        """End the upload; the service compares `content`.

        After a restart the end of the object has to go through `put_part` again first, as `parts` tells:
        see `gcs_resumable`.
        """
        answer = await self._resumable.complete(session, content)
        return _agreed(info_of(answer, session.spec.key), content, answer)

    async def put(self, spec: ObjectSpec, body: Body) -> ObjectInfo:
        _check_key(spec.key)
        act = f"writing {spec.key!r}"
        # The checksum goes before the content: a body that is not kept (`reader.HELD`) is read twice.
        crc32c = b64_crc32c((await body.digest()).crc32c)
        resource = {**resource_of(spec, self._config.storage_class), "crc32c": crc32c}
        boundary = secrets.token_hex(16)
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(resource)}\r\n"
            f"--{boundary}\r\nContent-Type: {spec.content_type}\r\n\r\n"
        ).encode()
        end = f"\r\n--{boundary}--\r\n".encode()
        halves = Halves(body, body.size)

        async def related() -> AsyncIterator[bytes | bytearray]:
            yield head
            async for window in halves.first():
                yield window
            yield end

        answer = await self._wire.call(
            "POST",
            self._wire.upload_url(uploadType="multipart", **write_query(spec, self._config.kms_key_name)),
            act,
            fine=(200, 201, 400),
            headers={
                "Content-Type": f"multipart/related; boundary={boundary}",
                "Content-Length": str(len(head) + body.size + len(end)),
            },
            body=halves,
            data=related(),
        )
        await halves.rest()
        if answer.status == 400:
            # Either the content or the settings: the same metadata without content tells which.
            await self._try_open(spec)
            message = f"{act}: Cloud Storage refused the content: it is not what its checksum says"
            raise Corrupted(message, **answer.told())
        return _agreed(info_of(answer, spec.key), body.checksum, answer)

    async def abort(self, session: Session) -> bool:
        return await self._resumable.abort(session)

    async def stat(self, key: str) -> ObjectInfo | None:
        """The object's metadata; None also where the bucket is missing, which a write tells apart.

        Who may not list gets 403 for a missing key, so 403 says nothing about the key.
        """
        act = f"looking at {key!r}"
        answer = await self._wire.call("GET", self._wire.object_url(key), act, fine=(200, 403, 404))
        if answer.status == 404:
            return None
        if answer.status == 403:
            fault = self._wire.fault(answer, act)
            if fault.failure is FailureClass.TRANSIENT:
                raise fault
            hint = "grant roles/storage.objectViewer, so that copies can be looked at"
            raise CannotLook(fault.message, hint=hint, **answer.told())
        return info_of(answer, key)

    async def read(self, key: str, version_id: str | None = None) -> AsyncIterator[bytes]:
        query = {"alt": "media"} | ({"generation": version_id} if version_id else {})
        url = self._wire.object_url(key, **query)
        async with self._wire.stream(url, f"reading {key!r}") as windows:
            async for window in windows:
                yield window

    async def delete(self, key: str, version_id: str | None = None) -> None:
        url = self._wire.object_url(key, **({"generation": version_id} if version_id else {}))
        await self._wire.call("DELETE", url, f"deleting {key!r}", fine=(200, 204, 404))

    async def time(self) -> datetime | None:
        """Asked without the login, which a clock that is off keeps from working."""
        act, url = "asking for the time", self._wire.bucket_url(fields="name")
        reply = await self._wire.call("GET", url, act, fine=range(200, 600), in_session=True)
        date = reply.headers.get("Date")
        return parsedate_to_datetime(date) if date else None

    async def rules(self) -> Rules:
        """Needs storage.buckets.get. Sessions that are never completed end within a week."""
        url = self._wire.bucket_url(fields="retentionPolicy,defaultEventBasedHold")
        answer = await self._wire.call("GET", url, "asking for the bucket's rules", fine=(200, 403, 404))
        if answer.status != 200:
            return Rules(unfinished_end=True)
        kept = []
        if policy := answer.json.get("retentionPolicy"):
            kept.append(f"a retention policy of {int(policy.get('retentionPeriod', 0)) // 86_400} days")
        if answer.json.get("defaultEventBasedHold"):
            kept.append("an event-based hold on each new object")
        return Rules(unfinished_end=True, kept=" and ".join(kept))

    async def sign(self, key: str, expires: float) -> tuple[str, float]:
        identity = await self._login.identity()
        longest = LONGEST if identity.private_key else LONGEST_BY_IAM
        seconds = max(1, min(int(expires), longest))
        now = datetime.now(UTC)
        url = unsigned(self._wire.root, self._place.bucket, key, identity.email, seconds, now)
        if identity.private_key is None:
            signature = await self._login.sign_blob(identity.email, url.text)
        else:
            signature = await asyncio.to_thread(
                Blob.get_pem_signature, url.text.decode(), identity.private_key
            )
        return url.signed(signature), float(seconds)

    async def probe(self) -> None:
        """Open an upload and discard it: login, bucket, permission, key and class are those of an upload.

        Asking for the bucket would need a permission that uploads do not.
        """
        key = f"{self._config.prefix}/{_PROBE}".lstrip("/")
        await self._try_open(ObjectSpec(key, 0, Token(secrets.token_hex(16)), "application/octet-stream"))

    async def aclose(self) -> None:
        self._resumable.release()
        await self._wire.aclose()
        await self._login.aclose()

    async def _try_open(self, spec: ObjectSpec) -> None:
        session = await self._resumable.open(spec, CHUNK)
        with suppress(Fault):
            await self._resumable.abort(session)  # an empty session costs nothing, and is gone in a week


def _check_key(key: str) -> None:
    """What "Object name requirements" of the documentation forbid.

    Raises:
        KeyRefused: so that one recording is held, and not the provider paused for a 400.
    """
    if key in (".", "..") or key.startswith(".well-known/acme-challenge/") or set(key) & {"\r", "\n"}:
        raise KeyRefused(
            f"Cloud Storage takes no object of the name {key!r}",
            code="key-refused",
            hint="change the source's `key` template or the file's name",
        )


def _agreed(info: ObjectInfo, content: Checksum, answer: Answer) -> ObjectInfo:
    """The object that was written, if it is what was sent."""
    if info.size != content.size or info.crc32c not in (None, content.crc32c):
        raise Corrupted(
            f"{info.key!r} has other content at the provider: {info.size} bytes, {content.size} were sent",
            **answer.told(),
        )
    return info
