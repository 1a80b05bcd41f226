"""One exchange with the API: target and authorization in; status, headers and body out.

There are two ways to make it; both use aiohttp's connections, and neither sends a request again, follows a
redirect or keeps a cookie. The lean one passes aiohttp's session by, which costs three times what all beneath it
costs: 82 µs of CPU a request through it, 29 without (Python 3.11, aiohttp 3.14.5, measured 2026-11-24), 5 of which
its pool would take: so idle connections are kept here. Connecting, DNS, TLS, proxies, parser and decompression are
aiohttp's own. Three of their names are not documented (`protocol`, `set_response_params`, `read`): so it is used only
with the releases of aiohttp that it was tested with, and the session with all others.
"""

import asyncio
import os
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from ssl import SSLContext
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.client_middlewares import ClientHandlerType
from aiohttp.connector import Connection
from yarl import URL

from exporter.model.errors import TransientError
from exporter.system.log import log

#: Raised by CONTRIBUTING.md's recipe "A new release of aiohttp".
_TESTED = ("3.14.",)
#: For tests alone: `lean` or `session`, whatever aiohttp is installed.
FORCED = "EXPORTER_TEST_TRANSPORT"
#: One header line of a proxy's cookie or policy may be longer than aiohttp's 8 KiB (aiohttp #2304).
LIMITS: dict[str, Any] = {"read_bufsize": 65536, "max_line_size": 32768, "max_field_size": 32768}
# gunicorn closes idle connections after 2 s, many proxies after 5; aiohttp's own 15 s would meet them
# in the moment of closing, which costs an attempt.
KEEPALIVE_S = 4.0
# An API moves to another address within a run; a connection that fails forgets the address even sooner.
_ADDRESS_KNOWN_S = 10.0
_SWITCHING_PROTOCOLS = 101


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


@dataclass(slots=True)
class Sending:
    """Whether a request is on its way to the API; what never connected was never sent."""

    sent: bool = field(default=False, kw_only=True)


class Transport(ABC):
    """Requests to one API, each in a slot of the pace that was taken before."""

    def __init__(self, route: Route) -> None:
        url = URL(route.api_url)
        self.origin = str(url.origin())
        #: The path of the API's address, percent-encoded, without a slash at its end.
        self.base_path = url.raw_path.rstrip("/")
        self.proxied = route.proxy is not None

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


def open_transport(route: Route) -> AbstractAsyncContextManager[Transport]:
    """Open the transport for this release of aiohttp, for the length of the block."""
    kind = kind_for(aiohttp.__version__)
    log.debug("Requests go through the %s transport over aiohttp %s.", kind, aiohttp.__version__)
    return _open_lean(route) if kind == "lean" else _open_session(route)


def kind_for(release: str) -> Literal["lean", "session"]:
    """Return which transport is used with a release of aiohttp.

    >>> kind_for("3.14.5"), kind_for("3.15.0")
    ('lean', 'session')
    """
    lean = os.environ.get(FORCED, "lean" if release.startswith(_TESTED) else "") == "lean"
    return "lean" if lean else "session"


class _Addresses(aiohttp.ThreadedResolver):
    """What the system's resolver says, for a few seconds, each address in turn first.

    aiohttp's own cache cannot forget an address while somebody waits for it. Once a connection has failed, none is
    `known` any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, tuple[float, asyncio.Task[list[ResolveResult]]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        # Whoever asks meanwhile waits for the same answer.
        now = asyncio.get_running_loop().time()
        key = f"{host}:{port}"
        until, asking = self.known.get(key, (0.0, None))
        if asking is None or until < now:
            asking = asyncio.ensure_future(super().resolve(host, port, family))
            # Nobody may be left to hear what became of it.
            asking.add_done_callback(lambda done: done.cancelled() or done.exception())
            self.known[key] = now + _ADDRESS_KNOWN_S, asking
        found = await asyncio.shield(asking)
        found.append(found.pop(0))
        return found[-1:] + found[:-1]


class _Connector(aiohttp.TCPConnector):
    """Makes the connections, without a limit: each request may have its own."""

    def __init__(self, route: Route) -> None:
        self._addresses = _Addresses()
        super().__init__(
            limit=0,
            resolver=self._addresses,
            use_dns_cache=False,
            ssl=route.trust,
            force_close=route.forwards,
            keepalive_timeout=None if route.forwards else KEEPALIVE_S,
        )

    async def connect(self, *asked: Any, **more: Any) -> Connection:
        try:
            connection = await super().connect(*asked, **more)
        except Exception:
            self._addresses.known.clear()
            raise
        if (one := _under_way.get()) is not None:
            one.transport = connection.transport
        return connection


class _LeanTransport(Transport):
    """Requests on connections of our own pool."""

    def __init__(self, route: Route, connector: _Connector) -> None:
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
        self._now = asyncio.get_running_loop().time
        self._timeout = route.timeout
        self._keepalive_s = KEEPALIVE_S
        # A proxy that opens no tunnel is told the whole URL (RFC 9112, section 3.2.2).
        self._before = self.origin if route.forwards else ""
        #: The headers that each request has, as they go over the wire.
        self._headers = ""
        #: Connections that wait for a request, each with the loop's time since when; the last one is used first.
        self.idle: deque[tuple[Connection, float]] = deque()

    async def exchange(
        self, target: str, authorization: str | None, sending: Sending, body: bytes | None = None
    ) -> Response:
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
        oldest = self._now() - self._keepalive_s
        while self.idle:
            connection, since = self.idle.pop()
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
        now = self._now()
        self.idle.append((connection, now))
        while self.idle[0][1] < now - self._keepalive_s:
            self.idle.popleft()[0].close()


def _is_usable(connection: Connection) -> bool:
    """Tell whether a request can be sent on it, and the next bytes on it will be its answer.

    Not so where something came that nobody had asked for: HAProxy sends a 408 before it closes an idle one.
    """
    protocol = connection.protocol
    return protocol is not None and protocol.is_connected() and not protocol.should_close


@asynccontextmanager
async def _open_lean(route: Route) -> AsyncIterator[_LeanTransport]:
    connector = _Connector(route)
    lean = _LeanTransport(route, connector)
    try:
        # It ends what is open at once; closed one by one, TLS connections would take their time.
        async with connector:
            yield lean
    finally:
        for connection, _ in lean.idle:
            connection.close()


class _OneRequest:
    """One request on its way through the session, which must send it once and take no answer before it.

    As a middleware it sees every attempt: a session sends a request again by itself where a kept connection
    was closed. And a session takes what came on a kept connection, such as a proxy's 408 before it closes
    an idle one, for the answer to the next request. That one is there before the loop has turned once.
    """

    def __init__(self, sending: Sending) -> None:
        self._sending = sending
        self._failed: Exception | None = None
        self._may_be_answered = False
        #: What it goes over; a session gives it back to its pool as soon as an answer is whole.
        self.transport: asyncio.BaseTransport | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if self._failed is not None:
            raise self._failed
        try:
            return await handler(request)
        except Exception as error:
            self._failed = error
            raise

    def is_sent(self) -> None:
        self._sending.sent = True
        asyncio.get_running_loop().call_soon(setattr, self, "_may_be_answered", True)

    def check(self) -> None:
        """Refuse an answer that was there before the request, and never use its connection again."""
        if not self._may_be_answered and self.transport is not None:
            self.transport.close()
            raise TransientError("the connection was closed before an answer came")


#: The session's request that the connector tells what it goes over.
_under_way: ContextVar[_OneRequest | None] = ContextVar("_under_way", default=None)


class _SessionTransport(Transport):
    """Requests through a session: nothing but its documented names."""

    def __init__(self, route: Route, session: aiohttp.ClientSession) -> None:
        super().__init__(route)
        self._session = session

    async def exchange(
        self, target: str, authorization: str | None, sending: Sending, body: bytes | None = None
    ) -> Response:
        one = _OneRequest(sending)
        _under_way.set(one)
        response = await self._session.request(
            "GET" if body is None else "POST",
            self.url(target),
            headers=None if authorization is None else {"Authorization": authorization},
            data=body,
            allow_redirects=False,
            middlewares=(one,),
            trace_request_ctx=one,
        )
        one.check()
        return Response(response.status, response.headers, response.content, response.release)


async def _sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.is_sent()


@asynccontextmanager
async def _open_session(route: Route) -> AsyncIterator[_SessionTransport]:
    tells_when_sent = aiohttp.TraceConfig()
    tells_when_sent.on_request_headers_sent.append(_sent)
    async with aiohttp.ClientSession(
        connector=_Connector(route),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=route.headers,
        proxy=route.proxy,
        timeout=route.timeout,
        trace_configs=[tells_when_sent],
        **LIMITS,
    ) as session:
        yield _SessionTransport(route, session)
