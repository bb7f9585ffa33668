"""What a backend brings to the contract suite, and nothing else.

A backend is one provider type at one server. It joins by a module `backends_<type>.py` beside this
one that has a list `BACKENDS`:

    @asynccontextmanager
    async def _at_moto(server: Moto, tmp_path: Path) -> AsyncIterator[Place]:
        bucket = f"contract-{secrets.token_hex(6)}"
        async with vendors_client(server.url) as client:
            await client.create_bucket(Bucket=bucket)
            settings = {"type": "s3", "bucket": bucket, "endpoint_url": server.url, ...}
            yield Place(
                settings=settings,
                vendor=S3Vendor(client, bucket),
                part_size=5 * 2**20,
                missing_bucket=settings | {"bucket": bucket + "-missing"},
                wrong_login=settings | {"secret_access_key": "not-the-right-key"},
            )

    BACKENDS = [Backend("s3-moto", "moto", _at_moto, lenient=frozenset({"checksums", "login"})), ...]

What the suite expects of a provider beyond the Protocol's words:

- `put` and `complete` give the same `etag` and `version_id` as `stat` does after them: `proof` compares.
- `ObjectInfo.revision` of all three is what `ObjectSpec.replaces` takes.
- An ordered provider goes by `body.offset`; part numbers grow, and are not consecutive after a resume.
- `connect` succeeds whatever is wrong with the target: the first call that needs it tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Check = Literal["checksums", "login", "preconditions", "signing", "aborting"]
"""What a server may get wrong, or a provider type not have at all:

`checksums`: it refuses content that is not what its announced checksum says.
`login`: it refuses a wrong login.
`preconditions`: it refuses to overwrite unless told to, and then only the version named.
`signing`: the provider signs URLs, and the server honours them and refuses altered ones.
`aborting`: a half-done upload can be discarded (Azure's expire instead).
"""


@dataclass(frozen=True, slots=True)
class Found:
    """An object as the vendor's own client shows it.

    `metadata` without the token, decoded as the provider's module documents its encoding.
    """

    content: bytes
    content_type: str
    metadata: Mapping[str, str]
    token: str | None


class Vendor(Protocol):
    """The bucket, reached through the vendor's own client: none of our code in between."""

    async def get(self, key: str) -> Found | None: ...

    async def put(self, key: str, content: bytes) -> None:
        """A stranger's object: no token, no condition."""
        ...

    async def keys(self) -> set[str]:
        """Everything that a reader of the bucket can see."""
        ...

    async def leftovers(self) -> int:
        """Half-done uploads that somebody pays for and that could be aborted (Azure: always 0)."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """A fresh, empty bucket (container, folder) at a running server.

    `settings` is the provider's table, as an operator writes it. `part_size` is the smallest legal
    one, in bytes. `missing_bucket` and `wrong_login` are the same table with that mistake in it.
    """

    settings: dict[str, Any]
    vendor: Vendor
    part_size: int
    missing_bucket: dict[str, Any]
    wrong_login: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backend:
    """One provider type at one server.

    `name` begins with the type ("s3-moto"). `server` names the session fixture that starts the
    server; its value is handed to `arrange`, which yields a place that nobody else uses.
    """

    name: str
    server: str | None
    arrange: Callable[[Any, Path], AbstractAsyncContextManager[Place]]
    lenient: frozenset[Check] = frozenset()

    @property
    def type(self) -> str:
        return self.name.partition("-")[0]
