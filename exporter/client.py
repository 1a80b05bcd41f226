"""One attempt: one paced GET, one payload or one of our errors.

Every request that reaches the wire takes a slot of the pace and is counted, also the one that aiohttp
sends again by itself when a kept-alive connection was dropped: a client middleware sees each of them.
aiohttp's own exceptions are translated at one door, `_failure`.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from exporter import __version__
from exporter.errors import (
    ApiUnavailableError,
    BadResponseError,
    PermanentError,
    ThrottledError,
    TokenRefusedError,
    TransientError,
    UsageError,
)
from exporter.identity import Identity
from exporter.options import MAX_PAYLOAD_BYTES, MIB, Options
from exporter.pace import Pace
from exporter.payload import check
from exporter.rate import parse_retry_after
from exporter.records import Answer, Traffic
from exporter.statistics import Statistics

T = TypeVar("T")

ORDERS_PATH = "/api/i1/orders/"
_REDIRECTS = (301, 302, 303, 307, 308)
_REASON_BY_STATUS = {403: "forbidden", 404: "not_found"}
# Bodies beyond this are read one at a time: 32 of 32 MiB at once would be a gigabyte of memory.
_LARGE_BYTES = MIB
_DRAINED_BYTES = 64 * 1024
# One header line of a proxy's cookie or policy may be longer than aiohttp's 8 KiB (aiohttp #2304).
_LONGEST_HEADER = 32 * 1024
# gunicorn closes idle connections after 2 s, many proxies after 5; aiohttp's own 15 s would meet them
# in the moment of closing, which costs a resend.
_KEEPALIVE_S = 4.0


class _Wire:
    """What one attempt has put on the wire so far, and its deadline."""

    __slots__ = ("deadline", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.deadline: asyncio.Timeout | None = None


_wire: ContextVar[_Wire] = ContextVar("wire")


class _SlashLearnedError(Exception):
    """Raised when the API answered that it wants its order paths to end in a slash."""


class Client:
    """The API as the rest of the program sees it; made by `open_client`.

    Args:
        session: An aiohttp session that speaks for us alone.
        options: What the export is asked to do.
        pace: Gives a slot for each request.
        identity: The token, and how to get a new one.
        statistics: Told of each answer.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        options: Options,
        pace: Pace,
        identity: Identity,
        statistics: Statistics,
    ) -> None:
        self._session = session
        self._pace = pace
        self._identity = identity
        self._statistics = statistics
        self._timeout_s = options.timeout_s
        self._orders_url = options.api_url + ORDERS_PATH
        self._slash = ""
        self._one_large_body = asyncio.Semaphore(1)
        self._sent = self._retried = self._throttled = self._redirected = 0
        self._in_flight = 0
        self._draining = False

    async def drain(self, grace_s: float) -> None:
        """Start no request any more, and wait until those in flight have arrived.

        Args:
            grace_s: Return after that many seconds, whatever is still in flight.
        """
        self._draining = True
        deadline = time.monotonic() + grace_s
        while self._in_flight and time.monotonic() < deadline:  # noqa: ASYNC110 - once a run; an event would cost each request
            await asyncio.sleep(0.02)

    @property
    def traffic(self) -> Traffic:
        """Requests that reached the wire since this client was made."""
        return Traffic(self._sent, self._retried, self._throttled, self._redirected)

    async def fetch(self, order_number: str, attempt: int) -> Answer:
        """Ask once for an order.

        Args:
            order_number: The number as the input has it.
            attempt: Which attempt for this order, from 1; for counting only.

        Returns:
            The payload, checked to be this order's.

        Raises:
            AttemptError: One of its children, which says whether asking again may help.
            TokenRefusedError: The API answered 401.
            ApiUnavailableError: The API's certificate is refused, or it asks for too long a wait.
        """

        async def read(response: ClientResponse) -> Answer:
            payload = await self._body(response)
            return Answer(payload, check(payload, order_number))

        path = self._orders_url + quote(order_number, safe="")
        try:
            return await self._ask(path + self._slash, attempt, read)
        except _SlashLearnedError:
            return await self._ask(path + self._slash, attempt, read)

    async def page(self, url: str, attempt: int) -> bytes:
        """Ask once for a page of the order list and return its body; errors as for `fetch`."""
        return await self._ask(url, attempt, self._body)

    async def _ask(self, url: str, attempt: int, read: Callable[[ClientResponse], Awaitable[T]]) -> T:
        """Ask once; with a login, once more after a 401 that a new token can mend."""
        token = await self._identity.header(self._session)
        try:
            return await self._ask_with(token, url, attempt, read)
        except TokenRefusedError:
            renewed = await self._identity.renewed(self._session, refused=token)
            return await self._ask_with(renewed, url, attempt + 1, read)

    async def _ask_with(
        self, token: str, url: str, attempt: int, read: Callable[[ClientResponse], Awaitable[T]]
    ) -> T:
        wire = _Wire()
        _wire.set(wire)
        await self._pace.slot()
        if self._draining:
            raise asyncio.CancelledError
        began = time.monotonic()
        self._in_flight += 1
        failure: BaseException | None = None
        try:
            async with asyncio.timeout(self._timeout_s) as wire.deadline:
                async with self._session.get(
                    URL(url, encoded=True), headers={"Authorization": token}, allow_redirects=False
                ) as response:
                    self._judge(response)
                    result = await read(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            failure = _failure(error, self._timeout_s)
            raise failure from None
        except BaseException as error:
            failure = error
            raise
        finally:
            self._in_flight -= 1
            self._count(wire, attempt, failure, time.monotonic() - began)
        self._identity.accepted(token)
        return result

    def _count(self, wire: _Wire, attempt: int, failure: BaseException | None, latency_s: float) -> None:
        if not wire.sent:
            return
        self._sent += wire.sent
        self._retried += wire.sent - 1
        if isinstance(failure, ThrottledError):
            self._throttled += 1
        elif isinstance(failure, _SlashLearnedError):
            self._redirected += 1
        elif attempt > 1:
            self._retried += 1
        self._tell(failure, latency_s)

    def _tell(self, failure: BaseException | None, latency_s: float) -> None:
        status = getattr(failure, "http_status", None) if failure else 200
        self._statistics.ended(status, failure, latency_s)
        if isinstance(failure, ThrottledError):
            return
        if status is not None:
            self._pace.answered(latency_s)

    def _judge(self, response: ClientResponse) -> None:
        """Raise what this answer's status means, unless it is 200."""
        status = response.status
        if status == 200:
            return
        if status == 401:
            raise TokenRefusedError(
                f"{self._orders_url}: the API refused the token (401).",
                "Check the token, then run the same command again: it goes on where it stopped.",
            )
        if status == 429:
            wait_s = parse_retry_after(response.headers.get("Retry-After"), _time_of(response))
            raise ThrottledError("the API answered 429", wait_s)
        if status in _REDIRECTS:
            self._judge_redirect(response)
        if status == 408 or status >= 500:
            raise TransientError(f"the API answered {status}", status)
        if status >= 400:
            reason = _REASON_BY_STATUS.get(status, "client_error")
            raise PermanentError(reason, f"the API answered {status}", status)
        raise BadResponseError(f"the API answered {status} where 200 was expected", status)

    def _judge_redirect(self, response: ClientResponse) -> None:
        """Learn the slash form of our own paths; refuse to follow anything else."""
        asked = response.url
        target = asked.join(URL(response.headers.get("Location", ""), encoded=True))
        if str(target) == f"{asked}/" and not asked.path.endswith("/"):
            self._slash = "/"
            raise _SlashLearnedError
        raise PermanentError(
            "client_error",
            f"the API answered {response.status} and pointed elsewhere, which is never followed",
            response.status,
        )

    async def _body(self, response: ClientResponse) -> bytes:
        """Return the whole decoded body, or raise as soon as it is over 32 MiB."""
        if (response.content_length or 0) > MAX_PAYLOAD_BYTES:
            raise _too_large()
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _LARGE_BYTES:
                return await self._large(response, body)
        return bytes(body)

    async def _large(self, response: ClientResponse, body: bytearray) -> bytes:
        async with self._one_large_body:
            _allow(_wire.get(), self._timeout_s)
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_PAYLOAD_BYTES:
                    raise _too_large()
            return bytes(body)

    async def on_wire(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Count each request that aiohttp sends, and pace those that it sends again by itself."""
        wire = _wire.get()
        if wire.sent:
            await self._pace.slot()
            _allow(wire, self._timeout_s)
        wire.sent += 1
        try:
            return await handler(request)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            wire.sent -= 1  # never connected, so never sent
            raise


def _allow(wire: _Wire, timeout_s: float) -> None:
    """Give the attempt its full time again after a wait that was ours."""
    if wire.deadline is not None:
        wire.deadline.reschedule(asyncio.get_running_loop().time() + timeout_s)


def _time_of(response: ClientResponse) -> datetime:
    """Return the answer's own time, which no skew of our clock can bend, or ours where it has none."""
    try:
        return parsedate_to_datetime(response.headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return datetime.now(UTC)


def _too_large() -> PermanentError:
    return PermanentError("bad_response", f"the answer is over {MAX_PAYLOAD_BYTES // MIB} MiB", 200)


def _failure(error: Exception, timeout_s: float) -> Exception:
    """Translate what aiohttp, asyncio or the system raised; the text never quotes headers or bodies."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ApiUnavailableError(
            f"{error.host}: the certificate is not trusted: {error.certificate_error}.",
            "Give the authority that signed it with --ca-file.",
        )
    if isinstance(error, TimeoutError):
        return TransientError(f"no whole answer within {timeout_s:g} s")
    if isinstance(error, aiohttp.ClientResponseError):
        return BadResponseError("the answer is not valid HTTP", 200)
    if isinstance(error, aiohttp.ClientPayloadError):
        return TransientError("the answer's body was cut or cannot be decoded")
    if isinstance(error, aiohttp.ClientConnectorError):
        return TransientError(f"no connection to {error.host}:{error.port}")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return TransientError("the connection was closed before an answer came")
    return TransientError(f"the connection failed ({type(error).__name__})")


@asynccontextmanager
async def open_client(options: Options, pace: Pace, statistics: Statistics) -> AsyncIterator[Client]:
    """Open the HTTP session for one export and close it at the end.

    Args:
        options: What the export is asked to do.
        pace: Gives a slot for each request.
        statistics: Told of each answer.

    Raises:
        UsageError: The CA file cannot be read, or the token file is readable by others.
    """
    identity = Identity(options, pace)
    connector = aiohttp.TCPConnector(
        limit=options.concurrency,
        keepalive_timeout=_KEEPALIVE_S,
        ttl_dns_cache=300,
        ssl=_trust(options.ca_file),
    )
    client: Client

    async def on_wire(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        return await client.on_wire(request, handler)

    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"omnitron-exporter/{__version__}",
        },
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=options.timeout_s),
        middlewares=(on_wire,),
        proxy=options.proxy,
        max_line_size=_LONGEST_HEADER,
        max_field_size=_LONGEST_HEADER,
    ) as session:
        client = Client(session, options, pace, identity, statistics)
        yield client


def _trust(ca_file: str | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"--ca-file {ca_file}: expected PEM certificates: {error}.", "Give a readable PEM file."
        ) from None
