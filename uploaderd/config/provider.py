"""The providers: one class per type, chosen by its `type`."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from uploaderd.config.bandwidth import Bandwidth
from uploaderd.config.forms import (
    ConnectionString,
    Container,
    ExternalId,
    KmsKeyName,
    Region,
    RoleArn,
    SasToken,
    SessionName,
    Tenant,
    tags_wrong,
)
from uploaderd.config.kinds import (
    BandwidthLimit,
    Count,
    CountOrOff,
    Flag,
    LocalPath,
    PositiveSeconds,
    ProxyUrl,
    SecondsOrOff,
    Secret,
    SecretPath,
    SizeOrAuto,
    Table,
    Text,
    Url,
)
from uploaderd.config.units import format_size

Contradiction = tuple[str, str]
"""A key of the table, and what is wrong with it beside the others."""

_KIB: Final = 2**10
_MIB: Final = 2**20
_GIB: Final = 2**30


def _prefix(text: str) -> str:
    if text.strip("/") and any(part in ("", ".", "..") for part in text.strip("/").split("/")):
        raise ValueError("must have no empty, '.' or '..' component")
    return text.strip("/")


def _bucket(text: str) -> str:
    # Not the full rules of each cloud: compatible stores have laxer ones, and the provider says the rest.
    if re.search(r"[/\s]|^\w+:/", text) and not text.startswith("arn:"):
        raise ValueError('is the name alone, such as "recordings": no scheme, no folder (that is `prefix`)')
    return text


Bucket = Annotated[Text, AfterValidator(_bucket)]


class AnyProvider(Table):
    """What every provider has."""

    enabled: Flag = Field(True, description="Whether it is used. What is not yet there stays waiting.")
    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        "", description="Goes before every key, with a `/` between."
    )
    on_conflict: Literal["suffix", "fail", "overwrite"] = Field(
        "suffix",
        description="Another object has the key: `suffix` (made from the content), `fail` or `overwrite`.",
    )
    on_new_version: Literal["keep-both", "replace"] = Field(
        "keep-both", description="A recording's content changed after it was sent: `keep-both` or `replace`."
    )
    max_uploads: Annotated[Count, Field(ge=1, le=256)] = Field(
        4, description="Recordings sent at the same time."
    )
    max_parts: Annotated[Count, Field(ge=1, le=256)] = Field(
        4, description="Parts of one recording sent at the same time, where the provider allows it."
    )
    part_size: SizeOrAuto = Field(
        None, description="Size of a part. `auto`: 16MiB, fitted to the file and to the speed of the link."
    )
    auto_upload: Flag = Field(
        True, description="Send whatever is queued. `false`: only what `uploaderd ensure` asks for."
    )
    attempt_timeout: SecondsOrOff = Field(
        None, description="An attempt that takes longer is ended; the next goes on from its parts. Or `off`."
    )
    retry_delay: PositiveSeconds = Field(
        1.0,
        description="The pause after a failed attempt is at random up to this, twice as long each time,"
        " up to 5m.",
    )
    trouble_after: CountOrOff = Field(
        None,
        description="After so many failures in a row (or probes of a provider that is down) an upload"
        " makes the word FAILING; it is still tried again. Or `off`.",
    )
    bandwidth: BandwidthLimit = Field(
        Bandwidth(),
        description="Limit for this provider: a rate, or a table by local time of day. Or `unlimited`.",
    )
    public_url: Url | None = Field(
        None, description="Objects can be read at this address plus key: URLs are then plain, not signed."
    )

    PART_SIZES: ClassVar[tuple[int, int, int]] = (1, 2**63 - 1, 1)
    """Smallest and largest part that the protocol takes, and what its size must be a multiple of."""

    @property
    @abstractmethod
    def target(self) -> str:
        """Which place the name stands for; no secret. Two names for one place are one copy, not two."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Keys that are fine by themselves but not together."""
        smallest, largest, multiple = self.PART_SIZES
        if self.part_size is not None:
            if not smallest <= self.part_size <= largest:
                yield "part_size", f'must be from "{format_size(smallest)}" to "{format_size(largest)}"'
            if self.part_size % multiple:
                yield "part_size", f'must be a multiple of "{format_size(multiple)}"'

    def lacks(self) -> Iterator[Contradiction]:
        """What is not there though another key needs it.

        Apart from `contradictions`, because secrets may come from the daemon's own surroundings: a
        person's `uploaderd status` reads the same file and must not fail for want of them.
        """
        return iter(())


class AnyCloud(AnyProvider):
    """What every provider that is reached over HTTP has."""

    endpoint_url: Url | None = Field(
        None, description="Where the service is, if not at its vendor's own address."
    )
    proxy: ProxyUrl | None = Field(None, description="An HTTP proxy for this provider: `http://host:port`.")
    ca_file: SecretPath | None = Field(
        None, description="Certificates (PEM) to trust instead of the system's."
    )


class S3Provider(AnyCloud):
    """A bucket of S3 or of a store that speaks its protocol."""

    PART_SIZES = (5 * _MIB, 5 * _GIB, 1)

    type: Literal["s3"] = Field(description="`s3`.")
    bucket: Bucket = Field(description="The bucket's name.")
    region: Region | None = Field(None, description="The bucket's region. Default: as the login says.")
    addressing: Literal["auto", "path", "virtual"] = Field(
        "auto",
        description="The bucket in the URL: `path` (after the host), `virtual` (before it), or `auto`.",
    )
    profile: Text | None = Field(None, description="Login: a profile of the AWS configuration files.")
    access_key_id: Text | None = Field(None, description="Login: the key's id.")
    secret_access_key: Secret | None = Field(None, description="Login: the key's secret.")
    session_token: Secret | None = Field(None, description="Login: the token of a temporary key.")
    assume_role_arn: RoleArn | None = Field(
        None, repr=False, description="A role to take on after the login; it is refreshed."
    )
    external_id: ExternalId | None = Field(
        None, repr=False, description="The external id that the role asks for."
    )
    role_session_name: SessionName | None = Field(
        None, description="The session's name in the role's audit log."
    )
    storage_class: Text | None = Field(None, description="The objects' storage class, such as `STANDARD_IA`.")
    sse: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        None, description="Encryption at rest: `AES256`, `aws:kms` or `aws:kms:dsse`. Default: the bucket's."
    )
    kms_key_id: Text | None = Field(None, description="The KMS key for `sse`.")
    tags: dict[Text, str] = Field({}, description="Tags that each object gets.")
    lock_mode: Literal["governance", "compliance"] | None = Field(
        None,
        description="Object lock: `governance` or `compliance`. A copy counts once its retention reads back.",
    )
    retain_for: SecondsOrOff = Field(None, description="Object lock: how long from the upload on. Or `off`.")
    legal_hold: Flag = Field(False, description="Object lock: put a legal hold on each object.")
    checksum: Literal["auto", "crc64nvme", "crc32c", "md5", "none"] = Field(
        "auto",
        description="What the store is asked to check: `crc64nvme` or `crc32c` of the whole object, `md5`"
        " of each request, `none`, or `auto` to find out.",
    )

    @property
    def target(self) -> str:
        return f"s3://{self.bucket}" + (f" at {self.endpoint_url}" if self.endpoint_url else "")

    def contradictions(self) -> Iterator[Contradiction]:
        yield from super().contradictions()
        if self.profile and self.access_key_id:
            yield "profile", "two logins; keep either profile or access_key_id and its secret"
        for key in ("external_id", "role_session_name"):
            if getattr(self, key) and not self.assume_role_arn:
                yield key, "belongs to a role; set assume_role_arn, or take it out"
        if self.kms_key_id and self.sse not in ("aws:kms", "aws:kms:dsse"):
            yield "kms_key_id", 'is used only with sse = "aws:kms" (or "aws:kms:dsse")'
        if (self.lock_mode is None) != (self.retain_for is None):
            yield (
                ("lock_mode" if self.retain_for is None else "retain_for"),
                "lock_mode and retain_for need each other",
            )
        if wrong := tags_wrong(self.tags):
            yield "tags", wrong
        if self.checksum == "none" and (self.lock_mode or self.legal_hold):
            yield "checksum", 'must not be "none": object lock takes no content without a checksum'

    def lacks(self) -> Iterator[Contradiction]:
        if self.access_key_id and not self.secret_access_key:
            yield "secret_access_key", "is missing beside access_key_id"
        if (self.secret_access_key or self.session_token) and not self.access_key_id:
            yield "access_key_id", "is missing beside the secret"


class AzureProvider(AnyCloud):
    """A container of Azure Blob Storage."""

    PART_SIZES = (1, 4_000 * _MIB, 1)

    type: Literal["azure"] = Field(description="`azure`.")
    container: Container = Field(description="The container's name.")
    account: Text | None = Field(None, description="The storage account's name.")
    connection_string: ConnectionString | None = Field(
        None, description="Login: a connection string; it names the account too."
    )
    account_key: Secret | None = Field(None, description="Login: a key of the account.")
    sas_token: SasToken | None = Field(None, description="Login: a shared access signature.")
    tenant_id: Tenant | None = Field(None, description="Login by Entra ID: the tenant.")
    client_id: Text | None = Field(
        None, description="Login by Entra ID: the application, or the user-assigned managed identity."
    )
    client_secret: Secret | None = Field(None, description="Login by Entra ID: the application's secret.")
    tier: Literal["hot", "cool", "cold", "archive"] | None = Field(
        None, description="Access tier: `hot`, `cool`, `cold` or `archive`. Default: the account's."
    )
    tags: dict[Text, str] = Field({}, description="Blob index tags that each object gets.")

    @property
    def target(self) -> str:
        return f"azure://{self._account()}/{self.container}" + (
            f" at {self.endpoint_url}" if self.endpoint_url else ""
        )

    def _account(self) -> str:
        """The account's name, from the connection string if that is where it is; it is not a secret."""
        if self.account:
            return self.account
        endpoint = self._in_connection_string("BlobEndpoint")
        return self._in_connection_string("AccountName") or endpoint.partition("?")[0] or "unnamed"

    def _in_connection_string(self, name: str) -> str:
        """What the connection string says of the account; "" if it does not, or if there is none."""
        string = self.connection_string.get_secret_value() if self.connection_string else ""
        return dict(part.partition("=")[::2] for part in string.split(";")).get(name, "")

    def contradictions(self) -> Iterator[Contradiction]:
        yield from super().contradictions()
        entra = any((self.tenant_id, self.client_id, self.client_secret))
        logins = [key for key in ("connection_string", "account_key", "sas_token") if getattr(self, key)]
        logins += ["client_id"] if entra else []
        if len(logins) > 1:
            yield logins[1], "several logins (" + ", ".join(logins) + "); keep one"
        named = self._in_connection_string("AccountName")
        if self.account and named and self.account.lower() != named.lower():
            yield "account", "is another one than the connection string names; keep one"
        if self.connection_string and self.endpoint_url:
            yield "endpoint_url", "the connection string names the endpoint already; keep one"
        if wrong := tags_wrong(self.tags):
            yield "tags", wrong

    def lacks(self) -> Iterator[Contradiction]:
        if not (self.account or self.connection_string or self.endpoint_url):
            yield "account", "is missing (or a connection_string, which names the account too)"
        by_key = self.connection_string or self.account_key or self.sas_token
        if not by_key and (self.endpoint_url or "").startswith("http:"):
            yield "endpoint_url", "must be https: no token is sent in the clear (or give an account_key)"
        if self.account_key and not self.account:
            yield "account", "is missing beside account_key"
        if self.client_secret and not (self.tenant_id and self.client_id):
            yield "client_secret", "needs tenant_id and client_id beside it"
        if self.tenant_id and not self.client_id:
            yield "client_id", "is missing beside tenant_id"


class GcsProvider(AnyCloud):
    """A bucket of Google Cloud Storage."""

    PART_SIZES = (256 * _KIB, 5 * 2**40, 256 * _KIB)

    type: Literal["gcs"] = Field(description="`gcs`.")
    bucket: Bucket = Field(description="The bucket's name.")
    credentials_file: SecretPath | None = Field(
        None,
        description="Login: a key file, or a workload identity configuration. Default: application default.",
    )
    anonymous: Flag = Field(False, description="No login at all.")
    storage_class: Text | None = Field(None, description="The objects' storage class, such as `NEARLINE`.")
    kms_key_name: KmsKeyName | None = Field(
        None, description="The customer-managed key, `projects/.../cryptoKeys/...`."
    )

    @property
    def target(self) -> str:
        return f"gs://{self.bucket}" + (f" at {self.endpoint_url}" if self.endpoint_url else "")

    def contradictions(self) -> Iterator[Contradiction]:
        yield from super().contradictions()
        if self.anonymous and self.credentials_file:
            yield "anonymous", "excludes credentials_file; keep one"


class DirectoryProvider(AnyProvider):
    """A directory of another disk or of a mounted network file system."""

    type: Literal["directory"] = Field(description="`directory`.")
    path: LocalPath = Field(description="The directory that the copies go into.")
    require_mount: Flag = Field(
        False, description="Pause while nothing is mounted at `path` or above it (but `/`)."
    )
    same_device_counts: Flag = Field(
        False, description="Let a copy on the source's own device count as one that permits deletion."
    )

    @property
    def target(self) -> str:
        return f"file://{self.path}"


Provider = S3Provider | AzureProvider | GcsProvider | DirectoryProvider
