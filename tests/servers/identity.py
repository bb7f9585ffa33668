"""Where machines and workloads get their logins: STS, metadata services, and token endpoints, in one server.

    with Identity(newest) as identity:
        ...                       # `newest` makes a storage account take what is issued, and nothing older

AWS: STS (AssumeRole, AssumeRoleWithWebIdentity), IMDSv2, container credentials. Azure: IMDS, Entra ID
(client secret, federated token). Google: metadata server, token exchange, impersonation. Written from
the services' own references; what they want in a request must be there, or it is a 400.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from aiohttp import web

ROLE = "arn:aws:iam::000000000000:role/recorder-not-to-be-shown"
SUBJECT = "not-a-real-subject-token"
IMDS_TOKEN = "not-a-real-imds-token"
CLIENT_SECRET = "not-a-real-client-secret"


class Identity:
    """`newest` is called with the number of each credential that is issued, from 1 on.

    The n-th AWS credential is `key_of(n)`; the n-th bearer token `token_of(n)`. `life`: their seconds.
    `refuses`: a status with which everything is refused. `garbles`: everything is a page for people.
    `asked`: the name and parameters of each request that was answered with a credential.
    """

    def __init__(self, newest: Callable[[int], None], *, context: ssl.SSLContext | None = None) -> None:
        self.life = 3600
        self.refuses: int | None = None
        self.garbles = False
        self.issued = 0
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.port = 0
        self._newest = newest
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="identity", daemon=True)
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    @staticmethod
    def key_of(number: int) -> tuple[str, str, str]:
        """Access key, secret and session token."""
        return f"ASIA{number:016d}", f"not-a-real-secret-{number}", f"not-a-real-session-{number}"

    @staticmethod
    def token_of(number: int) -> str:
        return f"not-a-real-token-{number}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._runner is not None
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        application = web.Application(middlewares=[self._refuse])
        application.add_routes(
            [
                web.post("/", self._security_token_service),
                web.put("/latest/api/token", self._imds_session),
                web.get("/latest/meta-data/iam/security-credentials/", self._role_name),
                web.get("/latest/meta-data/iam/security-credentials/recorder", self._instance),
                web.get("/container", self._container),
                web.get("/metadata/identity/oauth2/token", self._azure_instance),
                web.post("/{tenant}/oauth2/v2.0/token", self._entra),
                web.get("/computeMetadata/v1/instance/service-accounts/default/token", self._google_instance),
                web.post("/exchange", self._exchange),
                web.post("/impersonate", self._impersonate),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    @web.middleware
    async def _refuse(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.garbles:
            return web.Response(text="<html>An error: log in to this proxy</html>", content_type="text/html")
        if self.refuses is not None:
            if request.path == "/":
                error = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
                return web.Response(status=self.refuses, text=error, content_type="text/xml")
            refusal = {"error": "invalid_client", "error_description": "refused by the test"}
            return web.json_response(refusal, status=self.refuses)
        answer: web.StreamResponse = await handler(request)
        return answer

    def _issue(self, name: str, parameters: dict[str, str]) -> int:
        self.issued += 1
        self.asked.append((name, parameters))
        self._newest(self.issued)
        return self.issued

    def _until(self) -> str:
        return (datetime.now(UTC) + timedelta(seconds=self.life)).strftime("%Y-%m-%dT%H:%M:%SZ")

    # --- Amazon ------------------------------------------------------------------------------------

    async def _security_token_service(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        action = form.get("Action", "")
        signed = "authorization" in request.headers
        if form.get("RoleArn") != ROLE or signed != (action == "AssumeRole"):
            raise web.HTTPBadRequest
        if action == "AssumeRoleWithWebIdentity" and form.get("WebIdentityToken") != SUBJECT:
            raise web.HTTPBadRequest
        key, secret, token = self.key_of(self._issue(action, form))
        return web.Response(
            content_type="text/xml",
            text=f"<{action}Response><{action}Result><AssumedRoleUser><Arn>{ROLE}/s</Arn>"
            f"<AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>{key}</AccessKeyId>"
            f"<SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>"
            f"<Expiration>{self._until()}</Expiration></Credentials></{action}Result></{action}Response>",
        )

    async def _imds_session(self, request: web.Request) -> web.Response:
        if "x-aws-ec2-metadata-token-ttl-seconds" not in request.headers:
            raise web.HTTPBadRequest
        return web.Response(text=IMDS_TOKEN)

    async def _role_name(self, request: web.Request) -> web.Response:
        if request.headers.get("x-aws-ec2-metadata-token") != IMDS_TOKEN:
            raise web.HTTPUnauthorized
        return web.Response(text="recorder")

    async def _instance(self, request: web.Request) -> web.Response:
        await self._role_name(request)
        return self._credentials("instance", Code="Success", Type="AWS-HMAC", LastUpdated=self._until())

    async def _container(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization") != SUBJECT:
            raise web.HTTPUnauthorized
        return self._credentials("container")

    def _credentials(self, name: str, **more: str) -> web.Response:
        key, secret, token = self.key_of(self._issue(name, {}))
        told = {"AccessKeyId": key, "SecretAccessKey": secret, "Token": token, "Expiration": self._until()}
        return web.json_response(told | more)

    # --- Azure -------------------------------------------------------------------------------------

    async def _azure_instance(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        storage = query.get("resource", "").startswith("https://storage.")
        if request.headers.get("Metadata") != "true" or not storage:
            raise web.HTTPBadRequest
        now = int(datetime.now(UTC).timestamp())
        life = {"expires_in": str(self.life), "expires_on": str(now + self.life), "not_before": str(now)}
        token = self.token_of(self._issue("managed identity", query))
        return web.json_response({"access_token": token, "token_type": "Bearer", "resource": "", **life})

    async def _entra(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if form.get("grant_type") != "client_credentials" or "storage" not in form.get("scope", ""):
            raise web.HTTPBadRequest
        if form.get("client_secret") != CLIENT_SECRET and form.get("client_assertion") != SUBJECT:
            raise web.HTTPUnauthorized
        token = self.token_of(self._issue(request.match_info["tenant"], form))
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": self.life})

    # --- Google ------------------------------------------------------------------------------------

    async def _google_instance(self, request: web.Request) -> web.Response:
        if request.headers.get("metadata-flavor", "").lower() != "google":
            raise web.HTTPForbidden
        token = self.token_of(self._issue("metadata server", {}))
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": self.life})

    async def _exchange(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if form.get("subject_token") != SUBJECT or "//iam.googleapis.com/" not in form.get("audience", ""):
            raise web.HTTPBadRequest
        kind = {"token_type": "Bearer", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}
        return web.json_response({"access_token": "federated", "expires_in": self.life} | kind)

    async def _impersonate(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization") != "Bearer federated":
            raise web.HTTPUnauthorized
        token = self.token_of(self._issue("impersonation", {}))
        return web.json_response({"accessToken": token, "expireTime": self._until()})
