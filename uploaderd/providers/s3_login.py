"""Which login is used at S3, and the client that it opens.

Credentials are asked for at each signature and never frozen: roles and instances renew theirs. The AWS
tools' files are read anew once they change, and everything after a refusal, so that a rotated or mended
login works without a restart.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioCredentials,
    AioDeferredRefreshableCredentials,
)
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, NoCredentialsError
from botocore.loaders import Loader

from uploaderd import __version__
from uploaderd.config import S3Provider
from uploaderd.logs.setup import get_logger
from uploaderd.providers.credential_files import CredentialFiles
from uploaderd.providers.s3_body import lively_socket
from uploaderd.providers.s3_connections import Connections

log = get_logger(__name__)

CONNECT_TIMEOUT: Final = 10.0
READ_TIMEOUT: Final = 60.0
"""Seconds without a byte of the reply, from the end of the request on (aiohttp's sock_read)."""
COMPLETE_TIMEOUT: Final = 300.0
"""The same for CompleteMultipartUpload: stores that copy the parts together say nothing meanwhile."""

_METHODS: Final[Mapping[str, str]] = {
    "explicit": "access key from the configuration",
    "env": "environment variables",
    "shared-credentials-file": "shared credentials file",
    "config-file": "AWS configuration file",
    "assume-role": "role of an AWS profile",
    "assume-role-with-web-identity": "web identity (workload role)",
    "sso": "single sign-on",
    "custom-process": "credential process",
    "container-role": "container role",
    "iam-role": "instance role",
}
"""botocore's names of where credentials came from (`Credentials.method`), for people."""


_AMAZON: Final = re.compile(
    r"(?!.*(?:\.elb\.|s3-outposts))(?:.+\.)?s3(?:express)?(?:-[a-z0-9-]+)?\.(?:.+\.)?amazonaws\.com(?:\.cn)?"
)


def is_amazon(endpoint_url: str | None) -> bool:
    """Whether the endpoint is Amazon S3 itself, not a compatible store.

    Load balancers and machines have names below amazonaws.com, too, with anything behind them; and S3 on
    Outposts is another S3.
    """
    host = urlsplit(endpoint_url or "").hostname or ""
    return not host or _AMAZON.fullmatch(host) is not None


class _Session(AioSession):  # type: ignore[misc]  # it ships no types
    """Where a role is assumed, by whatever part of the default chain, is for the configuration to say."""

    def __init__(self, profile: str | None, security_service: Mapping[str, Any]) -> None:
        super().__init__(profile=profile)
        self._security_service = security_service

    def create_client(self, service: str, *arguments: Any, **keywords: Any) -> Any:
        if service == "sts":
            keywords |= self._security_service
        return super().create_client(service, *arguments, **keywords)


class _Models(Loader):  # type: ignore[misc]  # it ships no types
    """The library's description of S3. To know all services it would list 870 directories first."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002
        return ["s3"]


class Login:
    """Credentials as botocore asks for them: loaded when first needed, and again after `forget`."""

    method = "uploaderd"
    account_id = None

    def __init__(self, config: S3Provider, name: str = "") -> None:
        self._config = config
        self._name = name
        self._files = CredentialFiles(())
        self._found: Any = None
        self._source = ""
        self._lock = asyncio.Lock()

    def __str__(self) -> str:
        """For people: what kind of login, never a value."""
        config = self._config
        if config.access_key_id:
            source = _METHODS["explicit"]
        elif config.profile:
            source = f"profile {config.profile!r}"
        else:
            source = self._source or "default chain, nothing found yet"
        return f"role assumed with {source}" if config.assume_role_arn else source

    def forget(self) -> None:
        """Load anew when next asked."""
        self._found = None

    async def load(self) -> None:
        """Find the credentials, unless they are there.

        Raises:
            NoCredentialsError: there are none. BotoCoreError: they cannot be loaded.
        """
        async with self._lock:
            if self._found is not None and await self._files.changed():
                log.info("the files of the login have changed; it is read again", provider=self._name)
                self._found = None
            if self._found is None:
                before = str(self)
                self._found = await self._find()
                if str(self) != before:
                    log.info("login found", provider=self._name, login=str(self))

    async def get_frozen_credentials(self) -> Any:
        """One signature's worth of credentials (botocore's name for it)."""
        await self.load()
        try:
            return await self._found.get_frozen_credentials()
        except (BotoCoreError, ClientError, OSError, TimeoutError):
            raise
        except Exception as error:  # aiobotocore raises a bare RuntimeError for "refreshed, yet expired"
            raise CredentialRetrievalError(
                provider=self._source or "refresh", error_msg=type(error).__name__
            ) from error

    async def get_account_id(self) -> None:
        """No endpoint of S3 depends on the account."""

    def get_deferred_property(self, _name: str) -> Any:
        """The same question, in botocore's other form."""
        return self.get_account_id

    def seconds_left(self) -> float | None:
        """Until the credentials end; None when nobody knows."""
        # Public nowhere in botocore: `RefreshableCredentials` keeps its expiry to itself.
        expiry = getattr(self._found, "_expiry_time", None)
        return None if expiry is None else (expiry - datetime.now(UTC)).total_seconds()

    def region(self) -> str:
        """The configured region, or the login's."""
        if self._config.region:
            return self._config.region
        try:
            session = AioSession(profile=self._config.profile)
            found = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        except BotoCoreError:  # no such profile: said when the login is used
            found = None
        return found or "us-east-1"

    async def _find(self) -> Any:
        config = self._config
        self._files = CredentialFiles(())
        if config.access_key_id and config.secret_access_key:
            found: Any = AioCredentials(
                config.access_key_id,
                config.secret_access_key.get_secret_value(),
                config.session_token.get_secret_value() if config.session_token else None,
                method="explicit",
            )
        else:
            session = self._session()
            names = ("credentials_file", "config_file")
            paths = [path for name in names if (path := session.get_config_variable(name))]
            self._files = await asyncio.to_thread(CredentialFiles, paths)
            found = await session.get_credentials()
        if found is None:
            raise NoCredentialsError
        self._source = _METHODS.get(found.method, found.method)
        if config.assume_role_arn:
            wanted = {
                "ExternalId": config.external_id,
                "RoleSessionName": config.role_session_name or "uploaderd",
            }
            fetcher = AioAssumeRoleCredentialFetcher(
                self._session().create_client,
                found,
                config.assume_role_arn,
                extra_args={name: value for name, value in wanted.items() if value},
            )
            found = AioDeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
        return found

    def _security_service(self) -> dict[str, Any]:
        """Where roles are assumed: compatible stores (MinIO, Ceph) do it at their own address.

        AWS_ENDPOINT_URL_STS means nothing else, and is obeyed; AWS_ENDPOINT_URL would redirect all.
        """
        config = self._config
        ours = None if is_amazon(config.endpoint_url) else config.endpoint_url
        return {
            "region_name": self.region(),
            "endpoint_url": os.environ.get("AWS_ENDPOINT_URL_STS") or ours,
            "verify": str(config.ca_file) if config.ca_file else None,
        }

    def _session(self) -> AioSession:
        session = _Session(self._config.profile, self._security_service())
        # Without this AWS_ENDPOINT_URL would redirect STS as well.
        session.set_default_client_config(AioConfig(**_common(self._config)))
        return session

    async def load_credentials(self) -> Login:
        """Makes this the "credential_provider" of a botocore session."""
        return self


async def client_for(config: S3Provider, login: Login, stack: AsyncExitStack) -> Any:
    """An S3 client, closed with the stack. No call is made yet.

    Raises:
        BotoCoreError, ValueError: the region or proxy is none.
    """
    # The session sees neither profile nor files of the AWS tools: the configuration alone decides
    # how the client behaves, and a broken profile shows as a fault of the login, not of the start.
    nothing = (None, None, os.devnull, None)
    session = AioSession(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": nothing,
            "credentials_file": nothing,
        }
    )
    session.register_component("credential_provider", login)
    session.register_component("data_loader", _Models())
    client = await stack.enter_async_context(
        session.create_client(
            "s3",
            region_name=login.region(),
            endpoint_url=config.endpoint_url,
            verify=str(config.ca_file) if config.ca_file else None,
            config=AioConfig(
                **_common(config),
                http_session_cls=Connections,
                max_pool_connections=config.max_uploads * config.max_parts + 8,
                user_agent_extra=f"uploaderd/{__version__}",
                # A store that has no checksums refuses or, worse, stores the trailer (see docs of
                # the default since botocore 1.36): ours are said where the endpoint takes them.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                # Else each part is hashed with SHA-256 on the event loop, over plain http always.
                # Else URLs are signed in the old manner in Amazon's older regions.
                signature_version="s3v4",
                s3={"payload_signing_enabled": False, "addressing_style": config.addressing},
            ),
        )
    )
    client.meta.events.register_last("before-call.s3", _prepare)
    return client


def _common(config: S3Provider) -> dict[str, Any]:
    proxy = config.proxy.get_secret_value() if config.proxy else None
    return {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "connector_args": {"socket_factory": lively_socket},
        "proxies": {"http": proxy, "https": proxy} if proxy else None,
        "ignore_configured_endpoint_urls": True,
    }


def _prepare(model: Any, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    """The last word on a request before it is signed."""
    # A server that never says "100 Continue" would hang the part (botocore.handlers.add_expect_header).
    params["headers"].pop("Expect", None)
    # One try a call: a bucket in another region is the configuration's fault and named in its hint,
    # not looked for with a body that would be sent twice (botocore.utils.S3RegionRedirectorv2).
    context.setdefault("s3_redirect", {})["redirected"] = True
    if model.name == "CompleteMultipartUpload":
        context["read_timeout"] = COMPLETE_TIMEOUT
