"""Which checksum an S3 endpoint checks, and how it is said on the wire.

Amazon's S3 knows CRC-64/NVME over the whole object and checks it on completion. Compatible stores
know it, know only CRC-32C, refuse both (400, 501), or take the headers and do nothing. So the first
write tries the best and steps down; what was accepted stands for the life of the client. An endpoint
that is silent about the checksum it was given does not know it, and counts as one that refused.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, get_args

from botocore.exceptions import ClientError

from uploaderd.checksum import b64_crc32c, b64_crc64nvme, parse_b64
from uploaderd.errors import Corrupted
from uploaderd.model import Checksum
from uploaderd.providers.s3_faults import unknown_header

Reply = Mapping[str, Any]
Step = Literal["put", "open", "complete"]


class Algorithm(StrEnum):
    """What proves the content. MD5: `Content-MD5` with each request, and the ETag in its reply."""

    CRC64NVME = "CRC64NVME"
    CRC32C = "CRC32C"
    MD5 = "MD5"
    NONE = "NONE"

    @property
    def whole(self) -> bool:
        """Whether its value over the whole object is checked, parts or not."""
        return self in (Algorithm.CRC64NVME, Algorithm.CRC32C)

    @property
    def member(self) -> str:
        """The name of its value in requests and replies."""
        return f"Checksum{self}"

    def said(self, checksum: Checksum) -> str:
        """The value as S3 writes it."""
        if self is Algorithm.CRC64NVME:
            return b64_crc64nvme(checksum.crc64nvme)
        return b64_crc32c(checksum.crc32c)

    def of(self, checksum: Checksum) -> int:
        """The value alone."""
        return checksum.crc64nvme if self is Algorithm.CRC64NVME else checksum.crc32c

    def asked(self, checksum: Checksum) -> dict[str, str]:
        """What makes the endpoint check a request's body."""
        # With the value there, botocore does not calculate its own (botocore/httpchecksum.py,
        # has_checksum_header); the algorithm's name is what moto goes by.
        return {self.member: self.said(checksum), "ChecksumAlgorithm": str(self)}

    def told(self, reply: Reply) -> int | None:
        """The value in a reply, if it is one of bytes.

        A checksum of checksums ("COMPOSITE", or a value that ends in the number of parts) is not:
        SeaweedFS gave CRC-64/NVME in that form (its issue 10235).
        """
        text = reply.get(self.member)
        if not text or reply.get("ChecksumType") == "COMPOSITE":
            return None
        try:
            return parse_b64(text)
        except ValueError:  # "-4" at its end is no base64
            return None


def md5_etag(reply: Reply) -> bytes | None:
    """The MD5 that an ETag is, or None.

    It is the content's only for an object of one request that no KMS or client key encrypts (S3 API
    reference, "Object": ETag).
    """
    if str(reply.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in reply:
        return None
    text = etag_of(reply)
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        return None
    return digest if len(digest) == 16 else None


def etag_of(reply: Reply) -> str:
    """The ETag without its quotes, which some stores leave out of some replies."""
    return str(reply.get("ETag", "")).strip('"')


def content_md5(digest: bytes) -> str:
    """As the header Content-MD5 has it."""
    return base64.b64encode(digest).decode()


def compared(algorithm: Algorithm, sent: Checksum, reply: Reply, md5: str | None, act: str) -> str | None:
    """Which checksum in a reply is that of the bytes sent; None where it has none.

    Args:
        algorithm: what was asked for.
        sent: of the bytes as they were read from the file.
        reply: to UploadPart or PutObject.
        md5: the Content-MD5 that went with them, if any.
        act: what was done, for the message.

    Raises:
        Corrupted: it has another.
    """
    if algorithm.whole:
        told = algorithm.told(reply)
        if told is None:
            return None
        if told != algorithm.of(sent):
            raise Corrupted(f"{act}: arrived damaged ({algorithm} differs)", code="ChecksumDiffers")
        return algorithm.lower()
    stored = md5_etag(reply)
    if algorithm is not Algorithm.MD5 or stored is None or md5 is None:
        return None
    if content_md5(stored) != md5:
        raise Corrupted(
            f"{act}: arrived damaged (its ETag is not its MD5)",
            code="EtagDiffers",
            hint='if this store\'s ETags are no MD5s, set checksum = "none"',
        )
    return "md5"


@dataclass(frozen=True, slots=True)
class Way:
    """One manner of writing: the checksum, and whether conditional headers go with it."""

    algorithm: Algorithm
    conditional: bool = True


_AUTO: Final = (Algorithm.CRC64NVME, Algorithm.CRC32C, Algorithm.MD5)
_CONFIGURED: Final[Mapping[str, tuple[Algorithm, ...]]] = {
    "auto": _AUTO,
    "crc64nvme": (Algorithm.CRC64NVME,),
    "crc32c": (Algorithm.CRC32C,),
    "md5": (Algorithm.MD5,),
    "none": (Algorithm.NONE,),
}


def _ways(algorithms: Sequence[Algorithm], *, amazon: bool) -> Sequence[Way]:
    """Those to try, the best first."""
    conditional = (True,) if amazon else (True, False)
    return [Way(algorithm, either) for either in conditional for algorithm in algorithms]


class Manners:
    """What is known of the endpoint's manners. Amazon's are known; others' are found out, once.

    Attributes:
        checksum_with_part: each part must carry its checksum, because the endpoint said so (MinIO;
            object lock) or does not tell its own.
        whole_shown: a completed object was shown with the checksum of its whole content.
    """

    def __init__(self, configured: str, *, amazon: bool) -> None:
        algorithms = _CONFIGURED[configured]
        self._free = configured == "auto" and not amazon
        self._untried = {
            step: _ways(algorithms if self._free and step != "complete" else algorithms[:1], amazon=amazon)
            for step in get_args(Step)
        }
        self._settled: dict[Step, Way] = {}
        self.checksum_with_part = False
        self.whole_shown = amazon

    def way(self, step: Step) -> Way:
        """The manner that will be tried first, or that stands."""
        return self._settled.get(step) or self._untried[step][0]

    async def first_that_works(
        self, step: Step, send: Callable[[Way], Awaitable[Reply]]
    ) -> tuple[Way, Reply]:
        """Send in each manner until the endpoint takes one; that one stands.

        Raises:
            ClientError: the first refusal, if all are refused or it is not about a header.
        """
        refusal: ClientError | None = None
        settled = self._settled.get(step)
        for way in self._untried[step] if settled is None else (settled,):
            try:
                reply = await send(way)
            except ClientError as error:
                if not unknown_header(error):
                    raise
                refusal = refusal or error
            else:
                self._settled[step] = way
                return way, reply
        assert refusal is not None
        raise refusal

    def without_checksum(self, step: Step) -> Algorithm:
        """The endpoint was silent about a checksum: do without from now on. What is used instead."""
        way = self._settled[step]
        if self._free and way.algorithm.whole:
            self._settled[step] = Way(Algorithm.MD5, way.conditional)
        return self._settled[step].algorithm
