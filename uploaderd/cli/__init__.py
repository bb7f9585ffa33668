"""The command line: one module a group of commands, listed in `commands`, put together in `entry`.

Data goes to stdout, messages to stderr. What a command needs beyond typer it imports when it runs:
`status`, `list`, `history` and `why` answer within 0.3 s.
"""

import gc
import os

# Nothing that imports make, some 100,000 objects, is garbage: looking for some would be a fifth of what a
# command like `status` takes. The daemon has lower ones once it stands.
gc.set_threshold(250_000, 10, 10)

# Nor has the configuration's model anything to do with plugins that other packages bring for pydantic, which
# would look through all packages that are installed.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from uploaderd.cli.entry import main  # noqa: E402 - what it imports is meant

__all__ = ["main"]
