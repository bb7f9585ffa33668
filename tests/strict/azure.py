"""Azure Blob Storage as it does it: account, container, who asks and may they. Blobs and blocks are in
`azure_blobs` and `azure_blocks`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs, unquote
from uuid import uuid4

from aiohttp import web

from tests.strict.azure_blobs import Blobs
from tests.strict.azure_blocks import Blocks
from tests.strict.azure_state import Blob, Block, Container, document, new_etag, parsed, tag
from tests.strict.s3_state import http_date
from tests.strict.sharedkey import StorageAccount, Wanted, failed, verify_sas, verify_shared_key
from tests.strict.store import Store
from tests.strict.wire import Call, Clock, Exchange, RefusalError, Reply

_OPERATIONS: Final[dict[tuple[str, str, str, str], str]] = {
    # By method, level, and the query's restype and comp.
    ("GET", "service", "", "list"): "ListContainers",
    ("POST", "service", "service", "userdelegationkey"): "GetUserDelegationKey",
    ("PUT", "container", "container", ""): "CreateContainer",
    ("GET", "container", "container", ""): "GetContainerProperties",
    ("HEAD", "container", "container", ""): "GetContainerProperties",
    ("DELETE", "container", "container", ""): "DeleteContainer",
    ("GET", "container", "container", "list"): "ListBlobs",
    ("PUT", "object", "", ""): "PutBlob",
    ("PUT", "object", "", "block"): "PutBlock",
    ("PUT", "object", "", "blocklist"): "PutBlockList",
    ("GET", "object", "", "blocklist"): "GetBlockList",
    ("HEAD", "object", "", ""): "GetBlobProperties",
    ("GET", "object", "", ""): "GetBlob",
    ("DELETE", "object", "", ""): "DeleteBlob",
}
_PERMISSIONS: Final = {
    "ListContainers": "l",
    "GetUserDelegationKey": "-",  # by bearer token only
    "CreateContainer": "cw",
    "GetContainerProperties": "r",
    "DeleteContainer": "d",
    "ListBlobs": "l",
    "PutBlob": "cw",
    "PutBlock": "w",
    "PutBlockList": "w",
    "GetBlockList": "r",
    "GetBlobProperties": "r",
    "GetBlob": "r",
    "DeleteBlob": "d",
}
"""Letters of `sp`, any of which is enough (Create a service SAS, "Specify permissions")."""
_CODES: Final = {
    400: "InvalidInput",
    401: "NoAuthenticationInformation",
    403: "AuthorizationFailure",
    404: "ResourceNotFound",
    409: "BlobAlreadyExists",
    412: "ConditionNotMet",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServerBusy",
}


class Azure:
    """The Azure Blob side, at `{address}/azure/{account}`.

    Settings that a test may change: `accounts`, `max_block`, `max_blob` (bytes of one Put Blob),
    `max_blocks`, and `crc64` (False: answer none, as Azurite).
    """

    name = "azure"
    PREFIX: Final = "/azure"

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.accounts: dict[str, StorageAccount] = {}
        self.account = self.add_account("strictaccount")
        self.containers: dict[tuple[str, str], Container] = {}
        self.max_block = 4000 * 1024**2
        self.max_blob = 5000 * 1024**2
        self.max_blocks = 50_000
        self.crc64 = True
        self._operations: dict[str, Callable[[Exchange, Container], Awaitable[Reply]]] = {
            "GetContainerProperties": self._container_properties,
            "DeleteContainer": self._delete_container,
            "ListBlobs": Blobs(self).list,
            **Blobs(self).operations(),
            **Blocks(self).operations(),
        }

    # What tests look at and arrange ---------------------------------------------------------------

    def add_account(self, name: str) -> StorageAccount:
        """A new account whose key is derived from its name: stable, and plainly no secret."""
        key = base64.b64encode(hashlib.sha512(f"not a real key of {name}".encode()).digest()).decode()
        account = StorageAccount(name, key)
        self.accounts[name] = account
        return account

    def create_container(self, name: str, *, account: str = "", versioning: bool = False) -> Container:
        container = Container(name, self.clock.now(), new_etag(), versioning)
        return self.containers.setdefault((account or self.account.name, name), container)

    def container(self, name: str, account: str = "") -> Container:
        return self.containers[account or self.account.name, name]

    def objects(self, container: str) -> dict[str, Blob]:
        """Committed blobs by name, in order."""
        return dict(sorted(self.container(container).blobs.items()))

    def uncommitted(self, container: str) -> dict[str, list[Block]]:
        """Staged blocks by blob name, in the order of their arrival."""
        staged = list(self.container(container).uncommitted.items())
        return {key: list(blocks.values()) for key, blocks in staged if blocks}

    def expire_uncommitted(self, container: str) -> int:
        """All staged blocks are gone, as after a week. How many there were."""
        held = self.container(container)
        count = sum(len(blocks) for blocks in held.uncommitted.values())
        held.uncommitted.clear()
        return count

    # The protocol ---------------------------------------------------------------------------------

    def parse(self, request: web.BaseRequest) -> Call:
        path, _, raw_query = request.raw_path.partition("?")
        account, _, rest = path.removeprefix(self.PREFIX).lstrip("/").partition("/")
        container, _, blob = rest.partition("/")
        query = {name: values[0] for name, values in parse_qs(raw_query).items()}
        level = "object" if blob else "container" if container else "service"
        found = (request.method, level, query.get("restype", ""), query.get("comp", ""))
        name = _OPERATIONS.get(found, " ".join(found))
        return Call(name, f"{account}/{container}", unquote(blob), "")

    def forget_session(self, call: Call) -> None:
        account, _, name = call.bucket.partition("/")
        if container := self.containers.get((account, name)):
            container.uncommitted.pop(call.key, None)

    async def answer(self, exchange: Exchange) -> Reply:
        call = exchange.call
        account_name, _, container_name = call.bucket.partition("/")
        account = self.accounts.get(account_name)
        if account is None:
            raise failed(f"There is no account {account_name!r}")
        if call.operation not in _PERMISSIONS:
            raise RefusalError(501, "NotImplemented", f"{call.operation} is not implemented by this endpoint")
        principal = self._authenticate(exchange, account, container_name)
        if call.operation in account.denied.get(principal, ()):
            raise RefusalError(
                403,
                "AuthorizationPermissionMismatch",
                "This request is not authorized to perform this operation",
            )
        if len(call.key) > 1024:
            raise RefusalError(400, "InvalidUri", "The blob name is longer than 1,024 characters.")
        if call.operation == "CreateContainer":
            return self._stamped(exchange, self._create(exchange, account_name, container_name))
        if call.operation == "GetUserDelegationKey":
            return self._stamped(exchange, await self._delegation_key(exchange, account))
        if call.operation == "ListContainers":
            return self._stamped(exchange, self._list_containers(account_name))
        container = self.containers.get((account_name, container_name))
        if container is None:
            raise RefusalError(404, "ContainerNotFound", "The specified container does not exist.")
        return self._stamped(exchange, await self._operations[call.operation](exchange, container))

    def _authenticate(self, exchange: Exchange, account: StorageAccount, container: str) -> str:
        headers = {name.lower(): exchange.header(name) for name in exchange.request.headers}
        authorization = headers.get("authorization", "")
        now = self.clock.now()
        if "x-ms-version" not in headers and "sv" not in exchange.query:
            raise RefusalError(400, "MissingRequiredHeader", "x-ms-version", HeaderName="x-ms-version")
        if authorization.startswith("Bearer "):
            token = authorization.removeprefix("Bearer ")
            if token not in account.tokens:
                raise RefusalError(
                    401,
                    "InvalidAuthenticationInfo",
                    "Server failed to authenticate the request. The token is invalid or expired.",
                    headers={"www-authenticate": "Bearer authorization_uri=https://login.invalid/tenant"},
                )
            return token
        if "sig" in exchange.query:
            operation = exchange.call.operation
            level = "service" if not container else "object" if exchange.call.key else "container"
            for letters in (_PERMISSIONS[operation], *(["t"] if "x-ms-tags" in headers else [])):
                wanted = Wanted(letters, level)
                verify_sas(
                    account,
                    exchange.query,
                    container=container,
                    blob=exchange.call.key,
                    wanted=wanted,
                    now=now,
                )
            return "sas"
        if not authorization:
            raise RefusalError(
                401, "NoAuthenticationInformation", "Server failed to authenticate the request."
            )
        verify_shared_key(
            account,
            method=exchange.request.method,
            path=exchange.path,
            query=exchange.query,
            headers=headers,
            now=now,
        )
        return "key"

    def _create(self, exchange: Exchange, account: str, name: str) -> Reply:
        if (account, name) in self.containers:
            raise RefusalError(409, "ContainerAlreadyExists", "The specified container already exists.")
        container = self.create_container(name, account=account)
        return Reply(201, {"etag": container.etag, "last-modified": http_date(container.created)})

    async def _container_properties(self, exchange: Exchange, container: Container) -> Reply:
        return Reply(200, {"etag": container.etag, "last-modified": http_date(container.created)})

    async def _delete_container(self, exchange: Exchange, container: Container) -> Reply:
        account, _, name = exchange.call.bucket.partition("/")
        del self.containers[account, name]
        return Reply(202)

    def _list_containers(self, account: str) -> Reply:
        rows = "".join(
            f"<Container>{tag('Name', name)}<Properties>"
            f"{tag('Last-Modified', http_date(held.created))}{tag('Etag', held.etag)}"
            "</Properties></Container>"
            for (owner, name), held in list(self.containers.items())
            if owner == account
        )
        body = f"<EnumerationResults><Containers>{rows}</Containers><NextMarker /></EnumerationResults>"
        return Reply(200, {"content-type": "application/xml"}, document(body))

    async def _delegation_key(self, exchange: Exchange, account: StorageAccount) -> Reply:
        if not exchange.header("authorization").startswith("Bearer "):
            raise failed("Only a bearer token may ask for a user delegation key")
        root = parsed(b"".join([data async for data in exchange.body()]))
        identity, tenant = str(uuid4()), str(uuid4())
        key = base64.b64encode(
            hashlib.sha256(f"not a real delegation key {identity}".encode()).digest()
        ).decode()
        account.delegation_keys[identity] = key
        start = root.findtext("Start") or datetime.fromtimestamp(self.clock.now(), UTC).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        )
        body = "".join(
            [
                tag("SignedOid", identity),
                tag("SignedTid", tenant),
                tag("SignedStart", start),
                tag("SignedExpiry", root.findtext("Expiry") or ""),
                tag("SignedService", "b"),
                tag("SignedVersion", exchange.header("x-ms-version")),
                tag("Value", key),
            ]
        )
        answer = document(f"<UserDelegationKey>{body}</UserDelegationKey>")
        return Reply(200, {"content-type": "application/xml"}, answer)

    def refusal(self, exchange: Exchange, error: RefusalError) -> Reply:
        code = error.code or _CODES.get(error.status, "InternalError")
        exchange.code = code
        details = "".join(tag(name, value) for name, value in error.more.items())
        body = document(f"<Error>{tag('Code', code)}{tag('Message', error.message or code)}{details}</Error>")
        headers = {"content-type": "application/xml", "x-ms-error-code": code} | error.headers
        return self._stamped(exchange, Reply(error.status, headers, body))

    @staticmethod
    def _stamped(exchange: Exchange, reply: Reply) -> Reply:
        reply.headers = {
            "server": "Windows-Azure-Blob/1.0",
            "x-ms-request-id": str(uuid4()),
            "x-ms-version": exchange.header("x-ms-version", "2021-12-02"),
        } | reply.headers
        if client := exchange.header("x-ms-client-request-id"):
            reply.headers["x-ms-client-request-id"] = client
        return reply
