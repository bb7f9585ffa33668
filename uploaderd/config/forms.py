"""The forms of what people copy from a cloud's console: a slip is told before anything is asked of the cloud.

Only what no cloud and no compatible store can mean is refused. No message quotes a value: most are secrets.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, SecretStr

from uploaderd.config.kinds import Role, Secret, Text

_REGION: Final = re.compile(r"(?![0-9]+$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_SESSION: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL: Final = re.compile(r"[\w+=,.@:/-]{1,1224}", re.ASCII)
_TENANT: Final = re.compile(r"[A-Za-z0-9.-]+")
_CONTAINER: Final = re.compile(r"[a-z0-9](?:-?[a-z0-9]){0,62}|\$root|\$web")
_KMS_KEY: Final = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")


def _like(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(what)
        return text

    return AfterValidator(check)


def _role(text: str) -> str:
    # Amazon's have an account in it, those of MinIO and Ceph need not; STS takes none below 20 characters.
    if not text.startswith("arn:") or len(text) < 20 or text.count(":") < 5:
        raise ValueError('is not a role\'s ARN, such as "arn:aws:iam::000000000000:role/uploader"')
    return text


def _connection_string(value: SecretStr) -> SecretStr:
    parts = dict(part.partition("=")[::2] for part in value.get_secret_value().split(";") if part.strip())
    if "UseDevelopmentStorage" in parts:
        return value
    if not parts.get("AccountName") and not parts.get("BlobEndpoint"):
        raise ValueError(
            'is not a connection string, such as "AccountName=...;AccountKey=...": it names no account'
        )
    if not parts.get("AccountKey") and not parts.get("SharedAccessSignature"):
        raise ValueError("has no AccountKey and no SharedAccessSignature in it")
    return value


def _sas(value: object) -> object:
    """The portal shows a SAS with a question mark, which is not part of it."""
    return value.removeprefix("?") if isinstance(value, str) else value


def _signed(value: SecretStr) -> SecretStr:
    if "sv=" not in value.get_secret_value():
        raise ValueError('is not a shared access signature, such as "sv=...&sig=...": it has no version')
    return value


Region = Annotated[Text, _like(_REGION, 'is not a region, such as "eu-central-1"')]
RoleArn = Annotated[Role, AfterValidator(_role)]
ExternalId = Annotated[Role, _like(_EXTERNAL, "must have at most 1224 letters, digits and any of _+=,.@:/-")]
SessionName = Annotated[Text, _like(_SESSION, "must have 2 to 64 letters, digits and any of _+=,.@-")]
ConnectionString = Annotated[Secret, AfterValidator(_connection_string)]
SasToken = Annotated[Secret, BeforeValidator(_sas), AfterValidator(_signed)]
Tenant = Annotated[Text, _like(_TENANT, "is not a tenant: its id, or its domain")]
Container = Annotated[
    Text,
    _like(
        _CONTAINER, "is not a container's name: small letters and digits, with single hyphens between them"
    ),
]
KmsKeyName = Annotated[Text, _like(_KMS_KEY, 'is not "projects/P/locations/L/keyRings/R/cryptoKeys/K"')]

MOST_TAGS: Final = 10


def tags_wrong(tags: dict[str, str]) -> str:
    """What is wrong with an object's tags: Amazon's limits are Azure's too; "" if nothing."""
    if len(tags) > MOST_TAGS:
        return f"are {len(tags)}, and an object takes {MOST_TAGS}"
    if any(len(name) > 128 or len(value) > 256 for name, value in tags.items()):
        return "are too long: a name takes 128 characters, a value 256"
    return ""
