"""The fake Omnitron API on a port of this machine: order detail, order list, login, limits and faults."""

import asyncio
import json
import math
import random
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from functools import partial
from typing import Any, Self

from aiohttp import web

from exporter.demo.listing import list_page
from exporter.demo.orders import known_on, numbers_on, order_on

_SLOW_S = 2.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PAGE = "<!doctype html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


class Fault(StrEnum):
    """The ways in which the demo API spoils an answer."""

    SERVER_ERROR = "500"
    BAD_GATEWAY = "502"
    RESET = "reset"
    CUT = "cut"
    SLOW = "slow"
    HTML = "html"


_SPOILT_PAGES: dict[Fault | None, tuple[int, str]] = {
    Fault.SERVER_ERROR: (500, _PAGE.format("Server Error (500)")),
    Fault.BAD_GATEWAY: (502, _PAGE.format("502 Bad Gateway")),
    Fault.HTML: (200, _PAGE.format("Bakımdayız, birazdan döneceğiz")),
}
_STATS_PATH, _LOGIN_PATH = "/_stats", "/api/i1/auth/login/"
_DAY = r"/{day:\d{4}-\d\d-\d\d}"
_LOGIN = {"username": "demo", "password": "demo-password"}
_COMPACT = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
_ENDED = web.RequestKey("ended", str)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SlidingWindow:
    """Let at most `count` requests pass in any stretch of `window_s` seconds."""

    def __init__(self, count: int, window_s: float) -> None:
        self._window_s = window_s
        self._passed: deque[float] = deque(maxlen=count)

    @classmethod
    def per_second(cls, rate: float) -> Self:
        """Build the window for a rate: 200 is 200 in a second, 0.5 is one in two seconds."""
        count = max(1, math.floor(rate))
        return cls(count, count / rate)

    def wait_s(self, now: float) -> float:
        """Tell how long a request has to wait, in seconds; 0 lets it pass."""
        full = len(self._passed) == self._passed.maxlen
        return max(0.0, self._passed[0] + self._window_s - now) if full else 0.0

    def take(self, now: float) -> None:
        """Count a request that passed; refused ones count nothing."""
        self._passed.append(now)


def draw_fault(rate: float, seed: int, path: str, nth_request: int) -> Fault | None:
    """Decide by `seed` whether the `nth_request` for a path, from 1, meets a fault, whatever else is asked for."""
    if not rate:
        return None
    dice = random.Random(f"{seed} {nth_request} {path}")  # noqa: S311 (a demo's bad luck, not a secret)
    return dice.choice(tuple(Fault)) if dice.random() < rate else None


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What the demo API holds and how it behaves; the same seed spoils the same answers.

    With `whole_list`, entries of the order list are complete orders, of which one in `lies` is not as its detail.
    Where they `evolve`, orders change from day to day; a path that begins with a day, as `/2026-11-24`, is that day's.
    """

    orders: int = 500
    rate_limit_per_s: float | None = None
    fault_rate: float = 0.0
    latency_s: float = 0.0
    token: str = "demo-token"  # noqa: S105 (public on purpose)
    seed: int = 0
    whole_list: bool = False
    lies: int = 0
    evolve: bool = False


@dataclass(kw_only=True)
class DemoStats:
    """What the demo API was asked, but for `GET /_stats`; a request ends with a status, as `reset` or as `cut`."""

    requests: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    by_order: Counter[str] = field(default_factory=Counter)


class DemoApi:
    """The answers of one demo API, and what it was asked."""

    def __init__(self, settings: DemoSettings) -> None:
        self.settings, self.stats = settings, DemoStats()
        self.url = ""  # where it listens, without a slash at its end
        self.numbers = numbers_on(None, settings.orders)
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
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path == _STATS_PATH:
            return web.json_response(vars(self.stats))
        self.stats.requests += 1
        self._asked[request.path_qs] += 1
        if number := request.match_info.get("number"):
            self.stats.by_order[number] += 1
        refusal = self._refuse(request)
        await asyncio.sleep(self.settings.latency_s)
        answer = refusal or await self._answer(request, handler)
        self.stats.by_status[request.get(_ENDED, str(answer.status))] += 1
        return answer

    def _refuse(self, request: web.Request) -> web.Response | None:
        """Check the token, then the limit, as Django REST Framework does."""
        expected = f"Token {self.settings.token}"
        if not request.path.endswith(_LOGIN_PATH) and request.headers.get("Authorization") != expected:
            return _detail_answer(401, "Invalid token.", {"WWW-Authenticate": "Token"})
        now = time.monotonic()
        if self._window is None:
            return None
        if wait := self._window.wait_s(now):
            seconds = math.ceil(wait)
            text = f"Request was throttled. Expected available in {seconds} second{'s' * (seconds != 1)}."
            return _detail_answer(429, text, {"Retry-After": str(seconds)})
        self._window.take(now)
        return None

    async def _answer(self, request: web.Request, handler: _Handler) -> web.Response:
        path, settings = request.path_qs, self.settings
        rate = 0.0 if request.path == _LOGIN_PATH else settings.fault_rate
        fault = draw_fault(rate, settings.seed, path, self._asked[path])
        if spoilt := _SPOILT_PAGES.get(fault):
            return web.Response(status=spoilt[0], text=spoilt[1], content_type="text/html")
        if fault is Fault.RESET:
            return _reset(request)
        if fault is Fault.SLOW:
            await asyncio.sleep(_SLOW_S)
        try:
            answer = await handler(request)
        except web.HTTPNotFound:
            answer = _detail_answer(404, "Not found.")
        except web.HTTPMethodNotAllowed as error:
            answer = _detail_answer(405, f'Method "{error.method}" not allowed.')
        assert isinstance(answer, web.Response)
        if fault is Fault.CUT:
            return _cut(request, answer)
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            answer.enable_compression(web.ContentCoding.gzip)
        return answer

    async def _detail(self, request: web.Request) -> web.Response:
        number, day = request.match_info["number"], self._day(request)
        if number not in known_on(day, self.settings.orders):
            raise web.HTTPNotFound
        return web.json_response(order_on(number, day), dumps=_COMPACT)

    async def _list(self, request: web.Request) -> web.Response:
        day = self._day(request)
        told, numbers = self.settings, numbers_on(day, self.settings.orders)
        page = list_page(numbers, request.url, day, whole=told.whole_list, lies=told.lies, seed=told.seed)
        return web.json_response(page, dumps=_COMPACT) if page else _detail_answer(404, "Invalid page.")

    def _day(self, request: web.Request) -> date | None:
        """Return the day that is asked for; None where orders stay as they are."""
        if not self.settings.evolve:
            return None
        try:
            return date.fromisoformat(request.match_info.get("day", date.today().isoformat()))  # noqa: DTZ011 - people's own day
        except ValueError:
            raise web.HTTPNotFound from None

    async def _login(self, request: web.Request) -> web.Response:
        try:
            given = await request.json()
        except ValueError as error:
            return _detail_answer(400, f"JSON parse error - {error}")
        if given != _LOGIN:
            complaint = {"non_field_errors": ["Unable to log in with provided credentials."]}
            return web.json_response(complaint, status=400)
        return web.json_response({"key": self.settings.token})


def _detail_answer(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"detail": text}, status=status, headers=headers)


def _reset(request: web.Request) -> web.Response:
    request[_ENDED] = "reset"
    if request.transport is not None:
        connection: socket.socket = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        request.transport.abort()
    return web.Response(status=500)


def _cut(request: web.Request, answer: web.Response) -> web.Response:
    """Promise the whole body, send half of it, hang up."""
    request[_ENDED] = "cut"
    body: Any = answer.body
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    cut = web.Response(status=answer.status, body=body[: len(body) // 2], headers=headers)
    cut.force_close()
    return cut


@asynccontextmanager
async def serve(settings: DemoSettings, port: int = 0) -> AsyncIterator[DemoApi]:
    """Run the demo API for as long as the block lasts; port 0 is any free one, an `OSError` tells of a taken one."""
    api = DemoApi(settings)
    runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield api
    finally:
        await runner.cleanup()
