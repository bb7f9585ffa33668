"""What a caller of a provider does, in the least code: the suite's stand-in for `uploaderd.upload`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter

from uploaderd.checksum import combine
from uploaderd.config import AzureProvider, DirectoryProvider, GcsProvider, S3Provider
from uploaderd.model import HeldPart, ObjectInfo, ObjectSpec, Part, Session, Token
from uploaderd.provider import Provider
from uploaderd.providers import open_provider
from uploaderd.reader import OpenRecording

AnyConfig = Annotated[
    S3Provider | AzureProvider | GcsProvider | DirectoryProvider, Field(discriminator="type")
]
_CONFIG: Final[TypeAdapter[AnyConfig]] = TypeAdapter(AnyConfig)


async def opened(settings: Mapping[str, Any], name: str = "contract") -> Provider:
    """A provider made from its table, as the daemon makes it."""
    return await open_provider(name, _CONFIG.validate_python(settings))


def spec_of(
    key: str,
    size: int,
    *,
    metadata: Mapping[str, str] | None = None,
    content_type: str = "video/mp4",
    replaces: str | None = None,
) -> ObjectSpec:
    """What to make: a token of its own each time."""
    return ObjectSpec(
        key=key,
        size=size,
        token=Token(secrets.token_hex(16)),
        content_type=content_type,
        metadata=metadata or {},
        replaces=replaces,
    )


async def put(provider: Provider, spec: ObjectSpec, recording: OpenRecording) -> ObjectInfo:
    """The whole recording in one request."""
    return await provider.put(spec, recording.body(0, recording.size, md5=provider.limits.wants_md5))


async def put_part(provider: Provider, session: Session, recording: OpenRecording, offset: int) -> Part:
    """The part at `offset`, up to the next multiple of the session's part size."""
    number = offset // session.part_size + 1
    end = min(number * session.part_size, recording.size)
    body = recording.body(offset, end - offset, md5=provider.limits.wants_md5)
    return await provider.put_part(session, number, body)


async def put_rest(
    provider: Provider, session: Session, recording: OpenRecording, held: Sequence[HeldPart] = ()
) -> list[Part]:
    """Everything that is not held; receipts of held parts are made from the file. By offset."""
    parts = [await _receipt(recording, part) for part in held]
    if provider.limits.ordered:
        position = sum(part.size for part in held)
        while position < recording.size:
            parts.append(await put_part(provider, session, recording, position))
            position += parts[-1].size
        return parts
    missing = set(range(0, recording.size, session.part_size)) - {part.offset for part in held}
    parts += [await put_part(provider, session, recording, offset) for offset in sorted(missing)]
    return sorted(parts, key=lambda part: part.offset)


async def complete(provider: Provider, session: Session, parts: Sequence[Part]) -> ObjectInfo:
    return await provider.complete(session, parts, combine(part.checksum for part in parts))


async def put_in_parts(
    provider: Provider, spec: ObjectSpec, recording: OpenRecording, part_size: int
) -> ObjectInfo:
    """The whole recording, part by part."""
    session = await provider.open(spec, part_size)
    return await complete(provider, session, await put_rest(provider, session, recording))


async def send(
    provider: Provider, spec: ObjectSpec, recording: OpenRecording, part_size: int | None
) -> ObjectInfo:
    """In parts of that size; in one request where it is None."""
    if part_size is None:
        return await put(provider, spec, recording)
    return await put_in_parts(provider, spec, recording, part_size)


async def _receipt(recording: OpenRecording, held: HeldPart) -> Part:
    checksum = await recording.body(held.offset, held.size).digest()
    return Part(held.number, held.offset, checksum, held.etag, checked=None)
