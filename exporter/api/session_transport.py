"""One request and its answer through aiohttp's session: nothing but its documented names.

Used with every release of aiohttp that `lean_transport` was not tested with, at three times its cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType
from aiohttp.connector import Connection

from exporter.api.transport import LIMITS, Connector, Response, Route, Sending, Transport
from exporter.model.errors import TransientError


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
        asyncio.get_running_loop().call_soon(self._turned)

    def _turned(self) -> None:
        self._may_be_answered = True

    def check(self) -> None:
        """Refuse an answer that was there before the request, and never use its connection again."""
        if not self._may_be_answered and self.transport is not None:
            self.transport.close()
            raise TransientError("the connection was closed before an answer came")


_under_way: ContextVar[_OneRequest] = ContextVar("_under_way")


class _Connector(Connector):
    """Tells each request what it goes over."""

    async def connect(self, *asked: Any, **more: Any) -> Connection:
        connection = await super().connect(*asked, **more)
        _under_way.get().transport = connection.transport
        return connection


class SessionTransport(Transport):
    """Requests through a session; made by `open_session_transport`."""

    def __init__(self, route: Route, session: aiohttp.ClientSession) -> None:
        super().__init__(route)
        self._session = session

    async def exchange(
        self, target: str, authorization: str | None, sending: Sending, body: bytes | None = None
    ) -> Response:
        """See `Transport.exchange`."""
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
async def open_session_transport(route: Route) -> AsyncIterator[SessionTransport]:
    """Open a session for the length of the block."""
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
        yield SessionTransport(route, session)
