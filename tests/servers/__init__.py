"""Real servers for tests, each a process of its own on a free port of 127.0.0.1.

    with moto.running() as server:
        ...                      # a client at server.url

What each of them gets wrong is why there is a strict endpoint beside them (`tests/strict`).
"""

from tests.needs import MissingError
from tests.servers.process import ServerError

__all__ = ["MissingError", "ServerError"]
