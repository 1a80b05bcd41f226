"""One request and its answer on a connection of aiohttp's, past its session.

The session costs three times what all beneath it costs: 82 µs of CPU a request through it, 29 from here
(Python 3.11, aiohttp 3.14.5, measured 2026-11-24), 5 of which its pool would take: so idle connections are
kept here. Connecting, DNS, TLS, proxies, parser and decompression are aiohttp's own. Three of their names
are not documented (`protocol`, `set_response_params`, `read`): `open_transport` comes here only with the
releases of aiohttp that this was tested with.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from exporter.api import transport
from exporter.api.transport import LIMITS, Connector, Response, Route, Sending, Transport

_SWITCHING_PROTOCOLS = 101


class LeanTransport(Transport):
    """Requests on connections of our own pool; made by `open_lean_transport`."""

    def __init__(self, route: Route, connector: Connector) -> None:
        super().__init__(route)
        self._connector = connector
        # Never sent: it says where to connect, by which proxy, and which headers each request has.
        self._template = aiohttp.ClientRequest(
            "GET",
            URL(route.api_url),
            headers=route.headers,
            loop=asyncio.get_running_loop(),
            proxy=None if route.proxy is None else URL(route.proxy),
        )
        self._timeout = route.timeout
        self._keepalive_s = transport.KEEPALIVE_S
        # A proxy that opens no tunnel is told the whole URL (RFC 9112, section 3.2.2).
        self._before = self.origin if route.forwards else ""
        #: The headers that each request has, as they go over the wire.
        self._headers = ""
        #: Connections that wait for a request, each with the loop's time since when; the last one is used first.
        self._idle: deque[tuple[Connection, float]] = deque()

    async def exchange(
        self, target: str, authorization: str | None, sending: Sending, body: bytes | None = None
    ) -> Response:
        """See `Transport.exchange`."""
        connection = self._kept() or await self._connect()
        sending.sent = True
        protocol, socket = connection.protocol, connection.transport
        assert protocol is not None
        assert socket is not None
        try:
            protocol.set_response_params(read_until_eof=True, **LIMITS)
            socket.write(self._request(target, authorization, body))
            while True:
                message, stream = await protocol.read()
                # Any number of them may come first (RFC 9110, section 15.2).
                if not 100 <= message.code < 200 or message.code == _SWITCHING_PROTOCOLS:
                    release = partial(self._release, connection)
                    return Response(message.code, message.headers, stream, release)
        except BaseException:
            connection.close()  # or the next request on it would be given this one's answer
            raise

    def _request(self, target: str, authorization: str | None, body: bytes | None) -> bytes:
        method = "GET" if body is None else "POST"
        own = "" if authorization is None else f"Authorization: {authorization}\r\n"
        if body is not None:
            own += f"Content-Length: {len(body)}\r\n"
        head = f"{method} {self._before}{target} HTTP/1.1\r\n{own}{self._headers}\r\n"
        return head.encode("ascii") + (body or b"")

    def _kept(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - self._keepalive_s
        while self._idle:
            connection, since = self._idle.pop()
            if since >= oldest and _is_usable(connection):
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        connection = await self._connector.connect(self._template, [], self._timeout)
        headers = self._template.headers.items()  # connecting adds the proxy's authorization
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers)
        if not _is_usable(connection):  # closed by the API between its opening and now
            connection.close()
            raise aiohttp.ServerDisconnectedError
        return connection

    def _release(self, connection: Connection) -> None:
        if self._before or not _is_usable(connection):
            connection.close()
            return
        now = asyncio.get_running_loop().time()
        self._idle.append((connection, now))
        while self._idle[0][1] < now - self._keepalive_s:
            self._idle.popleft()[0].close()

    def close(self) -> None:
        """Close the connections that are kept."""
        for connection, _ in self._idle:
            connection.close()
        self._idle.clear()


def _is_usable(connection: Connection) -> bool:
    """Tell whether a request can be sent on it, and the next bytes on it will be its answer.

    Not so where something came that nobody had asked for: HAProxy sends a 408 before it closes an idle one.
    """
    protocol = connection.protocol
    return protocol is not None and protocol.is_connected() and not protocol.should_close


@asynccontextmanager
async def open_lean_transport(route: Route) -> AsyncIterator[LeanTransport]:
    """Open the connections to an API and close them at the end."""
    connector = Connector(route)
    lean = LeanTransport(route, connector)
    try:
        # It ends what is open at once; closed one by one, TLS connections would take their time.
        async with connector:
            yield lean
    finally:
        lean.close()
