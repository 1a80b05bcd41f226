"""One attempt, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import brotli  # type: ignore[import-untyped] # it ships no types
import pytest
import zstandard
from yarl import URL

from exporter import __version__
from exporter.api.client import Client, _only_adds_a_slash
from exporter.api.transport import _Addresses
from exporter.model.errors import (
    AttemptError,
    BadResponseError,
    PermanentError,
    ThrottledError,
    TokenRefusedError,
    TransientError,
)
from exporter.model.records import Answer, Traffic
from tests.support.clients import TOKEN, client_of, run, serving
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer, Plan
from tests.support.servers.moves import Behaviour, End, Step

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("transport")]


async def failure_of(client: Client, number: str = "a1", attempt: int = 1) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        await client.fetch(number, attempt)
    return caught.value


def failure(behaviour: Behaviour, **settings: object) -> tuple[AttemptError, FaultyServer, Traffic]:
    """Ask once for an order that fails."""

    async def ask() -> tuple[AttemptError, FaultyServer, Traffic]:
        async with FaultyServer(behaviour) as server, client_of(server.url, **settings) as client:
            return await failure_of(client), server, client.traffic

    return run(ask())


def test_an_order_is_asked_for_as_documented() -> None:
    """The path has no slash at the end, the headers are the documented ones, and nothing else is sent."""

    async def ask() -> None:
        async with FaultyServer() as server, client_of(server.url) as client:
            answer = await client.fetch("a1", 1)
            assert answer.payload == moves.order_body("a1")
            assert answer.order_status == json.loads(answer.payload)["status"]
            [arrival] = server.arrivals
            assert (arrival.method, arrival.target, arrival.body) == ("GET", "/api/i1/orders/a1", "")
            assert dict(arrival.headers) == {
                "host": server.url.removeprefix("http://"),
                "authorization": f"Token {TOKEN}",
                "accept": "application/json",
                "content-type": "application/json",
                "user-agent": f"omnitron-exporter/{__version__}",
                "accept-encoding": "gzip, deflate, br, zstd",
            }
            assert client.traffic == Traffic(sent=1)

    run(ask())


@pytest.mark.parametrize(
    ("number", "segment"),
    [
        ("a/b", "a%2Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("%41", "%2541"),
        ("şğ+&;=", "%C5%9F%C4%9F%2B%26%3B%3D"),
        ("..a", "..a"),
        ("a:b@c", "a%3Ab%40c"),
    ],
)
def test_an_order_number_is_one_path_segment(number: str, segment: str) -> None:
    """Whatever is in it, nothing becomes a path, a query or another number."""

    async def ask() -> None:
        async with FaultyServer() as server, client_of(server.url) as client:
            assert json.loads((await client.fetch(number, 1)).payload)["number"] == number
            assert server.arrivals[0].target == f"/api/i1/orders/{segment}"

    run(ask())


def compressed(encoding: str) -> Behaviour:
    pack = {
        "gzip": lambda body: (packer := zlib.compressobj(wbits=31)).compress(body) + packer.flush(),
        "br": brotli.compress,
        "zstd": zstandard.compress,
    }[encoding]
    return lambda number, nth: moves.answer(
        pack(moves.order_body(number)), headers={"Content-Encoding": encoding}
    )(number, nth)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_compressed_answers_are_decoded(encoding: str) -> None:
    """What is asked for in Accept-Encoding can be read."""

    async def ask() -> None:
        async with FaultyServer(compressed(encoding)) as server, client_of(server.url) as client:
            assert (await client.fetch("a1", 1)).payload == moves.order_body("a1")

    run(ask())


@pytest.mark.parametrize(
    "behaviour",
    [
        moves.end(End.CLOSE),
        moves.end(End.RESET),
        moves.cut_headers(),
        moves.cut_body(),
        moves.cut_body(End.RESET),
        moves.cut_chunked(),
        moves.not_gzip,
    ],
)
def test_an_attempt_is_one_request(behaviour: Behaviour) -> None:
    """A broken connection is a transient failure, and nobody sends the request again by himself."""
    error, server, traffic = failure(behaviour)
    assert isinstance(error, TransientError)
    assert len(server.arrivals) == 1
    assert traffic == Traffic(sent=1)


def test_a_dropped_keep_alive_connection_costs_one_counted_attempt() -> None:
    """A request that meets the end of an idle connection is not sent again in secret."""

    async def ask() -> None:
        async with FaultyServer(Plan(answers_per_connection=1)) as server, client_of(server.url) as client:
            await client.fetch("a1", 1)
            assert isinstance(await failure_of(client, "a2"), TransientError)
            await client.fetch("a2", 2)
            assert [arrival.connection for arrival in server.arrivals] == [1, 1, 2]
            assert client.traffic == Traffic(sent=3, retried=1)

    run(ask())


def test_a_connection_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a server closes it for being idle, it is given up: meeting that moment would cost an attempt."""
    monkeypatch.setattr("exporter.api.transport.KEEPALIVE_S", 0.1)

    async def ask() -> None:
        async with FaultyServer(moves.good) as server, client_of(server.url) as client:
            for number, idle_s in (("a1", 0.0), ("a2", 0.2), ("a3", 0.0)):
                await asyncio.sleep(idle_s)
                await client.fetch(number, 1)
            assert [arrival.connection for arrival in server.arrivals] == [1, 2, 2]

    run(ask())


def test_an_answer_that_nobody_asked_for_is_nobodys(transport: str) -> None:
    """What comes on an idle connection, such as a proxy's 408, is not taken for the next order's answer.

    aiohttp's session notices it when the next request is on its way: that costs an attempt.
    """

    def good_then_408(number: str, nth: int) -> Iterable[Step]:
        return itertools.chain(moves.good(number, nth), [moves.Pause(0.01)], moves.status(408)(number, nth))

    async def ask() -> None:
        async with FaultyServer({"a1": good_then_408}) as server, client_of(server.url) as client:
            await client.fetch("a1", 1)
            await asyncio.sleep(0.1)  # the answer that nobody asked for arrives
            if transport == "session":
                assert (await failure_of(client, "a2")).http_status is None
            assert json.loads((await client.fetch("a2", 1)).payload)["number"] == "a2"
            assert [arrival.connection for arrival in server.arrivals][-1] == 2

    run(ask())


def test_what_comes_before_the_answer_is_passed_over() -> None:
    """Informational answers (100, 103) are none."""

    def hinted(number: str, nth: int) -> Iterable[Step]:
        hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
        return itertools.chain([b"HTTP/1.1 100 Continue\r\n\r\n", hint], moves.good(number, nth))

    async def ask() -> None:
        async with FaultyServer(hinted) as server, client_of(server.url) as client:
            for number in ("a1", "a2"):
                assert json.loads((await client.fetch(number, 1)).payload)["number"] == number
            assert {arrival.connection for arrival in server.arrivals} == {1}

    run(ask())


@pytest.mark.parametrize("code", [400, 402, 403, 404, 405, 406, 409, 410, 418, 422, 451, 499])
def test_4xx_is_permanent(code: int) -> None:
    """Each has its reason, and says so with its status."""
    error, server, _ = failure(moves.status(code))
    assert isinstance(error, PermanentError)
    assert error.reason == {403: "forbidden", 404: "not_found"}.get(code, "client_error")
    assert error.http_status == code
    assert len(server.arrivals) == 1


@pytest.mark.parametrize("code", [408, 500, 502, 503, 504, 520, 599])
def test_408_and_5xx_are_transient(code: int) -> None:
    """They end as `unavailable` when attempts run out."""
    error, _, _ = failure(moves.html(code))
    assert isinstance(error, TransientError)
    assert (error.reason, error.http_status) == ("unavailable", code)


@pytest.mark.parametrize(
    "behaviour", [moves.html(), moves.broken_json, moves.not_utf8, moves.with_bom, moves.status(204)]
)
def test_a_success_that_is_no_json_may_be_whole_next_time(behaviour: Behaviour) -> None:
    """It ends as `bad_response` when attempts run out."""
    error, _, _ = failure(behaviour)
    assert isinstance(error, BadResponseError)
    assert error.reason == "bad_response"


@pytest.mark.parametrize("behaviour", [moves.another_number, moves.a_list, moves.nested(100_000)])
def test_json_that_is_not_the_order_is_refused_at_once(behaviour: Behaviour) -> None:
    """Asking again cannot help."""
    error, _, _ = failure(behaviour)
    assert isinstance(error, PermanentError)
    assert (error.reason, error.http_status) == ("bad_response", 200)


def test_the_content_type_does_not_matter() -> None:
    """An order that calls itself text is an order."""

    async def ask() -> None:
        async with FaultyServer(moves.wrong_content_type) as server, client_of(server.url) as client:
            await client.fetch("a1", 1)

    run(ask())


def interim(number: str, nth: int) -> Iterable[Step]:
    return (b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n", *moves.good(number, nth))


def test_an_interim_answer_is_no_answer() -> None:
    """103 before the 200 is passed over."""

    async def ask() -> None:
        async with FaultyServer(interim) as server, client_of(server.url) as client:
            assert (await client.fetch("a1", 1)).http_status == 200

    run(ask())


# ---- time


def stalled_body(number: str, _nth: int) -> Iterable[Step]:
    body = moves.order_body(number)
    return moves.head(length=len(body)), body[:100], End.STALL


def bad_chunk(number: str, _nth: int) -> Iterable[Step]:
    return moves.head(), moves.chunk(b'{"number":'), b"not a length\r\n", End.STALL


@pytest.mark.parametrize(
    "behaviour",
    [moves.end(End.STALL), moves.drip(0.01), stalled_body],
    ids=["stall", "drip", "stall in mid-body"],
)
def test_an_attempt_ends_at_its_time_out(behaviour: Behaviour) -> None:
    """A byte now and then buys no more time."""
    began = time.monotonic()
    error, _, _ = failure(behaviour, timeout_s=0.3)
    assert isinstance(error, TransientError)
    assert error.what == "no complete answer within 0.3 s"
    assert time.monotonic() - began < 1.5


def test_a_broken_chunk_ends_the_attempt_at_once() -> None:
    """Nobody waits for the time-out of an answer that cannot go on."""
    error, _, _ = failure(bad_chunk, timeout_s=60.0)
    assert isinstance(error, TransientError)


def test_the_wait_for_a_slot_is_not_part_of_the_time_out() -> None:
    """At 4 requests a second the last of four starts after the time-out of the first, and is answered."""

    async def ask() -> None:
        async with FaultyServer() as server, client_of(server.url, rate="4/s", timeout_s=0.5) as client:
            await asyncio.gather(*(client.fetch(f"a{index}", 1) for index in range(4)))

    run(ask())


def test_a_process_that_stood_still_reads_what_came_meanwhile() -> None:
    """A laptop that slept, a machine that swapped: the time is given back, and no order is asked for again."""

    async def ask(server: FaultyServer) -> None:
        async with client_of(server.url, timeout_s=0.3) as client:
            answer = asyncio.create_task(client.fetch("a1", 1))
            while not server.arrivals:  # noqa: ASYNC110 - it stands in another thread
                await asyncio.sleep(0.001)
            wakes_up = time.monotonic() + 0.6
            while time.monotonic() < wakes_up:
                pass
            assert (await answer).payload == moves.order_body("a1")

    with serving(moves.late(0.1)) as server:
        run(ask(server))


@pytest.mark.parametrize(
    ("code", "kind"), [(404, PermanentError), (401, TokenRefusedError), (301, PermanentError)]
)
def test_a_refusal_stands_whatever_its_body_does(code: int, kind: type[Exception]) -> None:
    """A 404 whose body never comes is a 404, not a time-out that is asked again."""

    def refused(_number: str, _nth: int) -> Iterable[Step]:
        return moves.head(code, {"Location": "/elsewhere"}, length=100), End.STALL

    async def ask() -> None:
        async with FaultyServer(refused) as server, client_of(server.url, timeout_s=0.3) as client:
            with pytest.raises(kind):
                await client.fetch("a1", 1)
            assert len(server.arrivals) == 1

    run(ask())


def late_body(number: str, nth: int) -> Iterable[Step]:
    head, _, body = b"".join(
        step for step in moves.status(404)(number, nth) if isinstance(step, bytes)
    ).partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", moves.Pause(0.02), body


def test_a_refusal_does_not_cost_the_connection() -> None:
    """Its body is read out, so that the next request needs no new handshake."""

    async def ask() -> None:
        async with FaultyServer(late_body) as server, client_of(server.url) as client:
            for index in range(3):
                await failure_of(client, f"a{index}")
            assert {arrival.connection for arrival in server.arrivals} == {1}

    run(ask())


# ---- 429


@pytest.mark.parametrize("form", ["seconds", "date", "absent"])
def test_429_is_throttled_and_counted_apart(form: str) -> None:
    """The wait is read in each form, a date against the answer's own clock."""
    now = datetime(2020, 1, 1, tzinfo=UTC)
    headers = {
        "seconds": {"Retry-After": "7"},
        "date": {
            "Retry-After": format_datetime(now + timedelta(seconds=7), usegmt=True),
            "Date": format_datetime(now, usegmt=True),
        },
        "absent": {},
    }[form]
    error, _, traffic = failure(moves.status(429, headers))
    assert isinstance(error, ThrottledError)
    assert error.retry_after_s == (None if form == "absent" else 7.0)
    assert traffic == Traffic(sent=1, throttled=1)


def test_the_next_request_waits_as_the_429_asked() -> None:
    """Whoever asks next, it starts when the pause is over."""
    plan = moves.by_number({"a1": moves.in_turn(moves.throttled("1"), moves.good)})

    async def ask() -> None:
        async with FaultyServer(plan) as server, client_of(server.url) as client:
            await failure_of(client)
            await asyncio.gather(client.fetch("a1", 1), client.fetch("a2", 1))
            first, *later = [arrival.at for arrival in server.arrivals]
            assert min(later) - first >= 1.0
            assert client.traffic == Traffic(sent=3, throttled=1)

    run(ask())


# ---- redirects


def test_a_redirect_to_another_origin_is_never_followed() -> None:
    """The other server sees nothing at all, the token least of all."""

    async def ask() -> None:
        async with FaultyServer() as other:
            targets = [f"{other.url}/api/i1/orders/a1/", f"//127.0.0.1:{other.port}/api/i1/orders/a1/"]
            for target, code in itertools.product(targets, [301, 302, 303, 307, 308]):
                async with (
                    FaultyServer(moves.redirect(target, code)) as server,
                    client_of(server.url) as client,
                ):
                    error = await failure_of(client)
                    assert isinstance(error, PermanentError)
                    assert (error.reason, error.http_status) == ("client_error", code)
                    assert len(server.arrivals) == 1
            assert other.arrivals == []

    run(ask())


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/login",
        "/api/i1/orders/a2/",
        "/api/i1/orders/a1",
        "/api/i1/orders/a1//",
        "?a=1",
        "http://[bad",
        "ftp://x/",
    ],
)
def test_a_redirect_within_the_origin_is_refused_too(location: str) -> None:
    """Only a slash more is learnt; garbage is an answer like any other."""
    error, server, _ = failure(moves.redirect(location))
    assert isinstance(error, PermanentError)
    assert error.reason == "client_error"
    assert len(server.arrivals) == 1


@pytest.mark.parametrize(
    ("location", "learnt"),
    [("https://a.example:443/x/", True), ("//a.example:443/x/", True), ("https://a.example:444/x/", False)],
)
def test_a_redirect_that_spells_out_its_port(location: str, learnt: bool) -> None:
    """The scheme's own port is no other origin."""
    assert _only_adds_a_slash(URL("https://a.example/x", encoded=True), location) is learnt


@pytest.mark.parametrize("number", ["a1", "a:b", "a/", "şğ%"])
def test_a_slash_redirect_is_learnt_once(number: str) -> None:
    """However the server escapes the path, the next orders are asked for in their final form."""

    async def ask() -> None:
        async with FaultyServer(Plan(slash=True)) as server, client_of(server.url) as client:
            for each in (number, "a2", "a3"):
                assert json.loads((await client.fetch(each, 1)).payload)["number"] == each
            assert [arrival.target[-1] == "/" for arrival in server.arrivals] == [False, True, True, True]
            assert client.traffic == Traffic(sent=4, redirected=1)

    run(ask())


def test_a_slash_redirect_in_the_form_that_django_writes() -> None:
    """Django leaves `:` and `@` as they are where we escape them."""
    unescaped = "/api/i1/orders/a:b@c/"
    plan = moves.by_number({unescaped: moves.good}, moves.redirect(unescaped))

    async def ask() -> None:
        async with FaultyServer(plan) as server, client_of(server.url) as client:
            await failure_of(client, "a:b@c")
            assert [arrival.target for arrival in server.arrivals] == [
                "/api/i1/orders/a%3Ab%40c",
                "/api/i1/orders/a%3Ab%40c/",
            ]

    run(ask())


def test_only_requests_in_flight_are_redirected() -> None:
    """Thirty wait for their slot at 10 a second when the first is redirected: they ask the new form."""

    async def ask() -> None:
        plan = Plan(slash=True, latency_s=0.15)
        async with FaultyServer(plan) as server, client_of(server.url, rate="10/s") as client:
            await asyncio.gather(*(client.fetch(f"a{index}", 1) for index in range(12)))
            redirected = [arrival for arrival in server.arrivals if not arrival.target.endswith("/")]
            assert 1 <= len(redirected) <= 3
            assert client.traffic == Traffic(sent=len(server.arrivals), redirected=len(redirected))

    run(ask())


# ---- stopping


def test_draining_lets_arrive_what_is_in_flight_and_starts_nothing() -> None:
    """After the drain has begun no request starts, and those under way are not cut."""

    async def ask() -> None:
        async with FaultyServer(Plan(latency_s=0.3)) as server, client_of(server.url, rate="10/s") as client:
            asking = [asyncio.create_task(client.fetch(f"a{index}", 1)) for index in range(8)]
            while len(server.arrivals) < 2:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
            started = len(server.arrivals)
            await client.drain(5.0)
            assert len(server.arrivals) <= started + 1
            assert sum(task.done() and not task.cancelled() for task in asking) == len(server.arrivals)
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    run(ask())


def test_what_never_connected_is_not_counted() -> None:
    """A request that found nobody listening did not reach the wire."""

    async def ask() -> None:
        async with FaultyServer() as server:
            url = server.url
        async with client_of(url) as client:
            error = await failure_of(client)
            assert isinstance(error, TransientError)
            assert error.what == f"no connection to {url.removeprefix('http://')}: it refuses connections"
            assert client.traffic == Traffic()

    run(ask())


# ---- garbage

_SPLICES = (
    b"\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"\x00",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
)


def garbled(number: str, _nth: int) -> Iterable[Step]:
    """An answer with up to eight wounds behind its status, cut in two, and now and then cut off."""
    dice = random.Random(number)
    body = moves.order_body(number)
    packed, encoding = dice.choice(
        [(body, "identity"), (zlib.compress(body, wbits=31), "gzip"), (zstandard.compress(body), "zstd")]
    )
    headers = {"Content-Encoding": encoding}
    framed = moves.head(headers=headers) + moves.chunk(packed) + moves.chunk(b"")
    data = bytearray(dice.choice([framed, moves.head(headers=headers, length=len(packed)) + packed]))
    for _ in range(dice.randrange(9)):
        at = dice.randrange(12, dice.choice([100, len(data)]))
        data[at : at + dice.randrange(3)] = dice.choice(
            [*_SPLICES, dice.randbytes(4), data[at : at + 50], b""]
        )
    cut = dice.randrange(len(data))
    yield from (bytes(data[:cut]), moves.Pause(0.001), bytes(data[cut:]))
    yield from dice.choice([(), (End.CLOSE,), (End.RESET,)])


def test_garbage_becomes_one_of_our_errors() -> None:
    """Whatever 800 garbled answers hold, nothing of aiohttp's or Python's gets past the client."""

    async def ask() -> None:
        outcomes: Counter[type] = Counter()

        async def worker(numbers: Iterator[int]) -> None:
            for number in numbers:
                try:
                    outcomes[type(await client.fetch(f"a{number}", 1))] += 1
                except AttemptError as error:
                    outcomes[type(error)] += 1

        async with FaultyServer(garbled) as server, client_of(server.url, timeout_s=0.2) as client:
            numbers = iter(range(800))
            await asyncio.gather(*(worker(numbers) for _ in range(32)))
        assert outcomes.total() == 800
        assert {Answer, BadResponseError, TransientError} <= set(outcomes)

    run(ask())


def test_a_name_that_nobody_waits_for_any_more_is_not_complained_about() -> None:
    """An attempt may end while its host is looked up: what comes of that is nobody's, and no traceback on stderr."""
    complaints: list[str] = []

    async def ask() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about["message"]))
        addresses = _Addresses()
        asking = asyncio.create_task(addresses.resolve("nope.invalid"))
        await asyncio.sleep(0)
        ((_, lookup),) = addresses.known.values()
        asking.cancel()
        await asyncio.wait({asking, lookup})

    run(ask())
    gc.collect()
    assert complaints == []
