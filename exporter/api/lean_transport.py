"""One request and its answer, on a connection of aiohttp's.

aiohttp's session is passed by, for two reasons. It does what an export must not have: it sends a request
again by itself where a kept connection was closed, and it would keep cookies and follow redirects. And
it costs three times what all beneath it costs: 82 µs of CPU a request through it, 29 from here (Python
3.11, aiohttp 3.14.5, measured 2026-11-24), 5 of which its pool would take: so idle connections are kept
here. Connecting, DNS, TLS, proxies, parser and decompression are aiohttp's own. Three of their names are not documented (`protocol`, `set_response_params`, `read`), so
`pyproject.toml` holds aiohttp to the releases that were tested.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.connector import Connection
from aiohttp.streams import StreamReader
from yarl import URL

# One header line of a proxy's cookie or policy may be longer than aiohttp's 8 KiB (aiohttp #2304).
_LONGEST_HEADER = 32 * 1024
_READ_AT_ONCE = 64 * 1024
# gunicorn closes idle connections after 2 s, many proxies after 5; aiohttp's own 15 s would meet them
# in the moment of closing, which costs an attempt.
_KEEPALIVE_S = 4.0
_SWITCHING_PROTOCOLS = 101


class Response:
    """What came back: its status and headers, and its body as it arrives."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: StreamReader) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Wire:
    """Requests to one API; made by `open_wire`.

    Args:
        connector: Makes connections.
        template: A request to the API that is never sent: where it goes, by which proxy, with which
            headers.
        connect_s: Seconds after which a connection is given up.
    """

    def __init__(
        self, connector: aiohttp.BaseConnector, template: aiohttp.ClientRequest, connect_s: float
    ) -> None:
        self._connector = connector
        self._template = template
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_s, ceil_threshold=connect_s)
        self._origin = str(template.url.origin())
        #: The path of the API's address, percent-encoded, without a slash at its end.
        self.base_path = template.url.raw_path.rstrip("/")
        # A proxy that opens no tunnel is told the whole URL (RFC 9112, section 3.2.2).
        self._before = self._origin if template.proxy and not template.is_ssl() else ""
        self._lines = ""
        self._lines_count = 0
        #: Connections that wait for a request, each with the loop's time since when; the last one is used first.
        self._idle: deque[tuple[Connection, float]] = deque()

    def url(self, target: str) -> URL:
        """Return where a target points."""
        return URL(self._origin + target, encoded=True)

    async def connect(self) -> Connection:
        """Return a connection for one request, kept or new; `release` it when its answer is read.

        Raises:
            aiohttp.ClientError, TimeoutError: There is none.
        """
        oldest = asyncio.get_running_loop().time() - _KEEPALIVE_S
        while self._idle:
            connection, since = self._idle.pop()
            if since >= oldest and _is_usable(connection):
                return connection
            connection.close()
        connection = await self._connector.connect(self._template, [], self._timeout)
        if not _is_usable(connection):  # closed by the API between its opening and now
            connection.close()
            raise aiohttp.ServerDisconnectedError
        return connection

    def release(self, connection: Connection) -> None:
        """Keep a connection for the next request, or close it where its answer was not read to the end."""
        if not _is_usable(connection):
            connection.close()
            return
        now = asyncio.get_running_loop().time()
        self._idle.append((connection, now))
        while self._idle[0][1] < now - _KEEPALIVE_S:
            self._idle.popleft()[0].close()

    def close(self) -> None:
        """Let go of the connections that are kept."""
        for connection, _ in self._idle:
            connection.close()
        self._idle.clear()

    async def get(self, connection: Connection, target: str, authorization: str) -> Response:
        """Send a GET and return its answer as soon as its head is there.

        Args:
            connection: From `connect`. It is closed on any failure.
            target: Path and query, percent-encoded.
            authorization: The header's value.

        Raises:
            aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError: There was no answer.
        """
        head = (
            f"GET {self._before}{target} HTTP/1.1\r\nAuthorization: {authorization}\r\n{self._headers()}\r\n"
        )
        return await self._exchange(connection, head.encode("ascii"))

    async def post(self, connection: Connection, target: str, body: bytes) -> Response:
        """Send a POST without a token; else as `get`."""
        head = f"POST {self._before}{target} HTTP/1.1\r\nContent-Length: {len(body)}\r\n{self._headers()}\r\n"
        return await self._exchange(connection, head.encode("ascii") + body)

    def _headers(self) -> str:
        """Return the lines of the headers that are the same for each request."""
        headers = self._template.headers
        if self._lines_count != len(headers):  # connecting adds the proxy's authorization
            self._lines_count = len(headers)
            self._lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return self._lines

    async def _exchange(self, connection: Connection, request: bytes) -> Response:
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None
        assert transport is not None
        try:
            protocol.set_response_params(
                read_until_eof=True,
                read_bufsize=_READ_AT_ONCE,
                max_line_size=_LONGEST_HEADER,
                max_field_size=_LONGEST_HEADER,
            )
            transport.write(request)
            while True:
                message, body = await protocol.read()
                # Any number of them may come first (RFC 9110, section 15.2).
                if not 100 <= message.code < 200 or message.code == _SWITCHING_PROTOCOLS:
                    return Response(message.code, message.headers, body)
        except BaseException:
            connection.close()  # or the next request on it would be given this one's answer
            raise


def _is_usable(connection: Connection) -> bool:
    """Tell whether a request can be sent on it, and the next bytes on it will be its answer.

    Not so where something came that nobody had asked for: HAProxy sends a 408 before it closes an idle one.
    """
    protocol = connection.protocol
    return protocol is not None and protocol.is_connected() and not protocol.should_close


@asynccontextmanager
async def open_wire(
    api_url: str,
    headers: Mapping[str, str],
    *,
    connect_s: float,
    trust: ssl.SSLContext | bool = True,
    proxy: str | None = None,
) -> AsyncIterator[Wire]:
    """Open the connections to an API and close them at the end.

    Args:
        api_url: The API's base URL.
        headers: What every request carries, besides `Host` and `Accept-Encoding`.
        connect_s: Seconds after which a connection is given up.
        trust: Whose certificates to believe; True for those that this machine believes.
        proxy: URL of an HTTP proxy.
    """
    # Its limit is for those who share its pool; here there are as many connections as requests at one time.
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, ssl=trust)
    template = aiohttp.ClientRequest(
        "GET",
        URL(api_url),
        headers=headers,
        loop=asyncio.get_running_loop(),
        proxy=None if proxy is None else URL(proxy),
    )
    wire = Wire(connector, template, connect_s)
    try:
        # It ends what is open at once; closed one by one, TLS connections would take their time.
        async with connector:
            yield wire
    finally:
        wire.close()
