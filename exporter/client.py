"""One attempt: one paced GET, one payload or one of our errors.

Every request for an order or a page takes a slot of the pace, and is counted once it reached the wire.
aiohttp sends a GET again by itself when its connection is closed without an answer; `_once` forbids it,
so that such a request is paced, counted and limited as the attempt that it is.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import NoReturn
from urllib.parse import quote

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from exporter import __version__
from exporter.deadlines import Deadline, Deadlines
from exporter.errors import (
    BadResponseError,
    PermanentError,
    ThrottledError,
    TokenRefusedError,
    TransientError,
    UsageError,
)
from exporter.foreign import FOREIGN, NEVER_SENT, retry_after_s, translated
from exporter.identity import Identity
from exporter.options import MAX_PAYLOAD_BYTES, MIB, Options
from exporter.pace import Gate
from exporter.payload import check
from exporter.records import Answer, Traffic
from exporter.statistics import Statistics

ORDERS_PATH = "/api/i1/orders/"
_REDIRECTS = (301, 302, 303, 307, 308)
_REASON_BY_STATUS = {403: "forbidden", 404: "not_found"}
# Bodies beyond this are read one at a time: 32 of 32 MiB at once would be a gigabyte of memory.
_LARGE_BYTES = MIB
# A refusal's body is read to its end, so that its connection can be used again, but no further.
_REFUSAL_BYTES = 64 * 1024
_REFUSAL_S = 1.0
# One header line of a proxy's cookie or policy may be longer than aiohttp's 8 KiB (aiohttp #2304).
_LONGEST_HEADER = 32 * 1024
# gunicorn closes idle connections after 2 s, many proxies after 5; aiohttp's own 15 s would meet them
# in the moment of closing, which costs an attempt.
_KEEPALIVE_S = 4.0
# Connecting is given up a little before the attempt is: what never connected was never sent.
_CONNECT_SHARE = 0.95


class _Wire:
    """What one attempt has done on the wire so far, and its deadline."""

    __slots__ = ("deadline", "sent", "status")

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.sent = False
        self.status: int | None = None


_wire: ContextVar[_Wire] = ContextVar("wire")


class _SlashLearnedError(Exception):
    """Raised when the API answered that it wants its order paths to end in a slash."""


class Client:
    """The API as the rest of the program sees it; made by `open_client`.

    Args:
        session: An aiohttp session that speaks for us alone.
        options: What the export is asked to do.
        pace: Gives a slot for each request, and is told of each answer.
        identity: The token, and how to get a new one.
        statistics: Told of each answer.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        options: Options,
        pace: Gate,
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
        self._deadlines = Deadlines(options.timeout_s)
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
        """Requests for orders and pages that reached the wire since this client was made."""
        return Traffic(self._sent, self._retried, self._throttled, self._redirected)

    async def fetch(self, order_number: str, attempt: int, *, timeout_s: float | None = None) -> Answer:
        """Ask once for an order.

        Args:
            order_number: The number as the input has it.
            attempt: Which attempt for this order, from 1; for counting only.
            timeout_s: Seconds for the whole answer; those of the options where None.

        Returns:
            The payload, checked to be this order's.

        Raises:
            AttemptError: One of its children, which says whether asking again may help. The pace has
                been told of a 429 already: the next request waits by itself.
            TokenRefusedError: The API answered 401.
            ApiUnavailableError: The API's certificate is refused, or it asks for too long a wait.
        """
        path = self._orders_url + quote(order_number, safe="")
        return await self._ask(path, order_number, attempt, timeout_s or self._timeout_s)

    async def page(self, query: str, attempt: int) -> bytes:
        """Ask once for a page of the order list and return its body; errors as for `fetch`.

        Args:
            query: The URL's query, encoded; may be empty.
            attempt: Which attempt for this page, from 1; for counting only.
        """
        url = f"{self._orders_url}?{query}" if query else self._orders_url
        return (await self._ask(url, None, attempt, self._timeout_s)).payload

    async def _ask(self, path: str, order_number: str | None, attempt: int, timeout_s: float) -> Answer:
        """Ask once; again where the API moved the path, or with a login where it wants a new token."""
        identity = self._identity
        renewed = False
        while True:
            if identity.header is None:
                await identity.log_in(self._session)
            await self._pace.slot()
            if self._draining:
                raise asyncio.CancelledError
            # Path and token are read after the wait for the slot: others may have learnt new ones.
            header = identity.header or ""
            url = path if order_number is None else path + self._slash
            try:
                return await self._attempt(url, header, order_number, attempt, timeout_s)
            except _SlashLearnedError:
                continue
            except TokenRefusedError:
                if renewed:
                    raise
                await identity.renew(self._session, refused=header)
                renewed = True
                attempt += 1

    async def _attempt(
        self, url: str, header: str, order_number: str | None, attempt: int, timeout_s: float
    ) -> Answer:
        """Make one request under a deadline, and tell whoever counts how it ended."""
        began = time.monotonic()
        self._in_flight += 1
        failure: BaseException | None = None
        deadline = self._deadlines.start(timeout_s)
        wire = _Wire(deadline)
        _wire.set(wire)
        try:
            answer = await self._exchange(url, header, order_number, wire)
        except FOREIGN as error:
            failure = translated(error, timeout_s)
            raise failure from None
        except BaseException as error:
            failure = error
            if isinstance(error, asyncio.CancelledError) and deadline.is_the_cause():
                failure = translated(TimeoutError(), timeout_s)
                raise failure from None
            raise
        finally:
            self._in_flight -= 1
            self._deadlines.end(deadline)
            if wire.sent:
                self._count(wire.status, failure, attempt, time.monotonic() - began)
            # An error that its own frame names keeps that frame, and what was read, until a collection.
            del failure
        self._identity.accepted(header)
        return answer

    async def _exchange(self, url: str, header: str, order_number: str | None, wire: _Wire) -> Answer:
        async with self._session.get(
            URL(url, encoded=True), headers={"Authorization": header}, allow_redirects=False
        ) as response:
            wire.status = response.status
            if response.status != 200:
                await self._refuse(response, wire)
            payload = await self._body(response, wire)
            return Answer(payload, None if order_number is None else check(payload, order_number))

    async def _refuse(self, response: ClientResponse, wire: _Wire) -> NoReturn:
        """Raise what an answer's status means; what its body does must not turn it into a time-out."""
        verdict = self._verdict(response)
        wire.deadline.stop()
        try:
            await _read_out(response)
            raise verdict
        finally:
            del verdict  # see `_attempt`

    def _count(
        self, status: int | None, failure: BaseException | None, attempt: int, latency_s: float
    ) -> None:
        self._sent += 1
        if isinstance(failure, ThrottledError):
            self._throttled += 1
        elif isinstance(failure, _SlashLearnedError):
            self._redirected += 1
        elif attempt > 1:
            self._retried += 1
        if isinstance(failure, asyncio.CancelledError):
            return
        self._statistics.ended(status, failure, latency_s)
        if isinstance(failure, ThrottledError):
            self._slow_down(failure.retry_after_s, latency_s)
        elif status is not None:
            self._pace.answered(latency_s)

    def _slow_down(self, retry_after_s: float | None, latency_s: float) -> None:
        before = self._pace.snapshot().paused_until
        self._pace.throttled(retry_after_s, latency_s)
        until = self._pace.snapshot().paused_until
        if until is not None and until != before:
            self._statistics.paused(until - time.monotonic(), "429")

    def _verdict(self, response: ClientResponse) -> Exception:
        """Return what an answer's status means, where that is not 200."""
        status = response.status
        if status == 401:
            return self._identity.refusal("401")
        if status == 429:
            return ThrottledError("the API answered 429", retry_after_s(response))
        if status in _REDIRECTS:
            return self._redirect(response)
        if status == 408 or status >= 500:
            return TransientError(f"the API answered {status}", status)
        if status >= 400:
            reason = _REASON_BY_STATUS.get(status, "client_error")
            return PermanentError(reason, f"the API answered {status}", status)
        return BadResponseError(f"the API answered {status} where 200 was expected", status)

    def _redirect(self, response: ClientResponse) -> Exception:
        """Learn the slash form of our own paths; nothing else is ever followed."""
        if _only_adds_a_slash(response.url, response.headers.get("Location", "")):
            self._slash = "/"
            return _SlashLearnedError()
        return PermanentError(
            "client_error",
            f"the API answered {response.status} and pointed elsewhere, which is never followed",
            response.status,
        )

    async def _body(self, response: ClientResponse, wire: _Wire) -> bytes:
        """Return the whole decoded body, or raise as soon as it is over 32 MiB."""
        content = response.content
        first = await content.readany()
        if content.at_eof():
            return first
        body = bytearray(first)
        while len(body) <= _LARGE_BYTES:
            chunk = await content.readany()
            if not chunk:
                return bytes(body)
            body += chunk
        return await self._large(response, body, wire)

    async def _large(self, response: ClientResponse, body: bytearray, wire: _Wire) -> bytes:
        if (response.content_length or 0) > MAX_PAYLOAD_BYTES:
            raise _too_large()
        wire.deadline.stop()
        async with self._one_large_body:
            wire.deadline.allow(self._timeout_s)
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_PAYLOAD_BYTES:
                    body.clear()  # the error's traceback holds it
                    raise _too_large()
            return bytes(body)


async def _once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Let an attempt send one request; a client middleware, called for each that aiohttp wants to send."""
    wire = _wire.get()
    if wire.sent:
        raise aiohttp.ServerDisconnectedError
    wire.sent = True
    try:
        return await handler(request)
    except NEVER_SENT:
        wire.sent = False
        raise


async def _read_out(response: ClientResponse) -> None:
    """Read what is left of a refusal's body, so that its connection can be used again."""
    left = _REFUSAL_BYTES
    try:
        async with asyncio.timeout(_REFUSAL_S):
            while left > 0 and not response.content.at_eof():
                left -= len(await response.content.readany())
    except FOREIGN:
        pass  # the connection is closed instead


def _only_adds_a_slash(asked: URL, location: str) -> bool:
    """Tell whether a redirect stays where it is but for a `/`, however it is percent-encoded."""
    if asked.raw_path.endswith("/") or not location:
        return False
    here = URL(str(asked))
    try:
        return here.join(URL(location)) == URL(f"{here}/")
    except ValueError:
        return False


def _too_large() -> PermanentError:
    return PermanentError("bad_response", f"the answer is over {MAX_PAYLOAD_BYTES // MIB} MiB", 200)


@asynccontextmanager
async def open_client(options: Options, pace: Gate, statistics: Statistics) -> AsyncIterator[Client]:
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
    connect_s = _CONNECT_SHARE * options.timeout_s
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"omnitron-exporter/{__version__}",
        },
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_s, ceil_threshold=connect_s),
        middlewares=(_once,),
        proxy=options.proxy,
        max_line_size=_LONGEST_HEADER,
        max_field_size=_LONGEST_HEADER,
    ) as session:
        yield Client(session, options, pace, identity, statistics)


def _trust(ca_file: str | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"--ca-file {ca_file}: expected PEM certificates: {error}.", "Give a readable PEM file."
        ) from None
