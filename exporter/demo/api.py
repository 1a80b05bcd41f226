"""The fake Omnitron API's answers: order detail, order list, login, limits and faults."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any

from aiohttp import web

from exporter.demo.evolution import numbers_on, order_on
from exporter.demo.limits import Fault, SlidingWindow, draw_fault
from exporter.demo.listing import InvalidPageError, list_page

_SLOW_S = 2.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PAGE = "<!doctype html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"
_STATS_PATH = "/_stats"
_LOGIN_PATH = "/api/i1/auth/login/"
_DAY = r"/{day:\d{4}-\d\d-\d\d}"

_ENDED = web.RequestKey("ended", str)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoSettings:
    """What the demo API holds and how it behaves.

    Args:
        orders: How many orders it knows.
        rate_limit_per_s: Requests that it answers in any second; more get 429. None: no limit.
        fault_rate: The share of order requests that go wrong, 0 to 1; the same seed spoils the same ones.
        latency_s: Seconds before each answer.
        token: The token that it accepts, and gives for the user name and the password.
        record_arrivals: Keep the time and path of each request.
        evolve: Orders move on from day to day; a path that begins with a day, as `/2026-11-24`, is that day's.
    """

    orders: int = 500
    rate_limit_per_s: float | None = None
    fault_rate: float = 0.0
    latency_s: float = 0.0
    token: str = "demo-token"  # noqa: S105 (public on purpose)
    username: str = "demo"
    password: str = "demo-password"  # noqa: S105 (public on purpose)
    seed: int = 0
    record_arrivals: bool = False
    evolve: bool = False


@dataclass(kw_only=True, slots=True)
class DemoStats:
    """What the demo API was asked; asking for these is not counted.

    Attributes:
        requests: All requests that arrived.
        by_status: How they ended: an HTTP status, `reset` or `cut`.
        by_order: Requests for order details, by order number.
        arrivals: Monotonic seconds and path of each request, if `record_arrivals`.
    """

    requests: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    by_order: Counter[str] = field(default_factory=Counter)
    arrivals: list[tuple[float, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the attributes as one JSON object, the answer to `GET /_stats`."""
        return {key: getattr(self, key) for key in self.__slots__}


class DemoApi:
    """The answers of one demo API, and what it was asked."""

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings
        self.stats = DemoStats()
        self.numbers = numbers_on(None, settings.orders)
        self._known = frozenset(self.numbers)
        self._day_of_numbers: date | None = None
        self._asked: Counter[str] = Counter()
        limit = settings.rate_limit_per_s
        self._window = None if limit is None else SlidingWindow.per_second(limit)

    def application(self) -> web.Application:
        """Build the routes and the guard before them."""
        app = web.Application(middlewares=[self._guard])
        for day in ("", _DAY) if self.settings.evolve else ("",):
            app.router.add_get(f"{day}/api/i1/orders/", self._list)
            app.router.add_get(f"{day}/api/i1/orders/{{number}}", self._detail)
            app.router.add_post(day + _LOGIN_PATH, self._login)
        app.router.add_get(_STATS_PATH, self._show_stats)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path == _STATS_PATH:
            return await handler(request)
        self._record(request)
        refusal = self._refuse(request)
        await asyncio.sleep(self.settings.latency_s)
        answer = refusal or await self._answer(request, handler)
        self.stats.by_status[request.get(_ENDED, str(answer.status))] += 1
        return answer

    def _record(self, request: web.Request) -> None:
        self.stats.requests += 1
        self._asked[request.path_qs] += 1
        if number := request.match_info.get("number"):
            self.stats.by_order[number] += 1
        if self.settings.record_arrivals:
            self.stats.arrivals.append((time.monotonic(), request.path_qs))

    def _refuse(self, request: web.Request) -> web.Response | None:
        """Check the token, then the limit, as Django REST Framework does."""
        expected = f"Token {self.settings.token}"
        if not request.path.endswith(_LOGIN_PATH) and request.headers.get("Authorization") != expected:
            return _detail_answer(401, "Invalid token.", {"WWW-Authenticate": "Token"})
        wait = self._throttle(time.monotonic())
        if not wait:
            return None
        seconds = math.ceil(wait)
        plural = "" if seconds == 1 else "s"
        text = f"Request was throttled. Expected available in {seconds} second{plural}."
        return _detail_answer(429, text, {"Retry-After": str(seconds)})

    def _throttle(self, now: float) -> float:
        if self._window is None:
            return 0.0
        wait = self._window.wait_s(now)
        if not wait:
            self._window.take(now)
        return wait

    async def _answer(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        fault = self._fault(request)
        if spoilt := _SPOILT_PAGES.get(fault):
            return web.Response(status=spoilt[0], text=spoilt[1], content_type="text/html")
        if fault is Fault.RESET:
            return _reset(request)
        if fault is Fault.SLOW:
            await asyncio.sleep(_SLOW_S)
        answer = await self._route(request, handler)
        return await _cut(request, answer) if fault is Fault.CUT else _compress(request, answer)

    def _fault(self, request: web.Request) -> Fault | None:
        if request.path == _LOGIN_PATH:
            return None
        path = request.path_qs
        return draw_fault(self.settings.fault_rate, self.settings.seed, path, self._asked[path])

    async def _route(self, request: web.Request, handler: _Handler) -> web.Response:
        try:
            answer = await handler(request)
        except web.HTTPNotFound:
            return _detail_answer(404, "Not found.")
        except web.HTTPMethodNotAllowed as error:
            return _detail_answer(405, f'Method "{error.method}" not allowed.')
        assert isinstance(answer, web.Response)
        return answer

    async def _detail(self, request: web.Request) -> web.Response:
        number = request.match_info["number"]
        day = self._day(request)
        if number not in self._known:
            raise web.HTTPNotFound
        return web.Response(body=_order_body(number, day), content_type="application/json")

    async def _list(self, request: web.Request) -> web.Response:
        try:
            day = self._day(request)
            return web.json_response(list_page(self.numbers, request.url, day))
        except InvalidPageError:
            return _detail_answer(404, "Invalid page.")

    def _day(self, request: web.Request) -> date | None:
        """Return the day that is asked for, and know the orders of that day; None where orders stay as they are."""
        if not self.settings.evolve:
            return None
        try:
            day = date.fromisoformat(request.match_info.get("day", date.today().isoformat()))  # noqa: DTZ011 - people's own day
        except ValueError:
            raise web.HTTPNotFound from None
        if day != self._day_of_numbers:
            self.numbers, self._day_of_numbers = numbers_on(day, self.settings.orders), day
            self._known = frozenset(self.numbers)
        return day

    async def _login(self, request: web.Request) -> web.Response:
        try:
            given = await request.json()
        except ValueError as error:
            return _detail_answer(400, f"JSON parse error - {error}")
        if given != {"username": self.settings.username, "password": self.settings.password}:
            complaint = {"non_field_errors": ["Unable to log in with provided credentials."]}
            return web.json_response(complaint, status=400)
        return web.json_response({"key": self.settings.token})

    async def _show_stats(self, _request: web.Request) -> web.Response:
        return web.json_response(self.stats.as_json())


_SPOILT_PAGES: dict[Fault | None, tuple[int, str]] = {
    Fault.SERVER_ERROR: (500, _PAGE.format("Server Error (500)")),
    Fault.BAD_GATEWAY: (502, _PAGE.format("502 Bad Gateway")),
    Fault.HTML: (200, _PAGE.format("Bakımdayız, birazdan döneceğiz")),
}


@lru_cache(maxsize=10_000)
def _order_body(number: str, day: date | None) -> bytes:
    return json.dumps(order_on(number, day), ensure_ascii=False, separators=(",", ":")).encode()


def _detail_answer(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"detail": text}, status=status, headers=headers)


def _compress(request: web.Request, answer: web.Response) -> web.Response:
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        answer.enable_compression(web.ContentCoding.gzip)
    return answer


def _reset(request: web.Request) -> web.Response:
    request[_ENDED] = "reset"
    if request.transport is not None:
        connection: socket.socket = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        request.transport.abort()
    return web.Response(status=500)


async def _cut(request: web.Request, answer: web.Response) -> web.StreamResponse:
    """Promise the whole body, send half of it, hang up."""
    request[_ENDED] = "cut"
    body: Any = answer.body
    cut = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
    cut.content_length = len(body)
    cut.force_close()
    await cut.prepare(request)
    await cut.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return cut
