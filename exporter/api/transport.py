"""One exchange with the API: target and authorization in; status, headers and body out.

There are two ways to make it, `lean_transport` and `session_transport`; both stand on aiohttp's connections,
and neither sends a request again, follows a redirect or keeps a cookie.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, NamedTuple

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.connector import Connection
from yarl import URL

#: One header line of a proxy's cookie or policy may be longer than aiohttp's 8 KiB (aiohttp #2304).
LIMITS: dict[str, Any] = {"read_bufsize": 65536, "max_line_size": 32768, "max_field_size": 32768}
# gunicorn closes idle connections after 2 s, many proxies after 5; aiohttp's own 15 s would meet them
# in the moment of closing, which costs an attempt.
KEEPALIVE_S = 4.0
# An API moves to another address within a run; a connection that fails forgets the address even sooner.
_ADDRESS_KNOWN_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Route:
    """How the API is reached.

    Every request carries `headers`, besides `Host` and `Accept-Encoding`. `trust` says whose certificates to
    believe; True for those that this machine believes.
    """

    api_url: str
    headers: Mapping[str, str]
    connect_s: float
    trust: SSLContext | bool = True
    proxy: str | None = None

    @property
    def forwards(self) -> bool:
        """Whether a proxy reads each request; tinyproxy closes the connection after it without saying so."""
        return self.proxy is not None and self.api_url.lower().startswith("http:")

    @property
    def timeout(self) -> aiohttp.ClientTimeout:
        """For connecting alone: an attempt has its own deadline."""
        return aiohttp.ClientTimeout(total=None, connect=self.connect_s, ceil_threshold=self.connect_s)


class Response(NamedTuple):
    """What came back: its status and headers, and its body as it arrives, decoded.

    `release`, to be called once, keeps the connection for the next request, or closes it where the body was
    not read to its end.
    """

    status: int
    headers: Mapping[str, str]
    body: aiohttp.StreamReader
    release: Callable[[], object]


class Sending:
    """Whether a request is on its way to the API; what never connected was never sent."""

    sent = False


class Transport(ABC):
    """Requests to one API, each in a slot of the pace that was taken before."""

    def __init__(self, route: Route) -> None:
        url = URL(route.api_url)
        self.origin = str(url.origin())
        #: The path of the API's address, percent-encoded, without a slash at its end.
        self.base_path = url.raw_path.rstrip("/")

    def url(self, target: str) -> URL:
        """Return where a target points."""
        return URL(self.origin + target, encoded=True)

    @abstractmethod
    async def exchange(
        self, target: str, authorization: str | None, sending: Sending, body: bytes | None = None
    ) -> Response:
        """Send one request, once, and return its answer as soon as its head is there; a body makes it a POST.

        `target` is its path and query, percent-encoded; `authorization` the header's value.

        Raises:
            aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError, TimeoutError: There was no answer.
            TransientError: There was none, and aiohttp wanted to send the request again.
        """


class Addresses(aiohttp.ThreadedResolver):
    """What the system's resolver says, for a few seconds, each address in turn first.

    aiohttp's own cache cannot forget an address while somebody waits for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, tuple[float, asyncio.Task[list[ResolveResult]]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host; whoever asks meanwhile waits for the same answer."""
        now = asyncio.get_running_loop().time()
        key = f"{host}:{port}"
        until, asking = self._known.get(key, (0.0, None))
        if asking is None or until < now:
            asking = asyncio.ensure_future(super().resolve(host, port, family))
            self._known[key] = now + _ADDRESS_KNOWN_S, asking
        found = await asyncio.shield(asking)
        found.append(found.pop(0))
        return found[-1:] + found[:-1]

    def forget(self) -> None:
        """Ask the system again for the next connection: one has failed."""
        self._known.clear()


class Connector(aiohttp.TCPConnector):
    """Makes the connections, without a limit: each request may have its own."""

    def __init__(self, route: Route) -> None:
        self._addresses = Addresses()
        super().__init__(
            limit=0,
            resolver=self._addresses,
            use_dns_cache=False,
            ssl=route.trust,
            force_close=route.forwards,
            keepalive_timeout=None if route.forwards else KEEPALIVE_S,
        )

    async def connect(self, *asked: Any, **more: Any) -> Connection:
        """Return a connection that is kept, or a new one."""
        try:
            return await super().connect(*asked, **more)
        except Exception:
            self._addresses.forget()
            raise
