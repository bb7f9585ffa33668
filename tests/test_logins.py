"""Every way in which a machine or workload logs in: found, renewed in mid-upload, refused, mended."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.contract import acts
from tests.servers.identity import CLIENT_SECRET, ROLE, SUBJECT, Identity
from tests.strict import StrictServer
from tests.strict.gcs_auth import Token
from uploaderd.errors import Fault
from uploaderd.model import FailureClass
from uploaderd.provider import Provider
from uploaderd.providers import credential_files
from uploaderd.reader import OpenRecording

BUCKET = "recordings"
KEY = "cam1/a.mp4"
PART = {"s3": 5 * 2**20, "azure": 2**20, "gcs": 2**18}
SENDS = {"s3": "UploadPart", "azure": "PutBlock", "gcs": "ResumableChunk"}
TENANT = "00000000-0000-0000-0000-00000000000a"
CLIENT = "00000000-0000-0000-0000-00000000000b"


@dataclass(frozen=True)
class Way:
    """One way to log in. In values of `env` and `settings`, `{url}` is the identity server's address, and
    `{folder}` one with the file `subject`, which holds the workload's own token."""

    name: str
    login: str
    env: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    life: int = 0
    """Seconds of a credential that is renewed at the next request."""
    renews: bool = True
    """False: botocore itself prolongs what ends soon, in case the service is down; so it is refused first."""

    @property
    def type(self) -> str:
        return self.name.partition(" ")[0]


STS = {"AWS_ENDPOINT_URL_STS": "{url}"}
KEYS = {"access_key_id": "AKIA-not-real", "secret_access_key": "not-a-real-secret"}
LIFE = 300  # botocore renews what ends within ten minutes
FEDERATED = {"AZURE_FEDERATED_TOKEN_FILE": "{folder}/subject", "AZURE_AUTHORITY_HOST": "{url}"}

WAYS = [
    Way(
        "s3 role",
        "role assumed with access key from the configuration",
        STS,
        KEYS | {"assume_role_arn": ROLE, "external_id": "outside", "role_session_name": "hall-3"},
        {"ExternalId": "outside", "RoleSessionName": "hall-3"},
        LIFE,
    ),
    Way(
        "s3 profile's role",
        "profile 'cameras'",
        STS | {"AWS_CONFIG_FILE": "{folder}/config"},
        {"profile": "cameras"},
        {"ExternalId": "outside"},
        LIFE,
    ),
    Way(
        "s3 web identity",
        "web identity (workload role)",
        STS | {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/subject"},
        life=LIFE,
    ),
    Way(
        "s3 container role",
        "container role",
        {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/container",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "{folder}/subject",
        },
        life=LIFE,
    ),
    Way(
        "s3 instance role",
        "instance role",
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "{url}", "AWS_EC2_METADATA_DISABLED": "false"},
        renews=False,
    ),
    Way("azure system's identity", "managed identity", {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "{url}"}),
    Way(
        "azure user's identity",
        f"managed identity {CLIENT}",
        {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "{url}"},
        {"client_id": CLIENT},
        {"client_id": CLIENT},
    ),
    Way(
        "azure workload identity",
        "workload identity",
        FEDERATED | {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT},
        asked={"client_id": CLIENT},
    ),
    Way(
        "azure client secret",
        "client secret",
        {"AZURE_AUTHORITY_HOST": "{url}"},
        {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": CLIENT_SECRET},
        {"client_id": CLIENT},
    ),
    Way("gcs metadata server", "application default credentials: metadata server"),
    Way(
        "gcs federation",
        "credentials file: workload identity federation",
        settings={"credentials_file": "{folder}/federation.json"},
    ),
    Way(
        "gcs default credentials",
        "application default credentials: workload identity federation",
        {"GOOGLE_APPLICATION_CREDENTIALS": "{folder}/federation.json"},
    ),
]


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


@pytest.fixture
def server(way: Way) -> Iterator[StrictServer]:
    with StrictServer(tls=way.type == "azure") as running:
        running.s3.create_bucket(BUCKET)
        running.azure.create_container(BUCKET)
        running.gcs.create_bucket(BUCKET)
        yield running
        assert running.crashes == []


@pytest.fixture
def identity(way: Way, server: StrictServer) -> Iterator[Identity]:
    account = server.gcs.auth.add_account() if way.type == "gcs" else None

    def newest(number: int) -> None:
        """The newest is good, everything before it has expired."""
        for before in server.s3.accounts.values():
            before.expired = True
        key, secret, session = Identity.key_of(number)
        server.s3.add_account(key, secret, session_token=session)
        server.azure.account.tokens = {Identity.token_of(number)}
        if account is not None:
            server.gcs.auth.tokens = {Identity.token_of(number): Token(account, float("inf"))}

    with Identity(newest, context=server._context if way.type == "azure" else None) as identity:
        yield identity


@pytest_asyncio.fixture
async def opened(
    way: Way, server: StrictServer, identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[], Awaitable[Provider]]]:
    (tmp_path / "subject").write_text(SUBJECT)
    (tmp_path / "config").write_text(
        f"[profile cameras]\nrole_arn = {ROLE}\nsource_profile = base\nexternal_id = outside\n"
        "[profile base]\naws_access_key_id = not-a-real-id\naws_secret_access_key = not-a-real-key\n"
    )
    (tmp_path / "federation.json").write_text(json.dumps(federation(identity.url, tmp_path / "subject")))
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "none"))

    def filled(value: str) -> str:
        return value.replace("{url}", identity.url).replace("{folder}", str(tmp_path))

    for name, value in way.env.items():
        monkeypatch.setenv(name, filled(value))
    # The library reads its variable, GCE_METADATA_HOST, when it is imported.
    metadata = f"{identity.url}/computeMetadata/v1/instance/service-accounts/default/token"
    monkeypatch.setattr("gcloud.aio.auth.token.GCE_ENDPOINT_TOKEN", metadata, raising=True)
    settings = place(way.type, server) | {name: filled(value) for name, value in way.settings.items()}
    providers: list[Provider] = []

    async def opened() -> Provider:
        providers.append(await acts.opened(settings, "cloud"))
        return providers[-1]

    yield opened
    for provider in providers:
        await provider.aclose()


def place(type_: str, server: StrictServer) -> dict[str, Any]:
    match type_:
        case "s3":
            return {"type": "s3", "bucket": BUCKET, "region": "us-east-1", "endpoint_url": server.url}
        case "azure":
            account = {"account": server.azure.account.name, "endpoint_url": server.azure_url}
            return {"type": "azure", "container": BUCKET, "ca_file": server.ca_file, **account}
    return {"type": "gcs", "bucket": BUCKET, "endpoint_url": server.gcs_url}


def federation(url: str, subject: Path) -> dict[str, Any]:
    """What `gcloud iam workload-identity-pools create-cred-config` writes."""
    return {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{url}/exchange",
        "service_account_impersonation_url": f"{url}/impersonate",
        "credential_source": {"file": str(subject)},
    }


async def test_a_login_that_ends_in_mid_upload_is_renewed_and_no_part_is_lost(
    way: Way,
    server: StrictServer,
    identity: Identity,
    opened: Callable[[], Awaitable[Provider]],
    tmp_path: Path,
) -> None:
    """Every credential is good until the next is issued, and one is issued before every request."""
    identity.life = way.life
    size = 3 * PART[way.type] + 5
    (tmp_path / "a.mp4").write_bytes(bytes(size))
    provider = await opened()
    async with await OpenRecording.open(bytes(tmp_path), b"a.mp4") as recording:
        session = await provider.open(acts.spec_of(KEY, size), PART[way.type])
        if not way.renews:
            await acts.put_part(provider, session, recording, 0)
            server.s3.accounts[Identity.key_of(1)[0]].expired = True
            with pytest.raises(Fault) as ended:
                await acts.put_part(provider, session, recording, PART[way.type])
            assert (ended.value.failure, ended.value.code) == (FailureClass.PROVIDER, "ExpiredToken")
            await provider.probe()
        held = [] if way.renews else await provider.parts(session)
        parts = await acts.put_rest(provider, session, recording, held)
        before = identity.issued
        assert await provider.stat(KEY) is None
        info = await acts.complete(provider, session, parts)

    assert info.size == size
    assert provider.login == way.login
    if way.renews:
        assert identity.issued > before >= (1 if way.type == "gcs" else 4), "a session of GCS needs no login"
    taken = [entry for entry in server.log.entries(SENDS[way.type]) if entry.status < 400]
    assert len(taken) == 4, "no part was sent twice"
    for name, value in way.asked.items():
        assert identity.asked[0][1][name] == value


async def test_a_page_for_people_is_no_login(
    identity: Identity, opened: Callable[[], Awaitable[Provider]]
) -> None:
    """A proxy's, say, in the place of whatever gives logins."""
    identity.garbles = True
    provider = await opened()
    with pytest.raises(Fault) as refused:
        await provider.probe()
    assert refused.value.recognised
    identity.garbles = False

    await provider.probe()


async def test_a_login_that_is_refused_pauses_the_provider_until_it_is_not(
    way: Way, identity: Identity, opened: Callable[[], Awaitable[Provider]]
) -> None:
    identity.refuses = 403 if way.type == "s3" else 401
    provider = await opened()
    with pytest.raises(Fault) as refused:
        await provider.probe()
    assert refused.value.failure is FailureClass.PROVIDER
    assert "[providers.cloud]" in refused.value.hint
    told = f"{refused.value} {refused.value.hint}"
    assert not [secret for secret in (SUBJECT, CLIENT_SECRET, ROLE) if secret in told]
    identity.refuses = None

    await provider.probe()

    assert provider.login == way.login


@pytest.mark.parametrize("way", [WAYS[0]], ids=["s3"], indirect=True)
async def test_a_key_that_is_rotated_in_its_file_is_taken_before_the_old_one_ends(
    server: StrictServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_files, "LOOK_SECONDS", 0.0)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("first", "second"):
        server.s3.add_account(name, f"not-a-real-{name}-key")
    keys = "[default]\naws_access_key_id = {0}\naws_secret_access_key = not-a-real-{0}-key\n"
    file.write_text(keys.format("first"))
    provider = await acts.opened(place("s3", server), "cloud")
    try:
        await provider.probe()
        file.write_text(keys.format("second"))
        await provider.probe()
        server.s3.accounts["first"].expired = True

        await provider.probe()
    finally:
        await provider.aclose()
    assert [entry.status for entry in server.log.entries("UploadPart")] == [404, 404, 404]


@pytest.mark.parametrize("way", [WAYS[-2]], ids=["gcs"], indirect=True)
async def test_a_key_file_that_is_replaced_is_read_again_while_its_token_is_good(
    server: StrictServer, identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_files, "LOOK_SECONDS", 0.0)
    file, subject = tmp_path / "login.json", tmp_path / "subject"
    subject.write_text(SUBJECT)
    server.gcs.write_credentials(file)
    provider = await acts.opened(place("gcs", server) | {"credentials_file": str(file)}, "cloud")
    try:
        await provider.probe()
        assert (provider.login, identity.issued) == ("credentials file: service account key", 0)
        file.write_text(json.dumps(federation(identity.url, subject)))

        await provider.probe()
    finally:
        await provider.aclose()
    assert (provider.login, identity.issued) == ("credentials file: workload identity federation", 1)
