"""What the person who runs uploaderd has decided, checked and with units.

    config = load(None)                      # looks where DESIGN says, raises ConfigError
    config.sources["cameras"].quiet_time(lease=True, network=False)
    config.required_for("cameras").count

The tables and their keys are in `tables`, `source`, `provider` and `telling`; where values come from in
`layers` and `load`; what cannot be together in `contradictions`.
"""

from __future__ import annotations

from uploaderd.config.bandwidth import Bandwidth, Window
from uploaderd.config.errors import ConfigError, NoConfigurationError
from uploaderd.config.load import load
from uploaderd.config.provider import AzureProvider, DirectoryProvider, GcsProvider, Provider, S3Provider
from uploaderd.config.show import effective, text
from uploaderd.config.source import Cleanup, Source
from uploaderd.config.tables import Daemon, Ledger, Web
from uploaderd.config.telling import Heartbeat, Webhook
from uploaderd.config.whole import Config, Requirement

__all__ = [
    "AzureProvider",
    "Bandwidth",
    "Cleanup",
    "Config",
    "ConfigError",
    "Daemon",
    "DirectoryProvider",
    "GcsProvider",
    "Heartbeat",
    "Ledger",
    "NoConfigurationError",
    "Provider",
    "Requirement",
    "S3Provider",
    "Source",
    "Web",
    "Webhook",
    "Window",
    "effective",
    "load",
    "text",
]
