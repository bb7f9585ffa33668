"""The plain, unsigned address of an object, from its provider's configuration and its key.

Pure: `status` and `list` show addresses without loading a cloud library. Whoever has logged in knows
more (`region` of a login's profile) and may say so.
"""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import quote, urlsplit

from uploaderd.config import AzureProvider, DirectoryProvider, GcsProvider, Provider, S3Provider

GCS: Final = "https://storage.googleapis.com"
AZURE_SUFFIX: Final = "core.windows.net"


def address(config: Provider, key: str, *, region: str | None = None) -> str | None:
    """Where the object can be asked for; at `public_url`, if the configuration has one.

    Args:
        config: the provider's table.
        key: the object's key, prefix included.
        region: of an S3 bucket, if the login tells it and the configuration does not.

    None where only a secret would tell: an Azure account that the connection string alone names, asked
    for by somebody who has not got that.
    """
    if config.public_url is not None:
        return f"{config.public_url}/{quote(key, safe='/~')}"
    match config:
        case S3Provider():
            return _s3(config, key, config.region or region)
        case AzureProvider():
            service = _azure_service(config)
            return service and f"{service}/{quote(config.container, safe='$')}/{quote(key, safe='/~')}"
        case GcsProvider():
            return f"{config.endpoint_url or GCS}/{quote(config.bucket)}/{quote(key, safe='/~')}"
        case DirectoryProvider():
            # Joined as bytes: a Path would fold what the key does not.
            return "file://" + quote(os.fsencode(config.path) + b"/" + key.encode("utf-8", "surrogateescape"))


def container(config: Provider) -> str:
    """What holds the provider's objects: bucket, container or folder."""
    match config:
        case S3Provider() | GcsProvider():
            return config.bucket
        case AzureProvider():
            return config.container
        case DirectoryProvider():
            return str(config.path)


def _s3(config: S3Provider, key: str, region: str | None) -> str:
    # Without a region, Amazon's address for all of them: it redirects to the bucket's own.
    suffix = "amazonaws.com.cn" if region and region.startswith("cn-") else "amazonaws.com"
    amazon = f"https://s3.{region}.{suffix}" if region else f"https://s3.{suffix}"
    base = config.endpoint_url or amazon
    path = quote(key, safe="/~")
    # "auto" as botocore has it: before the host only at Amazon, and only where the certificate fits.
    inside = not config.endpoint_url and "." not in config.bucket
    if config.addressing == "path" or (config.addressing == "auto" and not inside):
        return f"{base}/{quote(config.bucket)}/{path}"
    parts = urlsplit(base)
    return f"{parts.scheme}://{config.bucket}.{parts.netloc}{parts.path}/{path}"


def _azure_service(config: AzureProvider) -> str | None:
    """The account's address, as the connection string or the endpoint has it."""
    if config.endpoint_url is not None:
        return config.endpoint_url
    string = config.connection_string.get_secret_value() if config.connection_string is not None else ""
    said = dict(part.partition("=")[::2] for part in string.split(";"))
    if "BlobEndpoint" in said:
        return said["BlobEndpoint"].partition("?")[0].rstrip("/")  # behind the mark stands a signature
    scheme = said.get("DefaultEndpointsProtocol", "https")
    account = config.account or said.get("AccountName")
    return f"{scheme}://{account}.blob.{said.get('EndpointSuffix', AZURE_SUFFIX)}" if account else None
