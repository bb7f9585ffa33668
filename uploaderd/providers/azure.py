"""Azure Blob Storage.

A session is nothing at the provider: blocks are staged under ids made from token and part number, and
the token goes with the commit that makes the blob visible. What is staged and never committed cannot
be aborted; Azure drops it after a week (Put Block, "Remarks").

What proves a copy: each block's CRC-64 in the reply to Put Block, which the service computes over what
it received (Azure's CRC-64 is CRC-64/NVME), and after the commit the list of blocks and sizes that the
blob is made of. Small files go in one Put Blob whose CRC-64 the service checks before it stores
anything. An endpoint that tells no CRC-64 (Azurite) is given an MD5 to check instead. The Content-MD5
property of a blob proves nothing: any writer may set it (azcopy#715).
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote

from azure.core.exceptions import AzureError
from azure.storage.blob import BlobBlock, BlobSasPermissions, BlockState, generate_blob_sas
from azure.storage.blob.aio import BlobClient, ContainerClient

from uploaderd.config import AzureProvider
from uploaderd.errors import Corrupted, Fault
from uploaderd.model import TOKEN_METADATA, Checksum, HeldPart, ObjectInfo, ObjectSpec, Part, Session, Token
from uploaderd.provider import Body, Limits, Rules
from uploaderd.providers import azure_wire as wire
from uploaderd.providers import bounds
from uploaderd.providers.azure_faults import (
    BLOB_NOT_FOUND,
    RAISED,
    Where,
    as_cannot_look,
    cannot_look,
    fault_of,
)
from uploaderd.providers.azure_login import Login, log_in

_MIB: Final = 2**20
_PROBE_TOKEN: Final = Token("0" * 32)
_LONGEST_DELEGATION: Final = timedelta(days=7)
"""Get User Delegation Key: its key lasts no longer."""
_SKEW: Final = timedelta(minutes=5)


async def connect(name: str, config: AzureProvider) -> Azure:
    """A provider for one container. Sends nothing.

    Raises:
        ConfigError: the settings make no client.
    """
    login = await log_in(name, config)
    signs = login.account_key is not None or login.token is not None
    return (SigningAzure if signs else Azure)(name, config, login)


class Azure:
    """One container; satisfies `provider.Provider`, `provider.Deletes` and `provider.Tells`."""

    def __init__(self, name: str, config: AzureProvider, login: Login) -> None:
        self._name = name
        self._config = config
        self._login = login
        self._where = Where(
            name, login.account, config.container, login.text, login.sas_expiry, bool(config.tags)
        )
        self._microsoft = ".blob.core." in login.service.primary_hostname
        # Microsoft's own endpoints are known to tell it, others are asked by the first block.
        self._tells_crc64: bool | None = True if self._microsoft else None

    @property
    def name(self) -> str:
        return self._name

    @property
    def limits(self) -> Limits:
        # "Specifying conditional headers for Blob service operations".
        return replace(bounds.AZURE, wants_md5=not self._tells_crc64, guards_keys=self._microsoft)

    @property
    def login(self) -> str:
        return self._login.text

    @property
    def target(self) -> str:
        return self._config.target

    def address(self, key: str) -> str:
        service = self._login.service
        container = quote(self._config.container, safe="$")
        return f"{service.scheme}://{service.primary_hostname}/{container}/{quote(key, safe='~/')}"

    async def open(self, spec: ObjectSpec, part_size: int) -> Session:
        """Nothing is sent: Azure knows no session. The handle is what the block ids begin with."""
        return Session(spec=spec, part_size=part_size, handle=spec.token)

    async def parts(self, session: Session) -> Sequence[HeldPart]:
        """The blocks staged under the session's token, whose content Azure tells nothing about.

        Nothing where the login may not read: all is sent again then, under the same ids.
        """
        try:
            held = await self._blocks(session.spec.key, "uncommitted", "listing the blocks of")
        except Fault as fault:
            if cannot_look(fault):
                return ()
            raise
        token = Token(session.handle)
        numbered = ((wire.part_number(token, block.id), block) for block in held)
        return [
            HeldPart(number, (number - 1) * session.part_size, block.size, block.id)
            for number, block in sorted(numbered, key=lambda item: item[0] or 0)
            if number is not None
        ]

    async def put_part(self, session: Session, number: int, body: Body) -> Part:
        """Stage one block.

        Its reply tells the CRC-64 of what arrived. Where it does not, the endpoint is found to be one
        that does not tell, and the block is sent again with an MD5 that the endpoint must check.
        """
        key, identifier = session.spec.key, wire.block_id(Token(session.handle), number)
        doing = f"part {number} of {key!r}"
        if self._tells_crc64 is not False:
            told = wire.told_crc64(await self._stage(key, identifier, body, doing))
            self._tells_crc64 = told is not None
            if told is not None:
                if told != body.checksum.crc64nvme:
                    raise Corrupted(f"{doing} arrived damaged: its CRC-64 differs", code="Crc64Mismatch")
                return Part(number, body.offset, body.checksum, identifier, checked="crc64nvme")
        md5 = await wire.md5_of(body)
        reply = await self._stage(key, identifier, body, doing, md5=md5)
        # Azurite checks the MD5 without telling it again: that it accepted the block is what proves it.
        if wire.told_md5(reply) not in (None, md5):
            raise Corrupted(f"{doing} arrived damaged: its MD5 differs", code="Md5Mismatch")
        return Part(number, body.offset, body.checksum, identifier, checked="md5")

    async def complete(self, session: Session, parts: Sequence[Part], content: Checksum) -> ObjectInfo:
        """Commit the blocks, then compare the list that the blob is now made of with what was sent.

        Azure computes nothing over the whole of it: the caller judges by `Part.checked`. The list is
        not compared where the login may not read.

        Raises:
            KeyTaken, SessionGone: as the Protocol says; blocks that expired are a session gone.
            Corrupted: the committed blob has other blocks than were sent. It is visible then.
        """
        spec = session.spec
        with self._classified(f"completing {spec.key!r}"):
            reply: Any = await self._blob(spec.key).commit_block_list(
                # Staged ones only: "latest" would also take blocks of a blob that is replaced.
                [BlobBlock(part.etag, BlockState.UNCOMMITTED) for part in parts],
                headers=self._headers(spec),
                cls=wire.reply_headers,
            )
        await self._compare(spec.key, parts)
        return self._written(spec, content.size, reply)

    async def put(self, spec: ObjectSpec, body: Body) -> ObjectInfo:
        """Put Blob, with the checksum that the service must find before it stores anything."""
        doing = f"storing {spec.key!r}"
        headers = self._headers(spec)
        crc64, md5 = (await body.digest()).crc64nvme, None
        if self._tells_crc64:
            headers["x-ms-content-crc64"] = wire.crc64_text(crc64)
        else:
            md5 = await wire.md5_of(body)
            headers["Content-MD5"] = base64.b64encode(md5).decode()
        sending = wire.Sending(body)
        with self._classified(doing, sending):
            # The public upload_blob() reads the whole content into memory first.
            operations = self._blob(spec.key)._client.block_blob  # noqa: SLF001
            reply: Mapping[str, str] = await operations.upload(
                content_length=len(body),
                body=sending if len(body) else b"",
                headers=headers,
                cls=wire.reply_headers,
            )
        sending.must_be_whole(doing)
        # The reply's are computed over what arrived (Put Blob, "Response headers").
        told_crc64, told_md5 = wire.told_crc64(reply), wire.told_md5(reply) if md5 else None
        if told_crc64 not in (None, crc64) or told_md5 not in (None, md5):
            raise Corrupted(f"{doing}: it arrived damaged, and was stored", code="Crc64Mismatch")
        if told_crc64 is not None:
            self._tells_crc64 = True
        return replace(self._written(spec, len(body), reply), crc64nvme=told_crc64, md5=told_md5)

    async def abort(self, session: Session) -> bool:  # noqa: ARG002
        """Nothing to do: staged blocks cannot be discarded without writing a blob; they expire."""
        return True

    async def stat(self, key: str) -> ObjectInfo | None:
        """Size, ETag and token; never a checksum: Azure keeps only what a client claimed."""
        try:
            with self._classified(f"looking at {key!r}"):
                found = await self._blob(key).get_blob_properties()
        except Fault as fault:
            if fault.code == BLOB_NOT_FOUND:
                return None
            if cannot_look(fault):
                raise as_cannot_look(fault) from fault
            raise
        token = found.metadata.get(TOKEN_METADATA)
        return ObjectInfo(
            key=key,
            size=found.size,
            etag=found.etag,
            version_id=found.version_id,
            token=Token(token) if token else None,
            archived=found.blob_tier == "Archive",
        )

    async def read(self, key: str, version_id: str | None = None) -> AsyncIterator[bytes]:
        """In ranges of `azure_login.READ_CHUNK`, all of them of the same ETag."""
        with self._classified(f"reading {key!r}"):
            stream = await self._blob(key).download_blob(version_id=version_id)
            async for window in stream.chunks():
                yield window

    async def delete(self, key: str, version_id: str | None = None) -> None:  # noqa: ARG002
        """The current blob; a version needs a right of its own, and follows the account's own rules."""
        try:
            with self._classified(f"deleting {key!r}"):
                await self._blob(key).delete_blob()
        except Fault as fault:
            if fault.code != BLOB_NOT_FOUND:
                raise

    async def time(self) -> datetime | None:
        dates: list[str | None] = []

        def heard(reply: Any) -> None:
            dates.append(reply.http_response.headers.get("Date"))

        try:
            with self._classified("asking for the time"):
                await self._container().get_container_properties(raw_response_hook=heard)
        except Fault:
            if not dates:
                raise
        return parsedate_to_datetime(dates[-1]) if dates and dates[-1] else None

    async def rules(self) -> Rules:
        """Immutability, as the container tells it. Blocks that are never committed end within a week."""
        try:
            with self._classified("asking for the container's rules"):
                found = await self._container().get_container_properties()
        except Fault as fault:
            if cannot_look(fault):
                return Rules(unfinished_end=True)
            raise
        kept = []
        if found.has_immutability_policy:
            kept.append("an immutability policy")
        if found.has_legal_hold:
            kept.append("a legal hold")
        return Rules(unfinished_end=True, kept=" and ".join(kept))

    async def probe(self) -> None:
        """Stage one byte under a key of its own.

        Only a write shows that writes work: a login may write without reading, and read without
        writing. The block is never committed, always the same one, and expires.
        """
        prefix = f"{self._config.prefix}/" if self._config.prefix else ""
        with self._classified(f"a trial write to {self.target}"):
            identifier = wire.block_id(_PROBE_TOKEN, 1)
            await self._blob(f"{prefix}.uploaderd-probe").stage_block(identifier, b"\n", length=1)

    async def aclose(self) -> None:
        await self._login.close()

    def __repr__(self) -> str:
        return f"<Azure {self._name}: {self.target}>"

    def _container(self) -> ContainerClient:
        return self._login.service.get_container_client(self._config.container)

    def _blob(self, key: str) -> BlobClient:
        return self._login.service.get_blob_client(self._config.container, key)

    def _headers(self, spec: ObjectSpec) -> dict[str, str]:
        return wire.write_headers(spec, self._config.tier, self._config.tags)

    async def _stage(
        self, key: str, identifier: str, body: Body, doing: str, md5: bytes | None = None
    ) -> Mapping[str, str]:
        """Send one block; the reply's headers."""
        sending: Any = wire.Sending(body)  # Any: the library's types know no asynchronous iterator here
        with self._classified(f"sending {doing}", sending):
            reply: Any = await self._blob(key).stage_block(
                identifier,
                sending,
                length=len(body),
                transactional_content_md5=bytearray(md5) if md5 else None,
                cls=wire.reply_headers,
            )
        sending.must_be_whole(f"sending {doing}")
        headers: Mapping[str, str] = reply
        return headers

    async def _blocks(self, key: str, kind: str, doing: str) -> list[BlobBlock]:
        """The blob's "committed" or "uncommitted" blocks; none where there is no blob at all."""
        try:
            with self._classified(f"{doing} {key!r}"):
                committed, uncommitted = await self._blob(key).get_block_list(kind)
        except Fault as fault:
            if fault.code == BLOB_NOT_FOUND:
                return []
            raise
        return committed if kind == "committed" else uncommitted

    async def _compare(self, key: str, parts: Sequence[Part]) -> None:
        """Raises Corrupted where the blob's blocks are not those that were sent, in order and size."""
        try:
            committed = await self._blocks(key, "committed", "checking the blocks of")
        except Fault as fault:
            if cannot_look(fault):
                return
            raise
        if [(block.id, block.size) for block in committed] != [(part.etag, part.size) for part in parts]:
            raise Corrupted(
                f"{key!r} was committed, but is not made of the blocks that were sent",
                code="BlockListDiffers",
            )

    @staticmethod
    def _written(spec: ObjectSpec, size: int, reply: Mapping[str, str]) -> ObjectInfo:
        return ObjectInfo(
            key=spec.key,
            size=size,
            etag=reply.get("ETag"),
            version_id=reply.get("x-ms-version-id"),
            token=spec.token,
        )

    @contextmanager
    def _classified(self, doing: str, sending: wire.Sending | None = None) -> Iterator[None]:
        """Turn what the library raises into a Fault; what the body raised stays what it is."""
        try:
            yield
        except (AzureError, *RAISED) as error:
            if sending is not None and sending.error is not None:
                raise sending.error from None
            raise fault_of(error, doing, self._where) from error


class SigningAzure(Azure):
    """With a login that URLs can be signed with: `provider.Signs`.

    A SAS is not one: it could only be handed out itself, with all that it permits.
    """

    async def sign(self, key: str, expires: float) -> tuple[str, float]:
        """A SAS for this blob, to read it; with a token login no longer than its key, seven days."""
        now = time.time()
        until = datetime.fromtimestamp(int(now + expires), UTC)  # a SAS counts whole seconds
        how: dict[str, Any] = {"account_key": self._login.account_key}
        if self._login.account_key is None:
            # Begins in the past, so that a clock a little ahead of Azure's does no harm.
            begin = datetime.fromtimestamp(int(now), UTC) - _SKEW
            until = min(until, begin + _LONGEST_DELEGATION)
            with self._classified(f"signing {key!r}"):
                how = {"user_delegation_key": await self._login.service.get_user_delegation_key(begin, until)}
        url = self.address(key)
        with self._classified(f"signing {key!r}"):
            sas = generate_blob_sas(
                self._login.account,
                self._config.container,
                key,
                permission=BlobSasPermissions(read=True),
                expiry=until,
                protocol="https" if url.startswith("https:") else None,
                **how,
            )
        return f"{url}?{sas}", until.timestamp() - now
