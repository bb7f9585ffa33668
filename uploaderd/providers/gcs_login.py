"""Who we are at Google: gcloud-aio-auth fetches the tokens, this module keeps them.

`Token.get()` is passed by, for two reasons seen in gcloud-aio-auth 5.6: it retries five times beneath
its caller (up to minutes), and all callers await one bare task, so that cancelling one upload's call
cancels the login of all. `Token.refresh()` asks once. A third: what is no JSON in a credentials file is
taken for "no file", and the metadata server is asked instead; the file is read here.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from gcloud.aio.auth import AioSession, Token
from gcloud.aio.auth.iam import API_ROOT_IAM_CREDENTIALS
from gcloud.aio.auth.token import GCE_METADATA_BASE, GCE_METADATA_HEADERS, Type

from uploaderd.config import GcsProvider
from uploaderd.errors import Fault
from uploaderd.logs import mask, register_secret
from uploaderd.logs.setup import get_logger
from uploaderd.model import FailureClass
from uploaderd.providers import remedies
from uploaderd.providers.credential_files import CredentialFiles
from uploaderd.providers.gcs_faults import SPOKEN, Place, unanswered

log = get_logger(__name__)

SCOPES: Final = ["https://www.googleapis.com/auth/cloud-platform"]
"""IAM decides what the login may do, not the scope; signing by IAM needs this one."""

EARLY: Final = 225.0
"""Seconds before its end that a token is renewed: the metadata server has a new one four minutes before."""

_TIMEOUT: Final = 20
"""Seconds for each step of fetching a token."""

_WELL_KNOWN: Final = "~/.config/gcloud/application_default_credentials.json"
"""Where gcloud leaves a person's login; the library looks there where nothing names a file."""

_NAMES: Final[Mapping[Type, str]] = {
    Type.SERVICE_ACCOUNT: "service account key",
    Type.AUTHORIZED_USER: "gcloud user login",
    Type.EXTERNAL_ACCOUNT: "workload identity federation",
    Type.IMPERSONATED_SERVICE_ACCOUNT: "impersonated service account",
    Type.GCE_METADATA: "metadata server",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose signature a URL bears: `private_key` (PEM), or None where IAM has to sign."""

    email: str
    private_key: str | None


class Login:
    """The Authorization header of one provider, fetched when it is needed."""

    def __init__(self, place: Place, config: GcsProvider) -> None:
        self._place = place
        self._config = config
        self._explicit = str(config.credentials_file) if config.credentials_file else None
        self._proxy = config.proxy.get_secret_value() if config.proxy else None
        self._lock = asyncio.Lock()
        self._token: Token | None = None
        self._session: aiohttp.ClientSession | None = None
        self._header: dict[str, str] = {}
        self._renew_at = 0.0
        self._type: Type | None = None
        self._files = CredentialFiles(())

    @property
    def text(self) -> str:
        if self._config.anonymous:
            return "anonymous"
        how = "credentials file" if self._explicit else "application default credentials"
        return f"{how}: {_NAMES[self._type]}" if self._type else how

    async def headers(self) -> Mapping[str, str]:
        """What a request must carry.

        Raises:
            Fault: class provider where the login is missing or refused; transient where Google's
                token endpoint cannot be reached.
        """
        if self._config.anonymous:
            return {}
        # Each waits its turn: one who is cancelled while fetching leaves the fetching to the next.
        async with self._lock:
            if await self._files.changed():
                log.info("the credentials file has changed; it is read again", provider=self._place.name)
                self.forget()
            if time.monotonic() >= self._renew_at:
                token = self._token or await self._load()
                answer = await self._fetch(token)
                self._header = {"Authorization": f"Bearer {answer.value}"}
                life = float(answer.expires_in)
                self._renew_at = time.monotonic() + life - min(EARLY, life / 10)
            return self._header

    def forget(self) -> None:
        """The token was refused: read the file again and fetch another at the next call."""
        self._renew_at = 0.0
        self._token = None

    async def identity(self) -> Identity:
        """Who signs URLs.

        Raises:
            Fault: class provider where this kind of login cannot sign.
        """
        if self._config.anonymous:
            raise self._useless(
                "an anonymous login cannot sign URLs", "set public_url, or a login that can sign"
            )
        async with self._lock:
            token = self._token or await self._load()
        data = token.service_data
        if data.get("client_email") and data.get("private_key"):
            return Identity(str(data["client_email"]), str(data["private_key"]))
        if token.impersonation_uri and "/serviceAccounts/" in token.impersonation_uri:
            return Identity(
                token.impersonation_uri.rpartition("/serviceAccounts/")[2].partition(":")[0], None
            )
        if token.token_type is Type.GCE_METADATA:
            url = f"{GCE_METADATA_BASE}/instance/service-accounts/default/email"
            return Identity((await self._ask("GET", url, GCE_METADATA_HEADERS)).decode().strip(), None)
        raise self._useless(
            f"this login ({self.text}) cannot sign URLs", "use a service account, or set public_url"
        )

    async def sign_blob(self, email: str, payload: bytes) -> bytes:
        """Signature by IAM (projects.serviceAccounts.signBlob)."""
        url = f"{API_ROOT_IAM_CREDENTIALS}/projects/-/serviceAccounts/{email}:signBlob"
        headers = {**await self.headers(), "Content-Type": "application/json"}
        data = json.dumps({"payload": base64.b64encode(payload).decode()})
        reply = json.loads(await self._ask("POST", url, headers, data=data, proxy=self._proxy))
        return base64.b64decode(reply["signedBlob"])

    async def prepare(self) -> None:
        """Look at the credentials, so that `text` names their kind. No network."""
        if not self._config.anonymous:
            async with self._lock:
                await self._load()

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _load(self) -> Token:
        path = self._explicit or os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or None
        try:
            self._files = await asyncio.to_thread(CredentialFiles, [path or _WELL_KNOWN])
            text = await asyncio.to_thread(_read, path) if path else None
            token = await asyncio.to_thread(
                Token, service_file=io.StringIO(text) if text else None, scopes=SCOPES
            )
        except OSError as error:
            what = f"{error.filename or path}: {error.strerror}"
            raise self._useless(
                f"the login cannot be read ({what})", "correct the path, or let us read it"
            ) from None
        except ValueError as error:
            raise self._useless(
                f"{path or 'the application default credentials'} cannot be used: {mask(str(error))}",
                "download the key file again, or correct credentials_file",
            ) from None
        except Exception as error:  # noqa: BLE001 - gcloud-aio-auth raises Exception itself
            raise self._useless(
                f"the login cannot be used ({mask(str(error))})", "correct the credentials"
            ) from None
        # The metadata server is a link-local address: a proxy would ask its own machine's.
        proxy = None if token.token_type is Type.GCE_METADATA else self._proxy
        await self.aclose()
        self._session = await self._connect(proxy)
        token.session = AioSession(self._session)  # type: ignore[arg-type]  # as below
        for name in ("private_key", "client_secret", "refresh_token"):
            if value := token.service_data.get(name):
                register_secret(str(value))
        before, self._type, self._token = self._type, token.token_type, token
        if before is not None and before is not self._type:
            log.info("another kind of login", provider=self._place.name, login=self.text)
        return token

    async def _connect(self, proxy: str | None) -> aiohttp.ClientSession:
        """Tokens come from Google's own hosts: `ca_file` adds to the system's certificates here."""
        context = await asyncio.to_thread(ssl.create_default_context)
        if self._config.ca_file:
            await load_ca_file(context, self._config.ca_file, self._place)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=4),
            proxy=proxy,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def _fetch(self, token: Token) -> Any:
        act = f"logging in for {self._place.target}"
        try:
            return await token.refresh(timeout=_TIMEOUT)
        except aiohttp.ClientResponseError as error:
            fault = self._refused(error, act)
        except SPOKEN as error:
            fault = unanswered(error, self._place, act)
            if token.token_type is Type.GCE_METADATA and fault.failure is FailureClass.TRANSIENT:
                fault = self._useless(
                    "no login was found: no file is named, and no metadata server answers",
                    "set credentials_file, or GOOGLE_APPLICATION_CREDENTIALS, or anonymous = true",
                )
        except Exception as error:  # noqa: BLE001 - KeyError, jwt's errors and bare Exception mean a bad file
            why = f"{type(error).__name__}: {mask(str(error))}"
            fault = self._useless(
                f"{act}: the credentials cannot be used ({why})", "download the key file again"
            )
        self.forget()
        raise fault

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], **more: Any) -> bytes:
        act = f"signing a URL of {self._place.target}"
        try:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
            # Its annotation is that of the library's blocking edition.
            session = AioSession(self._session)  # type: ignore[arg-type]
            reply = await session.request(method, url, headers, timeout=timeout, **more)
            async with reply:
                body: bytes = await reply.read()
            return body
        except aiohttp.ClientResponseError as error:
            raise self._refused(error, act) from None
        except SPOKEN as error:
            raise unanswered(error, self._place, act) from None

    def _refused(self, error: aiohttp.ClientResponseError, act: str) -> Fault:
        """Of a token endpoint: OAuth's code (RFC 6749, 5.2) is the first thing in its reply's JSON."""
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return unanswered(error, self._place, act)
        try:
            told = json.loads(error.message.partition(": ")[2])["error"]
            # The metadata server and IAM say it in Google's own shape.
            code = str(told["status"] if isinstance(told, dict) else told)
        except (ValueError, KeyError, TypeError):
            code = ""
        passing = error.status >= 500 or error.status in (408, 429)
        return Fault(
            f"{act}: HTTP {error.status}" + (f", {code}" if code else ""),
            failure=FailureClass.TRANSIENT if passing else FailureClass.PROVIDER,
            code=code,
            hint=""
            if passing
            else remedies.clock(error.headers.get("Date") if error.headers else None)
            or f"check that the login of {self._place.table} ({self.text}) still exists and may do this,"
            " and this machine's clock",
            http_status=error.status,
        )

    def _useless(self, message: str, hint: str) -> Fault:
        return Fault(
            message, failure=FailureClass.PROVIDER, code="NoLogin", hint=f"{self._place.table}: {hint}"
        )


async def load_ca_file(context: ssl.SSLContext, path: Path, place: Place) -> None:
    """Trust the certificates of a file.

    Raises:
        Fault: class provider; the next call tries again.
    """
    try:
        await asyncio.to_thread(context.load_verify_locations, path)
    except OSError as error:
        raise Fault(
            f"the certificates of {path} cannot be loaded: {error.strerror or error}",
            failure=FailureClass.PROVIDER,
            code="CaFile",
            hint=f"correct {place.table} ca_file, or that file's permissions",
        ) from None


def _read(path: str) -> str:
    """A credentials file; ValueError, without its content, where it is none."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        kind = json.loads(text)["type"]
        Type(kind)
    except (ValueError, KeyError, TypeError):
        raise ValueError('it is not a JSON object whose "type" is one of a login') from None
    return text
