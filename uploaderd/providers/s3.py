"""S3, and stores that speak its protocol, with aiobotocore.

Each call is tried once. A session's handle is the checksum algorithm and the UploadId
("CRC64NVME:..."), so that a later process goes on in the manner in which it was opened.

An endpoint that does not know conditional headers (400 or 501) is written to without them from then
on: the caller has asked `stat` before.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Final

from botocore.exceptions import ClientError

from uploaderd import addresses
from uploaderd.checksum import combine, same
from uploaderd.config import S3Provider
from uploaderd.errors import CannotLook, Corrupted, Fault, KeyTaken, SessionGone
from uploaderd.model import Checksum, FailureClass, HeldPart, ObjectInfo, ObjectSpec, Part, Session
from uploaderd.provider import Body, Limits, Rules
from uploaderd.providers import bounds, s3_guard, s3_lock, s3_rules, s3_strays
from uploaderd.providers.s3_body import Sending, checksum_of_sent, md5_of, wire_form
from uploaderd.providers.s3_checksum import (
    Algorithm,
    Manners,
    Reply,
    Step,
    Way,
    compared,
    content_md5,
    etag_of,
)
from uploaderd.providers.s3_direct import Direct
from uploaderd.providers.s3_endpoint import Endpoint
from uploaderd.providers.s3_faults import code_of, status_of, unknown_header
from uploaderd.providers.s3_login import is_amazon
from uploaderd.providers.s3_object import (
    condition,
    described,
    handle_of,
    held,
    opened_as,
    seen,
    written,
)

MAX_SIGNED: Final = 7 * 24 * 3600.0
READ_WINDOW: Final = 256 * 1024
_CONFLICT: Final = "ConditionalRequestConflict"

ABORTS: Final = 3
"""Parts that were in flight can outlive an abort: it is repeated while something is listed."""


async def connect(name: str, config: S3Provider) -> S3:
    """The provider. Nothing is asked of the endpoint: a refused login or missing bucket shows later.

    Raises:
        Fault: the configuration makes no client (class provider).
    """
    return S3(config, await Endpoint.reach(name, config))


class S3:
    """One bucket; satisfies `provider.Provider` and its `Signs`, `Strays`, `Guards`,
    `Deletes` and `Tells`.
    """

    def __init__(self, config: S3Provider, endpoint: Endpoint) -> None:
        self._config = config
        self._endpoint = endpoint
        self._client = endpoint.client
        self._direct = Direct(endpoint.client, endpoint.login, config.bucket)
        self._trying = endpoint.trying
        self._at = endpoint.at
        self._amazon = is_amazon(config.endpoint_url)
        self._manners = Manners(config.checksum, amazon=self._amazon)
        self._guards_keys = self._amazon
        self._locks = s3_lock.wanted(config)
        if self._locks:
            self._manners.checksum_with_part = True  # else refused (s3cmd#1436)

    @property
    def name(self) -> str:
        return self._endpoint.place.name

    @property
    def limits(self) -> Limits:
        parted, single = self._manners.way("open").algorithm, self._manners.way("put")
        return _limits(
            proves_whole=parted.whole and self._manners.whole_shown,
            wants_md5=Algorithm.MD5 in (parted, single.algorithm),
            guards_keys=self._guards_keys and single.conditional,
        )

    @property
    def login(self) -> str:
        return str(self._endpoint.login)

    @property
    def target(self) -> str:
        return self._endpoint.place.target

    def address(self, key: str) -> str:
        return addresses.address(self._config, key, region=self._endpoint.place.region) or ""

    async def open(self, spec: ObjectSpec, part_size: int) -> Session:
        async def create(way: Way) -> Reply:
            asked = {"ChecksumAlgorithm": str(way.algorithm), "ChecksumType": "FULL_OBJECT"}
            reply: Reply = await self._client.create_multipart_upload(
                **self._at(spec.key),
                **described(spec, self._config),
                **(asked if way.algorithm.whole else {}),
            )
            return reply

        with self._trying(f"opening {spec.key!r} in {self.target}"):
            way, reply = await self._manners.first_that_works("open", create)
        algorithm = way.algorithm
        if algorithm.whole and reply.get("ChecksumAlgorithm") != str(algorithm):
            algorithm = self._manners.without_checksum("open")
        elif algorithm is Algorithm.CRC32C and reply.get("ChecksumType") != "FULL_OBJECT":
            # A checksum of checksums would come out of it, and each part would have to carry one.
            algorithm = self._manners.without_checksum("open")
        return Session(spec=spec, part_size=part_size, handle=handle_of(algorithm, reply["UploadId"]))

    async def parts(self, session: Session) -> Sequence[HeldPart]:
        algorithm, upload = opened_as(session)
        found: list[HeldPart] = []
        marker = 0
        with self._trying(f"asking for the parts of {session.spec.key!r} in {self.target}"):
            while True:
                page = await self._client.list_parts(
                    **self._at(session.spec.key), UploadId=upload, PartNumberMarker=marker
                )
                found += [held(part, algorithm, session.part_size) for part in page.get("Parts", ())]
                following = int(page.get("NextPartNumberMarker") or 0)
                if not page.get("IsTruncated") or following <= marker:
                    return found
                marker = following

    async def put_part(self, session: Session, number: int, body: Body) -> Part:
        algorithm, upload = opened_as(session)
        lean = not (algorithm is Algorithm.CRC32C or self._manners.checksum_with_part)
        act = f"sending part {number} of {session.spec.key!r} to {self.target}"
        sending = Sending(body)
        async with self._endpoint.sending(act, sending):
            asked = await self._asked(algorithm, body) if not (algorithm.whole and lean) else {}
            try:
                reply = await self._direct.ask(
                    "UploadPart",
                    "PUT",
                    session.spec.key,
                    asked,
                    query={"partNumber": str(number), "uploadId": upload},
                    body=wire_form(sending),
                )
            except ClientError as error:
                if not (algorithm.whole and lean and sending.failure is None and unknown_header(error)):
                    raise
                # MinIO wants what was announced at opening with each part; object lock does, too.
                self._manners.checksum_with_part = True
                raise Fault(
                    f"{act}: {code_of(error)}, a checksum goes with each part now",
                    code=code_of(error),
                    http_status=status_of(error),
                ) from error
        sent = await checksum_of_sent(sending, body, act)
        if algorithm.whole and lean and algorithm.told(reply) is None and not self._amazon:
            self._manners.checksum_with_part = True
        checked = compared(algorithm, sent, reply, asked.get("ContentMD5"), act)
        return Part(number, body.offset, sent, etag_of(reply), checked)

    async def complete(self, session: Session, parts: Sequence[Part], content: Checksum) -> ObjectInfo:
        spec = session.spec
        act = f"completing {spec.key!r} in {self.target}"
        algorithm, upload = opened_as(session)
        if not same(combine(part.checksum for part in parts), content):
            raise Corrupted(f"{act}: the parts that were sent are not the content", code="PartsDiffer")
        listed = [
            {"PartNumber": part.number, "ETag": f'"{part.etag}"'}
            | ({algorithm.member: algorithm.said(part.checksum)} if algorithm.whole else {})
            for part in parts
        ]
        claim = {algorithm.member: algorithm.said(content), "ChecksumType": "FULL_OBJECT"}
        whole = claim | {"MpuObjectSize": content.size} if algorithm.whole else {}

        async def finish(way: Way) -> Reply:
            reply: Reply = await self._client.complete_multipart_upload(
                **self._at(spec.key),
                **whole,
                **condition(spec, way),
                UploadId=upload,
                MultipartUpload={"Parts": listed},
            )
            return reply

        try:
            _, reply = await self._make_visible("complete", spec, act, finish)
        except SessionGone as gone:
            if gone.code == _CONFLICT:
                await self.abort(session)  # it is of no use any more, but it is still there, and paid for
            raise
        return await self._completed(spec, algorithm, content, reply, act)

    async def put(self, spec: ObjectSpec, body: Body) -> ObjectInfo:
        act = f"sending {spec.key!r} to {self.target}"
        sending = Sending(body)
        tried: Mapping[str, str] = {}

        async def write(way: Way) -> Reply:
            nonlocal tried
            tried = await self._asked(way.algorithm, body)
            members = described(spec, self._config) | tried | condition(spec, way)
            return await self._direct.ask("PutObject", "PUT", spec.key, members, body=wire_form(sending))

        way, reply = await self._make_visible("put", spec, act, write, sending)
        sent = await checksum_of_sent(sending, body, act)
        algorithm, md5 = way.algorithm, tried.get("ContentMD5")
        if algorithm.whole and algorithm.told(reply) is None:
            algorithm = self._manners.without_checksum("put")
            if algorithm is Algorithm.MD5:
                md5 = content_md5(await md5_of(body))
        compared(algorithm, sent, reply, md5, act)
        return self._unlooked(written(spec.key, sent.size, spec.token, reply))

    @property
    def may_be_tried(self) -> bool:
        # What checks no content of its own might store another, and what is locked stays for ever.
        way = self._manners.way("put")
        return way.conditional and way.algorithm.whole and not self._locks

    async def write_over(self, spec: ObjectSpec, content: bytes) -> None:
        trial = s3_guard.on_trial(self._manners.way("put").algorithm, content)
        members = described(spec, self._config) | trial
        try:
            with self._trying(f"seeing whether {self.target} guards its keys"):
                await self._direct.ask("PutObject", "PUT", spec.key, members, body=content)
        except KeyTaken:
            self._guards_keys = True
        except Fault as refusal:
            if not s3_guard.settles(refusal):
                raise

    async def abort(self, session: Session) -> bool:
        _, upload = opened_as(session)
        at = self._at(session.spec.key) | {"UploadId": upload}
        act = f"aborting {session.spec.key!r} in {self.target}"
        try:
            for _ in range(ABORTS):
                with self._trying(act):
                    await self._client.abort_multipart_upload(**at)
                with self._trying(act):
                    try:
                        await self._client.list_parts(**at, MaxParts=1)
                    except ClientError as error:
                        if status_of(error) == 403:
                            return True  # may abort and not list: the abort's own answer has to do
                        raise
        except SessionGone:
            return True
        return False

    async def strays(self, spec: ObjectSpec, seconds: float, but: Session | None = None) -> Sequence[Session]:
        return await s3_strays.strays(self._endpoint, spec, seconds, but, begin=self.open, abort=self.abort)

    async def stat(self, key: str) -> ObjectInfo | None:
        act = f"looking at {key!r} in {self.target}"
        try:
            with self._trying(act):
                try:
                    reply = await self._direct.ask("HeadObject", "HEAD", key, {"ChecksumMode": "ENABLED"})
                except ClientError as error:
                    if status_of(error) == 404:
                        return None
                    raise
        except Fault as fault:
            if fault.http_status == 403:
                # Also the answer for a missing key to a login that may not list (s3fs#591).
                raise CannotLook(
                    fault.message,
                    code=fault.code,
                    hint=fault.hint,
                    http_status=403,
                    request_id=fault.request_id,
                ) from fault
            if fault.http_status == 400 and not fault.recognised:
                await self.probe()  # a HEAD has no body that says why: perhaps this has
            raise
        if "ContentLength" not in reply:
            raise Fault(
                f"{act}: the reply does not say how long the object is",
                code="no-length",
                hint="a proxy or gateway on the way takes Content-Length out of replies to HEAD: correct it",
            )
        info = seen(key, reply)
        return replace(info, unmet=s3_lock.unmet(self._config, reply)) if self._locks else info

    async def read(self, key: str, version_id: str | None = None) -> AsyncIterator[bytes]:
        version = {"VersionId": version_id} if version_id else {}
        with self._trying(f"reading {key!r} from {self.target}"):
            reply = await self._client.get_object(**self._at(key), **version)
            async with reply["Body"] as stream:
                async for window in stream.iter_chunks(READ_WINDOW):
                    yield window

    async def delete(self, key: str, version_id: str | None = None) -> None:
        version = {"VersionId": version_id} if version_id else {}
        with self._trying(f"deleting {key!r} from {self.target}"):
            await self._client.delete_object(**self._at(key), **version)

    async def time(self) -> datetime | None:
        with self._trying(f"asking {self.target} for the time"):
            return await s3_rules.time(self._client, self._config.bucket)

    async def rules(self) -> Rules:
        with self._trying(f"asking {self.target} for its rules"):
            return await s3_rules.rules(self._client, self._config.bucket, self._config.prefix)

    async def sign(self, key: str, expires: float) -> tuple[str, float]:
        with self._trying(f"signing {key!r} in {self.target}"):
            await self._endpoint.login.get_frozen_credentials()  # renews them first, if they are about to end
            left = self._endpoint.login.seconds_left()
            seconds = math.floor(min(expires, MAX_SIGNED, math.inf if left is None else left))
            if seconds < 1:
                raise Fault(
                    "the login ends within a second", failure=FailureClass.PROVIDER, hint="renew the login"
                )
            url = await self._client.generate_presigned_url(
                "get_object", Params=self._at(key), ExpiresIn=seconds
            )
        return url, float(seconds)

    async def probe(self) -> None:
        self._guards_keys = self._amazon  # after an outage another store may answer there
        await self._endpoint.probe()

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    async def _make_visible(
        self,
        step: Step,
        spec: ObjectSpec,
        act: str,
        send: Callable[[Way], Awaitable[Reply]],
        sending: Sending | None = None,
    ) -> tuple[Way, Reply]:
        """What its condition may refuse: S3 user guide, "Conditional write behavior"."""
        async with self._endpoint.sending(act, sending):
            try:
                return await self._manners.first_that_works(step, send)
            except ClientError as error:
                code, status = code_of(error), status_of(error)
                if code == "NoSuchKey" and spec.replaces is not None:
                    raise KeyTaken(f"{act}: the object that it may replace is gone", code=code) from error
                if code == _CONFLICT and step == "complete":
                    # "Initiate a new multipart upload and re-upload each part."
                    raise SessionGone(f"{act}: a conflicting write", code=code, http_status=status) from error
                raise

    async def _asked(self, algorithm: Algorithm, body: Body) -> dict[str, str]:
        """What makes the endpoint check the body: the range is read once for it before it is sent."""
        if algorithm is Algorithm.NONE:
            return {}
        if algorithm is Algorithm.MD5:
            digest = (await body.digest()).md5 if self.limits.wants_md5 else None
            return {"ContentMD5": content_md5(digest or await md5_of(body))}
        return algorithm.asked(await body.digest())

    def _unlooked(self, info: ObjectInfo) -> ObjectInfo:
        """What a reply to a write says: nothing of a lock."""
        return replace(info, unmet="its lock has not been read back") if self._locks else info

    async def _completed(
        self, spec: ObjectSpec, algorithm: Algorithm, content: Checksum, reply: Reply, act: str
    ) -> ObjectInfo:
        """What became of it: from the reply, or, where that says little, from a look at the object."""
        info = self._unlooked(written(spec.key, content.size, spec.token, reply))
        if not algorithm.whole:
            return info
        if algorithm.told(reply) is None and not self._amazon:
            with suppress(CannotLook):
                now = await self.stat(spec.key)
                if now is not None and (now.token, now.etag) == (spec.token, info.etag):
                    info = now
        told = info.crc64nvme if algorithm is Algorithm.CRC64NVME else info.crc32c
        if told is None:
            self._manners.without_checksum("open")
        elif told != algorithm.of(content):
            raise Corrupted(
                f"{act}: the object is not the content ({algorithm} differs)", code="ChecksumDiffers"
            )
        else:
            self._manners.whole_shown = True
        return info


@cache
def _limits(*, proves_whole: bool, wants_md5: bool, guards_keys: bool) -> Limits:
    return replace(bounds.S3, proves_whole=proves_whole, wants_md5=wants_md5, guards_keys=guards_keys)
