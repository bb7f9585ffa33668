"""The library's connections, asked directly.

What the library does for each request beside sending it (dressing the headers twice, copying those of the
answer, some switches of its own) costs as much as signing it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from yarl import URL

from uploaderd.providers.s3_body import Sending

Answer = tuple[int, Mapping[str, str], bytes]
"""Status, headers (their names in lower case), body."""

_PLAIN: Final = {"accept-encoding": "identity"}
"""Objects and errors come as they are stored, and their length is the content's."""


class Connections(AIOHTTPSession):  # type: ignore[misc]  # it ships no types
    """What the library opens for a client whose configuration names this class (`http_session_cls`).

    Pool, TLS, proxy and time limits are its own, and the same for its requests and for ours.
    """

    async def ask(self, method: str, url: str, headers: Mapping[str, str], body: Sending | bytes) -> Answer:
        """One request, tried once. `url` is encoded; `body` is streamed.

        Raises:
            BotoCoreError: as from the library's own requests.
        """
        # It goes by the scheme alone, and remembers what it took apart: each key is another address.
        proxy = self._proxy_config.proxy_url_for(url.partition("/")[0])
        with _as_the_library_says(url, proxy):
            session = await self._get_session(proxy)
            async with session.request(
                method,
                URL(url, encoded=True),
                headers={**headers, **_PLAIN},
                data=body,
                proxy=proxy,
                proxy_headers=self._proxy_config.proxy_headers_for(url) if proxy else None,
                allow_redirects=False,
            ) as reply:
                content = await reply.read()
                return reply.status, {name.lower(): value for name, value in reply.headers.items()}, content


@contextmanager
def _as_the_library_says(url: str, proxy: str | None) -> Iterator[None]:
    """Its exceptions for aiohttp's (aiobotocore/httpsession.py, `AIOHTTPSession.send`)."""
    try:
        yield
    except aiohttp.ClientSSLError as error:
        raise SSLError(endpoint_url=url, error=error) from error
    except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError) as error:
        # The proxy's address may hold a password.
        raise ProxyConnectionError(proxy_url=str(URL(proxy or "").with_user(None)), error=error) from error
    except aiohttp.ServerTimeoutError as error:
        slow = ConnectTimeoutError if isinstance(error, aiohttp.ConnectionTimeoutError) else ReadTimeoutError
        raise slow(endpoint_url=url, error=error) from error
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as error:
        raise ConnectionClosedError(endpoint_url=url, error=error) from error
    except (aiohttp.ClientConnectionError, socket.gaierror) as error:
        raise EndpointConnectionError(endpoint_url=url, error=error) from error
    except TimeoutError as error:
        raise ReadTimeoutError(endpoint_url=url, error=error) from error
    except Exception as error:
        raise HTTPClientError(error=error) from error
