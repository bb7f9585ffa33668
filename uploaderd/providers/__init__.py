"""The providers, one file each; which one a configuration means is decided here and nowhere else."""

from __future__ import annotations

from uploaderd.config import AzureProvider, ConfigError, DirectoryProvider, GcsProvider, S3Provider
from uploaderd.config import Provider as ProviderConfig
from uploaderd.errors import Fault
from uploaderd.model import FailureClass
from uploaderd.provider import Provider


async def open_provider(name: str, config: ProviderConfig, *, expect_marker: bool = False) -> Provider:
    """The provider of that name and configuration. Its library is imported only now.

    Nothing at the target is asked for: a refused login or a missing bucket shows at the first call.
    `expect_marker`: the ledger remembers that the provider was used before, so a directory without
    its marker is a missing mount, and not a folder that is new (see `directory`).

    Raises:
        Fault: class provider: the library that the type needs is not installed, or refuses a value of
            the configuration. The others go on meanwhile.
    """
    try:
        match config:
            case S3Provider():
                from uploaderd.providers import s3

                return await s3.connect(name, config)
            case AzureProvider():
                from uploaderd.providers import azure

                return await azure.connect(name, config)
            case GcsProvider():
                from uploaderd.providers import gcs

                return await gcs.connect(name, config)
            case DirectoryProvider():
                from uploaderd.providers import directory

                return await directory.connect(name, config, expect_marker=expect_marker)
    except ModuleNotFoundError as error:
        raise Fault(
            f"type = {config.type!r} needs the Python module {error.name!r}, which is not installed",
            failure=FailureClass.PROVIDER,
            code="NotInstalled",
            hint="install uploaderd again, with its dependencies: pip install --force-reinstall uploaderd",
        ) from error
    except ConfigError as error:
        raise Fault(
            "; ".join(error.faults),
            failure=FailureClass.PROVIDER,
            code="Configuration",
            hint=f"correct [providers.{name}]; then systemctl reload uploaderd (SIGHUP)",
        ) from error
