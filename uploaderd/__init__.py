"""uploaderd: every finished recording, at every provider, proven, before the local file goes."""

__version__ = "0.1.0"
