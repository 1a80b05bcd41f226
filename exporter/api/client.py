"""One attempt: one paced GET, one payload or one of our errors.

Every request for an order or a page takes a slot of the pace, and is counted once it reached the wire.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import quote

from yarl import URL

from exporter.api.aiohttp_errors import FOREIGN, limit_of, page_of, proxys_refusal, translated
from exporter.api.credentials import trust_of
from exporter.api.deadlines import Deadline, Deadlines
from exporter.api.identity import Identity
from exporter.api.pace import Gate
from exporter.api.payload_check import check
from exporter.api.transport import Response, Route, Sending, Transport, open_transport
from exporter.model import errors
from exporter.model.options import MAX_PAYLOAD_BYTES, MIB, Options
from exporter.model.records import Answer, Traffic
from exporter.model.run_statistics import Statistics
from exporter.model.version import __version__
from exporter.system.proxies import proxy_for

ORDERS_PATH = "/api/i1/orders/"
_REDIRECTS = (301, 302, 303, 307, 308)
_REASON_BY_STATUS = {403: "forbidden", 404: "not_found"}
# Bodies beyond this are read one at a time: 32 of 32 MiB at once would be a gigabyte of memory.
_LARGE_BYTES = MIB
# A refusal's body is read to its end, so that its connection can be used again, but no further.
_REFUSAL_BYTES = 64 * 1024
_REFUSAL_S = 1.0
# A bare 503 is a limit for all where so many came among so many answers; an API may also err once in a while.
_BARE_REFUSALS = 3
_AMONG_ANSWERS = 20
# Connecting is given up a little before the attempt is: what never connected was never sent.
_CONNECT_SHARE = 0.95


@dataclass(slots=True)
class _Attempt(Sending):
    """What one attempt asks for, and what it has done so far; a page has no order number."""

    target: str
    header: str
    order_number: str | None
    count: int
    timeout_s: float
    is_question: bool
    began: float = field(default_factory=time.monotonic)
    deadline: Deadline = field(init=False)
    status: int | None = None


class _SlashLearnedError(Exception):
    """Raised when the API answered that it wants its order paths to end in a slash."""


class Client:
    """The API as the rest of the program sees it; made by `open_client`."""

    def __init__(
        self, transport: Transport, options: Options, pace: Gate, identity: Identity, statistics: Statistics
    ) -> None:
        self._transport, self._pace, self._identity, self._statistics = transport, pace, identity, statistics
        self._timeout_s, self._max_items = options.timeout_s, options.max_items
        self._orders_path = transport.base_path + ORDERS_PATH
        self._slash = ""
        self._one_large_body = asyncio.Semaphore(1)
        self._sent = self._retried = self._throttled = self._redirected = 0
        self._deadlines = Deadlines(options.timeout_s)
        self._draining = False
        #: While it is not set, no request is started but questions.
        self.door = asyncio.Event()
        self.door.set()
        self._good_at = self._limit_at = -math.inf
        #: How much had been sent at each of the last bare 503s.
        self._bare: deque[int] = deque(maxlen=_BARE_REFUSALS)

    async def drain(self, grace_s: float) -> None:
        """Start no request any more, and wait that long, at most, until those in flight have arrived."""
        self._draining = True
        self.door.set()
        deadline = time.monotonic() + grace_s
        while self._deadlines.running and time.monotonic() < deadline:  # noqa: ASYNC110 - once a run; an event would cost each request
            await asyncio.sleep(0.02)

    @property
    def traffic(self) -> Traffic:
        """Requests for orders and pages that reached the wire since this client was made."""
        return Traffic(self._sent, self._retried, self._throttled, self._redirected)

    async def fetch(
        self, order_number: str, attempt: int, *, timeout_s: float | None = None, is_question: bool = False
    ) -> Answer:
        """Ask once for an order, within `timeout_s` or the options' seconds; `attempt`, from 1, is for counting only.

        A question finds out whether the API serves orders: nothing holds it, and its refusal slows the pace.

        Raises:
            AttemptError: One of its children, which says whether asking again may help. The pace has
                been told of a limit already: the next request waits by itself.
            TokenRefusedError: The API answered 401.
            ApiUnavailableError: The API's certificate is refused from the start, or it asks for too long a wait.
        """
        # `quote` takes longer to find out that a number needs none than the answer takes to be checked.
        plain = order_number.isalnum() and order_number.isascii()
        path = self._orders_path + (order_number if plain else quote(order_number, safe=""))
        return await self._ask(path, order_number, attempt, timeout_s or self._timeout_s, is_question)

    async def page(self, query: str, attempt: int, *, is_question: bool = False) -> bytes:
        """Ask once for a page of the order list, by an encoded query, and return its body; see `fetch`."""
        path = f"{self._orders_path}?{query}" if query else self._orders_path
        return (await self._ask(path, None, attempt, self._timeout_s, is_question)).payload

    async def _ask(
        self, path: str, order_number: str | None, count: int, timeout_s: float, is_question: bool
    ) -> Answer:
        """Ask once; again where the API moved the path, or with a login where it wants a new token."""
        identity, renewed = self._identity, False
        while True:
            if identity.header is None:
                await identity.log_in(self._transport, refused=None)
            await self._pace.slot()
            while not (is_question or self.door.is_set()):
                await self.door.wait()
                await self._pace.slot()
            if self._draining:
                raise asyncio.CancelledError
            # Path and token are read after the wait for the slot: others may have learnt new ones.
            header, target = identity.header or "", path if order_number is None else path + self._slash
            this = _Attempt(target, header, order_number, count, timeout_s, is_question)
            try:
                return await self._attempt(this)
            except _SlashLearnedError:
                continue
            except errors.TokenRefusedError:
                if renewed:
                    raise
                await identity.log_in(self._transport, refused=header)
                renewed = True
                count += 1

    async def _attempt(self, this: _Attempt) -> Answer:
        """Make one request under a deadline, and tell whoever counts how it ended."""
        failure: BaseException | None = None
        this.deadline = deadline = self._deadlines.start(this.timeout_s)
        try:
            answer = await self._exchange(this)
        except FOREIGN as error:
            failure = translated(
                error, this.timeout_s, answered=self._identity.answered, proxied=self._transport.proxied
            )
            raise failure from None
        except BaseException as error:
            failure = error
            if isinstance(error, asyncio.CancelledError) and deadline.is_the_cause():
                failure = translated(TimeoutError(), this.timeout_s)
                raise failure from None
            raise
        finally:
            self._deadlines.end(deadline)
            if this.sent:
                self._count(this, failure, time.monotonic() - this.began)
            # An error that its own frame names keeps that frame, and what was read, until a collection.
            del failure
        self._identity.accepted(this.header)
        return answer

    async def _exchange(self, this: _Attempt) -> Answer:
        response = await self._transport.exchange(this.target, this.header, this)
        try:
            this.status = response.status
            if response.status != 200:
                await self._refuse(response, this)
            payload = await self._body(response, this)
            try:
                number = this.order_number
                answer = Answer(payload, number and check(payload, number, self._max_items))
            except errors.AttemptError as error:
                error.page = page_of(response.headers, payload)
                if (limit := _limit(response)) is not None:
                    raise limit from None
                raise
            self._good_at = time.monotonic()
            return answer
        finally:
            response.release()

    async def _refuse(self, response: Response, this: _Attempt) -> NoReturn:
        """Raise what an answer's status means; what its body does must not turn it into a time-out."""
        verdict = self._verdict(response, this)
        this.deadline.stop()
        try:
            body = await _read_out(response)
            if isinstance(verdict, errors.AttemptError):
                verdict.page = page_of(response.headers, body)
            raise verdict
        finally:
            del verdict  # see `_attempt`

    def _count(self, this: _Attempt, failure: BaseException | None, latency_s: float) -> None:
        self._sent += 1
        # Nearly all of them; the checks below are a hundredth of what such a request costs.
        if failure is None and this.count == 1:
            self._statistics.ended(this.status, None, latency_s)
            self._pace.answered(latency_s)
            return
        if isinstance(failure, errors.ThrottledError):
            self._throttled += 1
        elif isinstance(failure, _SlashLearnedError):
            self._redirected += 1
        elif this.count > 1:
            self._retried += 1
        if isinstance(failure, asyncio.CancelledError):
            return
        self._statistics.ended(this.status, failure, latency_s)
        if isinstance(failure, errors.ThrottledError) and not failure.is_stray:
            self._slow_down(failure.retry_after_s, latency_s, str(failure.http_status))
        elif isinstance(failure, errors.PermanentError) and self._is_wall(this):
            self._slow_down(None, latency_s, str(failure.http_status))
        elif this.status is not None:
            self._pace.answered(latency_s)

    def _is_wall(self, this: _Attempt) -> bool:
        """Tell whether a known good order is refused as a firewall does it, perhaps for our pace."""
        asked = this.is_question and this.order_number is not None
        return asked and self._good_at > -math.inf and this.status not in (200, 404, *_REDIRECTS)

    def _slow_down(self, retry_after_s: float | None, latency_s: float, cause: str) -> None:
        if (pause_s := self._pace.throttled(retry_after_s, latency_s, cause)) is not None:
            self._statistics.paused(pause_s, cause)

    def _verdict(self, response: Response, this: _Attempt) -> Exception:
        """Return what an answer's status means, where that is not 200."""
        if (refusal := proxys_refusal(response)) is not None:
            return refusal
        status = response.status
        if status == 401:
            return self._identity.refusal("401")
        if status >= 400 and (limit := _limit(response)) is not None:
            return limit
        if status == 503 and (guess := self._guessed_limit(this)) is not None:
            return guess
        if status in _REDIRECTS:
            return self._redirect(response, this.target)
        if status == 408 or status >= 500:
            return errors.TransientError(f"the API answered {status}", status)
        if status >= 400:
            reason = _REASON_BY_STATUS.get(status, "client_error")
            return errors.PermanentError(reason, f"the API answered {status}", status)
        return errors.BadResponseError(f"the API answered {status} where 200 was expected", status)

    def _guessed_limit(self, this: _Attempt) -> errors.ThrottledError | None:
        """Return what a bare 503 means among good answers: a limit, as nginx gives it; None where the API is down.

        One pause is given to it: where no good answer has come since, the API is down. Where hardly any other
        request was refused so, everybody's pace has nothing to do with it.
        """
        is_stray = False
        if this.began >= self._limit_at:
            if self._good_at <= self._limit_at:
                return None
            self._bare.append(self._sent)
            is_stray = len(self._bare) < _BARE_REFUSALS or self._sent - self._bare[0] > _AMONG_ANSWERS
            if not is_stray:
                self._limit_at = time.monotonic()
        return errors.ThrottledError("the API answered 503", None, 503, is_guess=True, is_stray=is_stray)

    def _redirect(self, response: Response, target: str) -> Exception:
        """Learn the slash form of our own paths; nothing else is ever followed."""
        if _only_adds_a_slash(self._transport.url(target), response.headers.get("Location", "")):
            self._slash = "/"
            return _SlashLearnedError()
        what = f"the API answered {response.status} with a redirect to another address, which is not followed"
        return errors.PermanentError("client_error", what, response.status)

    async def _body(self, response: Response, this: _Attempt) -> bytes:
        """Return the whole decoded body, or raise as soon as it is over 32 MiB."""
        stream = response.body
        first = await stream.readany()
        if stream.at_eof():
            return first
        body = bytearray(first)
        while len(body) <= _LARGE_BYTES:
            chunk = await stream.readany()
            if not chunk:
                return bytes(body)
            body += chunk
        return await self._large(response, body, this)

    async def _large(self, response: Response, body: bytearray, this: _Attempt) -> bytes:
        _refuse_over(int(response.headers.get("Content-Length", 0)))
        this.deadline.stop()
        async with self._one_large_body:
            this.deadline.allow(self._timeout_s)
            while chunk := await response.body.readany():
                body += chunk
                if (size := len(body)) > MAX_PAYLOAD_BYTES:
                    body.clear()  # the error's traceback holds it
                    _refuse_over(size)
            return bytes(body)


def _limit(response: Response) -> errors.ThrottledError | None:
    is_limit, wait_s = limit_of(response)
    if not is_limit and response.status != 429:
        return None
    return errors.ThrottledError(f"the API answered {response.status}", wait_s, response.status)


async def _read_out(response: Response) -> bytes:
    """Read what is left of a refusal's body, so that its connection can be used again."""
    body = b""
    try:
        async with asyncio.timeout(_REFUSAL_S):
            while len(body) < _REFUSAL_BYTES and not response.body.at_eof():
                body += await response.body.readany()
    except FOREIGN:
        pass  # the connection is closed instead
    return body


def _refuse_over(size: int) -> None:
    if size > MAX_PAYLOAD_BYTES:
        raise errors.PermanentError("bad_response", f"the answer is over {MAX_PAYLOAD_BYTES // MIB} MiB", 200)


def _only_adds_a_slash(asked: URL, location: str) -> bool:
    """Tell whether a redirect stays where it is but for a `/`, however it is percent-encoded."""
    if asked.raw_path.endswith("/") or not location:
        return False
    here = URL(str(asked))
    try:
        there = here.join(URL(location))
        return there.with_port(there.port) == URL(f"{here}/").with_port(here.port)  # `:443` may be spelt out
    except ValueError:
        return False


@asynccontextmanager
async def open_client(
    options: Options, pace: Gate, statistics: Statistics, *, answered: bool = False
) -> AsyncIterator[Client]:
    """Open the client of one export; where the API has `answered` this run, a refused certificate is an outage.

    Raises:
        UsageError: A certificate, key or token file is refused, or a variable's proxy.
    """
    identity = Identity(options, pace, answered=answered)
    kind = "application/json"
    route = Route(
        api_url=options.api_url,
        headers={"Accept": kind, "Content-Type": kind, "User-Agent": f"omnitron-exporter/{__version__}"},
        connect_s=_CONNECT_SHARE * options.timeout_s,
        trust=trust_of(options),
        proxy=proxy_for(options.api_url, options.proxy),
    )
    async with open_transport(route) as transport:
        yield Client(transport, options, pace, identity, statistics)
