"""How a provider logs in to Azure Blob Storage, and the client that it does so with."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self
from urllib.parse import parse_qs

import aiohttp
from azure.core.credentials import AccessToken, AccessTokenInfo, AzureNamedKeyCredential, AzureSasCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import BlobServiceClient

from uploaderd import __version__
from uploaderd.config import AzureProvider, ConfigError

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for one TCP and TLS connection."""
READ_TIMEOUT: Final = 60.0
"""Seconds without a byte of the reply, once the request is sent; sending is the caller's to watch."""
READ_CHUNK: Final = 4 * 2**20
"""Bytes of one ranged read: what reading an object holds in memory."""


@dataclass(frozen=True, slots=True)
class Login:
    """A client that is logged in, or will be with its first request.

    `text` names the login for people. `account_key` or `token` is what URLs can be signed with.
    """

    service: BlobServiceClient
    text: str
    account: str
    account_key: str | None
    token: AsyncTokenCredential | None
    sas_expiry: datetime | None

    async def close(self) -> None:
        await self.service.close()
        if self.token is not None:
            await self.token.close()


async def log_in(name: str, config: AzureProvider) -> Login:
    """Make the client. Sends nothing.

    Raises:
        ConfigError: the library makes no client of the settings. Names the keys, never their values.
    """
    options: dict[str, Any] = {}
    try:
        options = _options(config)
        if config.connection_string is not None:
            return _by_connection_string(config.connection_string.get_secret_value(), options)
        return _by_keys(config, options)
    except (ValueError, OSError):
        if "transport" in options:
            await options["transport"].close()
        # The library's text may quote the value: it stays out of the chain.
        fault = (
            f"[providers.{name}] makes no Azure client; check connection_string, or account and endpoint_url"
            " (a login by token needs https), and ca_file"
        )
        raise ConfigError([fault]) from None


def _by_connection_string(text: str, options: dict[str, Any]) -> Login:
    service = BlobServiceClient.from_connection_string(text, **options)
    sas = dict(part.partition("=")[::2] for part in text.split(";")).get("SharedAccessSignature")
    return Login(
        service=service,
        text="connection string",
        account=service.account_name or "",
        account_key=getattr(service.credential, "account_key", None),
        token=None,
        sas_expiry=_sas_expiry(sas),
    )


def _by_keys(config: AzureProvider, options: dict[str, Any]) -> Login:
    if not (config.account or config.endpoint_url):
        raise ValueError("no account")
    url = config.endpoint_url or f"https://{config.account}.blob.core.windows.net"
    credential: AzureNamedKeyCredential | AzureSasCredential | AsyncTokenCredential
    key, token, sas = None, None, None
    if config.account_key is not None:
        key = config.account_key.get_secret_value()
        credential, text = AzureNamedKeyCredential(config.account or "", key), "account key"
    elif config.sas_token is not None:
        sas = config.sas_token.get_secret_value()
        credential, text = AzureSasCredential(sas), "SAS token"
    else:
        inner, text = _token_credential(config)
        token = TokenSource(inner)
        credential = token
    service = BlobServiceClient(url, credential=credential, **options)
    return Login(service, text, config.account or service.account_name or "", key, token, _sas_expiry(sas))


class TokenSource(AsyncTokenCredential):
    """A credential of the library whose every failure is one of a login.

    What is no JSON (a page of a proxy that wants a login of its own) it takes for a reply all the same, and
    fails with a TypeError or KeyError.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        with _only_login_errors():
            found: AccessToken = await self._inner.get_token(*scopes, **options)
        return found

    async def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        """The same question, in the library's newer form."""
        with _only_login_errors():
            found: AccessTokenInfo = await self._inner.get_token_info(*scopes, options=options)
        return found

    async def close(self) -> None:
        await self._inner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@contextmanager
def _only_login_errors() -> Iterator[None]:
    try:
        yield
    except (TypeError, KeyError, ValueError) as error:
        what = f"what answers for the token endpoint is none ({type(error).__name__})"
        raise ClientAuthenticationError(what) from error


def _token_credential(config: AzureProvider) -> tuple[AsyncTokenCredential, str]:
    """The one credential that the settings and the environment name.

    Not DefaultAzureCredential: it tries a dozen sources, slowly off Azure, and nobody can say which
    one will be used.
    """
    # Keys and SAS do without: a thirtieth of a second, and the memory of what it brings.
    from azure.identity.aio import (
        ClientSecretCredential,
        ManagedIdentityCredential,
        WorkloadIdentityCredential,
    )

    options: dict[str, Any] = {
        "retry_total": 0,
        "connection_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
    }
    if config.ca_file is not None:
        options["connection_verify"] = str(config.ca_file)
    workload = config.client_secret is None and os.environ.get("AZURE_FEDERATED_TOKEN_FILE")
    # Entra ID is on the internet, managed identities at a link-local address that no proxy reaches.
    if config.proxy is not None and (config.client_secret is not None or workload):
        options["proxies"] = _proxies(config)
    if config.client_secret is not None:
        secret = config.client_secret.get_secret_value()
        credential = ClientSecretCredential(config.tenant_id or "", config.client_id or "", secret, **options)
        return credential, "client secret"
    if workload:
        federated = WorkloadIdentityCredential(
            tenant_id=config.tenant_id, client_id=config.client_id, **options
        )
        return federated, "workload identity"
    whose = f"managed identity {config.client_id}" if config.client_id else "managed identity"
    return ManagedIdentityCredential(client_id=config.client_id, **options), whose


def _options(config: AzureProvider) -> dict[str, Any]:
    """For the client: one try, our timeouts, a pool that holds every part that may be on its way."""
    verify: ssl.SSLContext | bool = True
    if config.ca_file is not None:
        verify = ssl.create_default_context(cafile=str(config.ca_file))
    # aiohttp itself repeats an idempotent request once when a kept connection turns out to be closed, but
    # never one whose body was begun; what is left (a commit) carries a precondition.
    # A session of our own: given a path, the library would make a new TLS context for each request, and
    # with it a new connection.
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=config.max_uploads * config.max_parts + 4, ssl=verify),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=True,
    )
    options: dict[str, Any] = {
        "transport": AioHttpTransport(
            session=session, connection_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT
        ),
        "retry_total": 0,
        "permit_redirects": False,
        "user_agent": f"uploaderd/{__version__}",
        "max_single_get_size": READ_CHUNK,
        "max_chunk_get_size": READ_CHUNK,
    }
    if config.proxy is not None:
        options["proxies"] = _proxies(config)
    return options


def _proxies(config: AzureProvider) -> dict[str, str]:
    proxy = config.proxy.get_secret_value() if config.proxy is not None else ""
    return {"http": proxy, "https": proxy}


def _sas_expiry(sas: str | None) -> datetime | None:
    """`se` of a SAS; None if it has none (a stored access policy) or is not one."""
    told = parse_qs(sas or "").get("se", [""])[0]
    try:
        at = datetime.fromisoformat(told)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
