"""The demo API keeps the promises that the documented one makes, and the faults that it was asked for."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.demo.api import DemoApi, DemoSettings, Fault, SlidingWindow, draw_fault, serve
from exporter.demo.orders import order_numbers, order_payload

_T = TypeVar("_T")
SAMPLE = json.loads((Path(__file__).parents[1] / "data" / "order_detail.sample.json").read_text("utf-8"))
PAYLOADS = [order_payload(number) for number in order_numbers(300)]
FREE_FORM = {"extra_field", "attributes", "attributes_kwargs"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Asker:
    """A client with a token, and the server that it asks."""

    def __init__(self, server: DemoApi, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.numbers = server.numbers
        self._session = session

    async def get(self, path: str, **options: Any) -> Answer:
        return await self._ask("GET", path, options)

    async def order(self, number: str) -> Answer:
        return await self.get(f"/api/i1/orders/{number}")

    async def login(self, **options: Any) -> Answer:
        return await self._ask("POST", "/api/i1/auth/login/", options)

    async def _ask(self, method: str, path: str, options: dict[str, Any]) -> Answer:
        async with self._session.request(method, self.server.url + path, **options) as response:
            return Answer(response.status, dict(response.headers), await response.json())


@asynccontextmanager
async def asking(**settings: Any) -> AsyncIterator[Asker]:
    headers = {"Authorization": "Token demo-token"}
    async with serve(DemoSettings(**settings)) as server, aiohttp.ClientSession(headers=headers) as session:
        yield Asker(server, session)


def run(test: Callable[[Asker], Coroutine[Any, Any, _T]], **settings: Any) -> _T:
    async def inside() -> _T:
        async with asking(**settings) as asker:
            return await test(asker)

    return asyncio.run(inside())


def shape(value: Any) -> Any:
    """Keys in order down to the leaves; free-form objects and the API's nulls have no shape."""
    if isinstance(value, dict):
        return [(key, None if key in FREE_FORM else shape(inner)) for key, inner in value.items()]
    return [shape(value[0])] if isinstance(value, list) else None


def leaves(value: Any) -> dict[str, Any]:
    """What an object holds, by path; the first entry stands for a list."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        nested = inner[0] if isinstance(inner, list) else inner
        if isinstance(nested, dict) and key not in FREE_FORM:
            found |= {f"{key}.{path}": leaf for path, leaf in leaves(nested).items()}
        else:
            found[key] = inner
    return found


# ---- orders


def test_an_order_is_made_from_its_number_alone() -> None:
    """Another process, with another hash seed, makes the same order."""
    code = "import json; from exporter.demo.orders import order_payload as p; print(json.dumps(p('a1')))"
    command = [sys.executable, "-c", code]
    outputs = {
        subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert [json.loads(output) for output in outputs] == [order_payload("a1")]


def test_every_order_has_every_key_of_the_documented_example_in_its_order() -> None:
    """No key is missing, none is new, at any depth."""
    assert {json.dumps(shape(payload)) for payload in PAYLOADS} == {json.dumps(shape(SAMPLE))}


def test_leaves_have_the_types_of_the_documented_example() -> None:
    """Where the example holds a value, so does every order; where it holds null, some do."""
    orders = [leaves(payload) for payload in PAYLOADS]
    for path, example in leaves(SAMPLE).items():
        values = [order[path] for order in orders]
        if example is None:
            assert None in values, path
            assert set(values) != {None}, path
        else:
            assert {type(value) for value in values} == {type(example)}, path


def test_items_belong_to_their_order_and_amounts_add_up() -> None:
    """1 to 5 items, all counts seen; the amount is prices and interest, less discounts, plus shipping."""
    assert {len(payload["orderitem_set"]) for payload in PAYLOADS} == {1, 2, 3, 4, 5}
    for payload in PAYLOADS:
        items = payload["orderitem_set"]
        assert {item["order"] for item in items} == {payload["id"]}

        def total(key: str, items: list[dict[str, Any]] = items) -> Decimal:
            return sum((Decimal(item[key]) for item in items), Decimal(0))

        assert Decimal(payload["discount_amount"]) == total("discount_amount")
        interest = total("installment_interest_amount")
        expected = (
            total("price") + interest - total("discount_amount") + Decimal(payload["net_shipping_amount"])
        )
        assert Decimal(payload["amount"]) == expected


def test_times_come_in_all_the_api_s_forms() -> None:
    """With and without microseconds, as `Z` and as an offset."""
    forms = {re.sub(r"\d", "0", payload["date_placed"]) for payload in PAYLOADS}
    date = "0000-00-00T00:00:00"
    assert forms == {f"{date}Z", f"{date}.000000Z", f"{date}+00:00", f"{date}.000000+00:00"}


def test_orders_hold_turkish_letters_and_nobody_real() -> None:
    """All letters that Turkish has beyond ASCII; reserved mail, web and network addresses, no area code."""
    text = json.dumps(PAYLOADS, ensure_ascii=False)
    assert set("çğıöşüÇĞİÖŞÜ") <= set(text)
    assert set(re.findall(r"[@/]([\w.-]+\.com)", text)) == {
        "example.com",
        "e-arsiv.example.com",
        "cdn.example.com",
    }
    assert set(re.findall(r"0 \((\d+)\)", text)) == {"198"}
    assert all(re.fullmatch(r"203\.0\.113\.\d+", p["remote_addr"] or "203.0.113.1") for p in PAYLOADS)


def test_orders_are_as_large_as_real_ones() -> None:
    """Compact JSON of 3 to 4.5 KB on average."""
    sizes = [
        len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()) for payload in PAYLOADS
    ]
    assert 3_000 < sum(sizes) / len(sizes) < 4_500


@given(st.text(min_size=1, max_size=128))
def test_any_text_is_an_order_number(number: str) -> None:
    """The order carries the number as given, and is JSON."""
    assert json.loads(json.dumps(order_payload(number)))["number"] == number


def test_order_numbers_are_unique_and_do_not_depend_on_how_many_are_asked_for() -> None:
    """15 hexadecimal characters, none twice; a longer list begins with the shorter one."""
    numbers = list(order_numbers(50_000))
    assert len(set(numbers)) == 50_000
    assert all(re.fullmatch("[0-9a-f]{15}", number) for number in numbers)
    assert list(order_numbers(10, start=90)) == numbers[90:100]


# ---- answers


def test_detail_answers_the_order_compressed_or_not() -> None:
    """The same order, gzip if the client takes it; the server's count is exact."""

    async def ask(asker: Asker) -> None:
        number = asker.numbers[3]
        packed = await asker.order(number)
        plain = await asker.get(f"/api/i1/orders/{number}", headers={"Accept-Encoding": "identity"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert packed.body == plain.body == order_payload(number)
        assert asker.server.stats.by_order == {number: 2}
        assert asker.server.stats.by_status == {"200": 2}

    run(ask)


@pytest.mark.parametrize("path", ["/api/i1/orders/unknown", "/api/i1/nothing", "/api/i1/orders/?page=99"])
def test_what_is_not_there_is_404(path: str) -> None:
    """An unknown number, path or page gets a JSON detail."""
    answer = run(lambda asker: asker.get(path))
    assert (answer.status, list(answer.body)) == (404, ["detail"])


@pytest.mark.parametrize("header", ["Token wrong", "Bearer demo-token", ""])
def test_another_token_is_401(header: str) -> None:
    """Nothing is answered without the token, and such a request takes nothing from the limit."""

    async def ask(asker: Asker) -> None:
        path = f"/api/i1/orders/{asker.numbers[0]}"
        for _ in range(3):
            answer = await asker.get(path, headers={"Authorization": header})
            assert (answer.status, answer.body) == (401, {"detail": "Invalid token."})
        assert (await asker.get(path)).status == 200

    run(ask, rate_limit_per_s=1)


def test_login_exchanges_user_name_and_password_for_the_token() -> None:
    """Needs no token; wrong words and broken JSON get 400."""

    async def ask(asker: Asker) -> None:
        good = await asker.login(json={"username": "demo", "password": "demo-password"}, headers={})
        assert (good.status, good.body) == (200, {"key": "demo-token"})
        assert (await asker.login(json={"username": "demo", "password": "guess"})).status == 400
        assert (await asker.login(data=b"{")).status == 400

    run(ask)


def test_pages_hold_every_order_once() -> None:
    """Following `next` from the first page lists all numbers in order; `previous` leads back."""

    async def ask(asker: Asker) -> None:
        url, listed = "/api/i1/orders/?limit=7", list[str]()
        while url:
            page = (await asker.get(url)).body
            assert page["count"] == 23
            listed += [order["number"] for order in page["results"]]
            last, url = url, (page["next"] or "").removeprefix(asker.server.url)
        assert listed == list(asker.numbers)
        assert page["previous"].endswith("page=3")
        assert last.endswith("page=4")

    run(ask, orders=23)


@pytest.mark.parametrize(("limit", "expected"), [("", 10), ("5", 5), ("100000", 100), ("x", 10), ("-1", 10)])
def test_limit_has_a_default_and_a_ceiling(limit: str, expected: int) -> None:
    """A senseless limit is ignored, one too large is cut."""
    page = run(lambda asker: asker.get("/api/i1/orders/", params={"limit": limit})).body
    assert len(page["results"]) == expected


def test_filters_keep_the_orders_that_match() -> None:
    """Status, is_send and cancel_status, alone and together, against the orders themselves."""

    async def ask(asker: Asker) -> None:
        payloads = [order_payload(number) for number in asker.numbers]
        cases: dict[str, Callable[[dict[str, Any]], bool]] = {
            "status=550": lambda order: order["status"] == "550",
            "is_send=true&status=500": lambda order: order["is_send"] and order["status"] == "500",
            "is_send=False": lambda order: not order["is_send"],
            "cancel_status=confirmed": lambda order: any(
                item["cancel_status"] == "confirmed" for item in order["orderitem_set"]
            ),
        }
        for query, matches in cases.items():
            page = (await asker.get(f"/api/i1/orders/?limit=100&{query}")).body
            assert [order["number"] for order in page["results"]] == [
                payload["number"] for payload in payloads if matches(payload)
            ], query
            assert 0 < page["count"] < len(payloads), query

    run(ask, orders=90)


# ---- limits and faults


@given(
    gaps=st.lists(st.floats(0, 0.5), min_size=1, max_size=80),
    count=st.integers(1, 10),
    window_s=st.floats(0.1, 3),
)
def test_no_window_lets_more_pass_than_it_says(gaps: list[float], count: int, window_s: float) -> None:
    """Whatever arrives when, any `count + 1` that passed span the window; a wait told is enough."""
    window, now, passed = SlidingWindow(count, window_s), 0.0, list[float]()
    for gap in gaps:
        now += gap
        if wait := window.wait_s(now):
            assert window.wait_s(now + wait + 1e-9) == 0
        else:
            window.take(now)
            passed.append(now)
    assert all(later - first > window_s - 1e-9 for first, later in zip(passed, passed[count:], strict=False))


def test_rate_limit_answers_429_as_django_rest_framework_does() -> None:
    """Of 30 at once, 10 pass at 10/s; the rest are told when; after that time they pass."""

    async def ask(asker: Asker) -> None:
        answers = await asyncio.gather(*(asker.order(number) for number in asker.numbers[:30]))
        assert Counter(answer.status for answer in answers) == {200: 10, 429: 20}
        refused = next(answer for answer in answers if answer.status == 429)
        assert refused.headers["Retry-After"] == "1"
        assert refused.body == {"detail": "Request was throttled. Expected available in 1 second."}
        await asyncio.sleep(int(refused.headers["Retry-After"]))
        assert (await asker.order(asker.numbers[0])).status == 200

    run(ask, rate_limit_per_s=10)


def test_a_slow_rate_is_one_request_in_a_longer_window() -> None:
    """0.5/s lets one pass in two seconds."""
    window = SlidingWindow.per_second(0.5)
    window.take(10.0)
    assert window.wait_s(11.5) == 0.5
    assert window.wait_s(12.0) == 0


def test_faults_come_at_their_rate_and_depend_on_nothing_but_seed_path_and_count() -> None:
    """Each kind is there, the share is right, another seed spoils other requests."""

    def faults(seed: int) -> list[Fault | None]:
        return [draw_fault(0.3, seed, f"/{number}", 1) for number in range(4_000)]

    counts = Counter(faults(1))
    assert set(counts) == {None, *Fault}
    assert 0.27 < 1 - counts[None] / 4_000 < 0.33
    assert faults(1) == faults(1) != faults(2)
    assert draw_fault(0.0, 1, "/", 1) is None


def test_each_fault_reaches_the_client() -> None:
    """Errors and pages in HTML, a reset, a cut body, an order that takes two seconds."""
    seen: set[str] = set()

    async def ask(asker: Asker) -> None:
        await asyncio.gather(*(meet(asker, number) for number in asker.numbers))

    async def meet(asker: Asker, number: str) -> None:
        begin = time.monotonic()
        try:
            assert (await asker.order(number)).body["number"] == number
            seen.add("slow" if time.monotonic() - begin >= 2 else "good")
        except aiohttp.ContentTypeError as error:
            seen.add(f"{error.status} in HTML")
        except aiohttp.ClientPayloadError:
            seen.add("cut")
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            seen.add("reset")

    run(ask, orders=40, fault_rate=1.0, seed=5)
    assert seen == {"500 in HTML", "502 in HTML", "200 in HTML", "cut", "reset", "slow"}


def test_latency_and_statistics() -> None:
    """An answer takes at least the latency; who asks for the statistics is not counted in them."""

    async def ask(asker: Asker) -> None:
        begin = time.monotonic()
        await asker.order(asker.numbers[0])
        assert time.monotonic() - begin >= 0.1
        stats = (await asker.get("/_stats")).body
        assert stats == (await asker.get("/_stats")).body
        assert stats == {"requests": 1, "by_status": {"200": 1}, "by_order": {asker.numbers[0]: 1}}

    run(ask, latency_s=0.1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send these signals to one process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_tells_how_to_use_it_and_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    """The URL comes first, the token is told; a signal ends it with code 0 and no traceback."""
    command = [sys.executable, "-m", "exporter", "serve", "--port", "0", "--token", "t0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        assert server.stdout.readline().startswith("http://127.0.0.1:")
        server.send_signal(number)
        rest, errors = server.stdout.read(), server.stderr.read()
    assert (server.returncode, errors) == (0, "")
    assert "EXPORTER_API_TOKEN=t0" in rest
