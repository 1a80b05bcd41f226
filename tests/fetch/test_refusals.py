"""A refusal is believed only when it is proven: over real sockets, with the requests counted at the server."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from exporter.model.errors import ApiUnavailableError, TokenRefusedError, TooManyRejectsError
from tests.support.clients import run, serving
from tests.support.nginx import nginx_before
from tests.support.refreshing import Work, numbers
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer
from tests.support.servers.moves import Behaviour, End, Step

WALL = moves.answer(
    b"<html><head><title>Access denied</title></head></html>", 403, {"Content-Type": "text/html"}
)
MAINTENANCE = moves.answer(
    b"<html><head><title>Back soon</title></head></html>", 200, {"Content-Type": "text/html"}
)
#: Rates and workers at which each promise holds.
PACES = [("unlimited", 32), ("unlimited", 1), ("300/s", 8)]


class Turning:
    """Answers well until `at` requests have come, then as `then` does, for `count` requests and `for_s` seconds."""

    def __init__(self, at: int, then: Behaviour, count: float = math.inf, for_s: float = math.inf) -> None:
        self._at, self._then, self._until, self._for_s = at, then, at + count, for_s
        self._since = math.inf
        self.asked = 0

    def __call__(self, number: str, nth: int) -> Iterable[Step]:
        self.asked += 1
        turned = self._at < self.asked <= self._until
        if turned:
            self._since = min(self._since, time.monotonic())
        return (self._then if turned and time.monotonic() < self._since + self._for_s else moves.good)(
            number, nth
        )


def listing(*named: str) -> Behaviour:
    """The order list, which names these orders."""
    results = [{"number": number} for number in named]
    return moves.answer(json.dumps({"count": len(results), "next": None, "results": results}).encode())


def shop(orders: Behaviour, order_list: Behaviour | None = None) -> Behaviour:
    """An API whose orders behave so; without an order list of its own, the list does too."""

    def behaviour(number: str, nth: int) -> Iterable[Step]:
        if number.startswith("/") and order_list is not None:
            return order_list(number, nth)
        return orders(number, nth)

    return behaviour


def orders_asked(server: FaultyServer) -> Counter[str]:
    return Counter(arrival.number for arrival in server.arrivals if not arrival.number.startswith("/"))


@pytest.mark.parametrize(("rate", "workers"), PACES)
@pytest.mark.parametrize("wall", [WALL, MAINTENANCE, moves.status(404)], ids=["403", "page", "404"])
def test_a_wall_in_mid_run_burns_no_order(tmp_path: Path, wall: Behaviour, rate: str, workers: int) -> None:
    """In flight plus 20 are asked for in vain, none is a reject, and the same work then asks for the rest alone."""
    work = Work(tmp_path, numbers(400))

    async def tries() -> None:
        async with FaultyServer(Turning(150, wall)) as server:
            with pytest.raises(ApiUnavailableError):
                await work.refresh(server.url, rate=rate, concurrency=workers, max_attempts=2)
            orders = orders_asked(server)
            assert len(orders) <= 150 + workers + 20
            assert orders.total() <= 150 + 2 * (workers + 20) + 6
        async with FaultyServer() as server:
            assert await work.refresh(server.url) == {"fetched": 400}
            assert len(server.arrivals) == 250

    run(tries(), 40)


@pytest.mark.parametrize(
    ("wall", "error", "told"),
    [
        (WALL, TokenRefusedError, ["403", "text/html", "'Access denied'", "token's rights"]),
        (MAINTENANCE, ApiUnavailableError, ["text/html", "'Back soon'", "maintenance"]),
        (moves.status(404), ApiUnavailableError, ["404", "api_url", "this API's orders"]),
        (moves.status(406), ApiUnavailableError, ["406"]),
        (moves.another_number, ApiUnavailableError, ["another order's number"]),
    ],
    ids=["403", "page", "404", "406", "another"],
)
def test_a_wall_from_the_first_answer_is_told_by_what_came(
    tmp_path: Path, wall: Behaviour, error: type[Exception], told: list[str]
) -> None:
    """Nothing is a reject; the error says what came back, also from the order list, and what to check."""
    work = Work(tmp_path, numbers(200))

    async def tries() -> None:
        async with FaultyServer(wall) as server:
            with pytest.raises(error) as raised:
                await work.refresh(server.url, max_attempts=1)
            assert len(server.arrivals) <= 32 + 20 + 12
        for word in (*told, "the order list"):
            assert word in str(raised.value), raised.value
        async with FaultyServer() as server:
            assert await work.refresh(server.url) == {"fetched": 200}

    run(tries())


@pytest.mark.parametrize(("rate", "workers"), PACES)
def test_a_wall_that_falls_within_the_patience_costs_a_pause(tmp_path: Path, rate: str, workers: int) -> None:
    """What was refused while it stood is asked for again, and every order is there."""
    work = Work(tmp_path, numbers(200))

    async def tries() -> None:
        async with FaultyServer(Turning(60, WALL, for_s=0.8)) as server:
            settled = await work.refresh(server.url, 8.0, rate=rate, concurrency=workers)
            assert settled == {"fetched": 200}
            assert orders_asked(server).total() <= 200 + workers + 24

    run(tries(), 40)


@pytest.mark.parametrize(("rate", "workers"), PACES)
def test_a_stretch_of_wrong_numbers_costs_one_question(tmp_path: Path, rate: str, workers: int) -> None:
    """150 dead orders among good ones become rejects: a known order is asked for once, not after each twenty."""
    dead = {f"a{index}": moves.status(404) for index in range(50, 200)}
    work = Work(tmp_path, numbers(240))

    async def tries() -> None:
        async with FaultyServer(dead) as server:
            settled = await work.refresh(server.url, rate=rate, concurrency=workers)
            assert settled == {"fetched": 90, "not_found": 150}
            assert len(server.arrivals) <= 240 + 2

    run(tries(), 30)


def test_the_first_orders_are_proven_by_one_of_the_list(tmp_path: Path) -> None:
    """A list that begins with dead orders: the order list names a good one, which costs two requests."""
    dead = {f"a{index}": moves.status(404) for index in range(60)}
    work = Work(tmp_path, numbers(100))

    async def tries() -> None:
        async with FaultyServer(shop(moves.by_number(dead), listing("good"))) as server:
            assert await work.refresh(server.url, concurrency=4) == {"fetched": 40, "not_found": 60}
            assert len(server.arrivals) == 100 + 2
            assert [arrival.target for arrival in server.arrivals if "?" in arrival.target] == [
                "/api/i1/orders/?limit=1"
            ]

    run(tries())


@pytest.mark.parametrize("order_list", [moves.status(403), listing(), moves.html()])
def test_without_a_good_order_nothing_is_believed(tmp_path: Path, order_list: Behaviour) -> None:
    """Every order 404, and the list refused, empty or a page: exit 6 with both facts, and no reject."""
    work = Work(tmp_path, numbers(60))

    async def tries() -> None:
        async with FaultyServer(shop(moves.status(404), order_list)) as server:
            with pytest.raises(ApiUnavailableError, match=r"404.*the order list"):
                await work.refresh(server.url)
        async with FaultyServer() as server:
            assert await work.refresh(server.url) == {"fetched": 60}

    run(tries())


@pytest.mark.parametrize("fault", [moves.status(502), moves.end(End.RESET), MAINTENANCE])
def test_a_short_outage_loses_no_order(tmp_path: Path, fault: Behaviour) -> None:
    """Shorter than what stops a run, yet longer than two attempts: the failed ones wait at the end of the line."""
    work = Work(tmp_path, numbers(150))

    async def tries() -> None:
        async with FaultyServer(Turning(60, fault, count=30)) as server:
            assert await work.refresh(server.url, 25.0, max_attempts=2, concurrency=8) == {"fetched": 150}
            assert len(server.arrivals) <= 150 + 30 + 2

    run(tries(), 40)


def test_what_passes_is_asked_once_more_at_the_end(tmp_path: Path) -> None:
    """An order whose attempts fail early has its last one after all others, after a pause."""
    began = time.monotonic()

    def passing(number: str, nth: int) -> Iterable[Step]:
        ails = number == "a3" and time.monotonic() - began < 1.2
        return (moves.status(500) if ails else moves.good)(number, nth)

    work = Work(tmp_path, numbers(40))

    async def tries() -> None:
        async with FaultyServer(passing) as server:
            assert await work.refresh(server.url, max_attempts=2) == {"fetched": 40}
            assert server.arrivals[-1].number == "a3"
            assert len(server.arrivals) == 41

    run(tries())


@pytest.mark.parametrize(("rate", "workers"), PACES)
def test_a_list_of_wrong_numbers_is_not_asked_to_its_end(tmp_path: Path, rate: str, workers: int) -> None:
    """As soon as the rejects rule publishing out, no more is asked; the error tells three of them."""
    work = Work(tmp_path, numbers(1000))
    api = shop(moves.by_number({"good": moves.good}, moves.status(404)), listing("good"))

    async def tries() -> None:
        async with FaultyServer(api) as server:
            with pytest.raises(TooManyRejectsError) as raised:
                await work.refresh(server.url, most_rejects=50, rate=rate, concurrency=workers)
            assert len(server.arrivals) <= 50 + 200 + 2 * workers + 20
            before = len(server.arrivals)
            assert " of 1,000 orders" in str(raised.value)
            for index in range(3):
                assert f"line {index + 1}, a{index}: not_found (the API answered 404" in str(raised.value)
            assert sum((await work.refresh(server.url, most_rejects=1000)).values()) == 1000
            assert len(server.arrivals) <= 1000 + workers + 32 + 12
            assert len(server.arrivals) > before

    run(tries(), 40)


LIMITS: dict[str, Behaviour] = {
    "429": moves.status(429),
    "429 html": moves.html(429),
    "429 now": moves.throttled("0"),
    "403 challenge": moves.answer(b"<html>", 403, {"cf-mitigated": "challenge", "Content-Type": "text/html"}),
    "403 retry-after": moves.status(403, {"Retry-After": "1"}),
    "200 page retry-after": moves.answer(b"<html>", 200, {"Retry-After": "1", "Content-Type": "text/html"}),
    "503": moves.status(503),
    "503 retry-after": moves.status(503, {"Retry-After": "1"}),
    "ratelimit": moves.status(
        403, {"RateLimit": '"default";r=0;t=1', "RateLimit-Policy": '"default";q=5;w=1'}
    ),
    "x-ratelimit": moves.status(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}),
}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_a_limit_is_waited_for_by_everybody(tmp_path: Path, limit: Behaviour) -> None:
    """Told by status or header, it uses up no attempt, and everybody pauses: few requests are wasted."""
    work = Work(tmp_path, numbers(60))

    async def tries() -> None:
        async with FaultyServer(Turning(30, limit, for_s=0.5)) as server:
            settled = await work.refresh(server.url, 10.0, max_attempts=1, rate="100/s", concurrency=4)
            assert settled == {"fetched": 60}
            assert len(server.arrivals) <= 60 + 4 + 1

    run(tries(), 40)


@pytest.mark.parametrize(("refusal", "reason"), [(moves.throttled("0"), "429"), (moves.status(503), "503")])
def test_an_order_that_is_throttled_alone_blocks_nobody(
    tmp_path: Path, refusal: Behaviour, reason: str
) -> None:
    """Refused again and again while the others are answered, it ends as `unavailable`."""
    work = Work(tmp_path, numbers(120))

    async def tries() -> None:
        async with FaultyServer({"a5": refusal}) as server:
            settled = await work.refresh(server.url, 10.0, rate="100/s", max_attempts=3)
            assert settled == {"fetched": 119, "unavailable": 1}, reason
            assert 3 <= orders_asked(server)["a5"] <= 12

    run(tries(), 60)


def test_many_workers_meet_a_wall_under_one_question(tmp_path: Path) -> None:
    """While there is doubt nobody asks but for the one known order, ever more rarely."""
    work = Work(tmp_path, numbers(500))

    async def tries() -> None:
        async with FaultyServer(Turning(100, WALL)) as server:
            with pytest.raises(ApiUnavailableError):
                await work.refresh(server.url, 2.0, concurrency=64)
            late: list[Any] = server.arrivals[100 + 64 + 20 :]
            assert len(late) <= 6
            assert len({arrival.number for arrival in late}) <= 1

    run(tries(), 40)


@pytest.mark.parametrize("rate", ["200/s", "auto"])
def test_the_limit_of_nginx_loses_no_order_and_wastes_few_requests(tmp_path: Path, rate: str) -> None:
    """`limit_req` at 20/s, burst 5, refuses with 503: every order is there, and few requests are refused."""

    with serving(moves.bare) as server, nginx_before(server.url, tmp_path, per_s=20, burst=5) as (url, log):
        work = Work(tmp_path, numbers(120))
        assert run(work.refresh(url, 60.0, rate=rate, timeout_s=5.0), 80) == {"fetched": 120}
        statuses = Counter(line.split('" ')[1].split()[0] for line in log.read_text().splitlines())
    assert statuses["200"] <= 120 + 3
    assert statuses["503"] <= 32 + 8


def test_a_host_that_does_not_exist_ends_the_run_at_once(tmp_path: Path) -> None:
    """No wait can mend it: it is told in its own words, after the first attempt."""
    work = Work(tmp_path, numbers(100))
    began = time.monotonic()
    with pytest.raises(ApiUnavailableError, match=r"nope\.invalid: no such host"):
        run(work.refresh("https://nope.invalid", 15.0, timeout_s=10.0))
    assert time.monotonic() - began < 10


def test_a_port_where_nobody_listens_is_told_so(tmp_path: Path) -> None:
    """A refused connection may be a restart: it is waited for, and then told as what it is."""
    work = Work(tmp_path, numbers(10))
    with pytest.raises(ApiUnavailableError, match="it refuses connections"):
        run(work.refresh("http://127.0.0.1:9", 0.3))
