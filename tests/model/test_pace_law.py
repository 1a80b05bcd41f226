"""The pace against simulated APIs, in virtual time: minutes of a run in a moment."""

from __future__ import annotations

import asyncio
import bisect
import math
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import pytest

from exporter.api.pace import Pace
from exporter.model.errors import ApiUnavailableError
from exporter.model.rate import Rate

pytestmark = pytest.mark.fast

CONCURRENCY = 32
T = TypeVar("T")


class VirtualSelector(selectors.SelectSelector):
    """Instead of waiting, puts the clock forward."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "the simulation waits for something that never comes"
        self.now += timeout + 1e-9
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.virtual = VirtualSelector()
        super().__init__(self.virtual)

    def time(self) -> float:
        return self.virtual.now


def in_virtual_time(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


Answer = tuple[int, float | None, float]  # status, Retry-After, seconds until the answer


@dataclass
class QuotaApi:
    """Bears `quota` requests in any `window_s`; a refused one is not counted."""

    quota: int
    window_s: float
    latency_s: float = 0.05
    retry_after: bool = True
    admitted: deque[float] = field(default_factory=deque)

    def ask(self, now: float) -> Answer:
        while self.admitted and self.admitted[0] <= now - self.window_s:
            self.admitted.popleft()
        if len(self.admitted) < self.quota:
            self.admitted.append(now)
            return 200, None, self.latency_s
        wait_s = math.ceil(self.admitted[0] + self.window_s - now)
        return 429, float(wait_s) if self.retry_after else None, self.latency_s


@dataclass
class QueueApi:
    """Answers one request after the other: beyond `capacity` a second a queue grows."""

    capacity: float
    latency_s: float = 0.05
    free_at: float = 0.0

    def ask(self, now: float) -> Answer:
        self.free_at = max(self.free_at, now) + 1 / self.capacity
        return 200, None, self.latency_s + self.free_at - now


@dataclass
class WhimApi:
    """Refuses one request in `every`, whatever the pace."""

    every: int
    asked: int = 0

    def ask(self, now: float) -> Answer:
        self.asked += 1
        return (200, None, 0.05) if self.asked % self.every else (429, None, 0.05)


@dataclass
class LeakyApi:
    """`limit_req` of nginx: a bucket that leaks `per_s` and holds `burst`; more is answered 503."""

    per_s: float
    burst: int
    latency_s: float = 0.01
    excess: float = 0.0
    last: float = -math.inf

    def ask(self, now: float) -> Answer:
        excess = max(0.0, self.excess - (now - self.last) * self.per_s + 1)
        if excess > self.burst and self.last > -math.inf:
            return 503, None, self.latency_s
        self.excess, self.last = min(excess, self.burst), now
        return 200, None, self.latency_s


@dataclass
class MinuteApi:
    """Bears `quota` requests in each minute of its own clock, counts the refused ones too, and says no more."""

    quota: int
    asked: int = 0
    minute: int = -1

    def ask(self, now: float) -> Answer:
        if (minute := int((now + 23) // 60)) != self.minute:
            self.minute, self.asked = minute, 0
        self.asked += 1
        return (200, None, 0.02) if self.asked <= self.quota else (429, None, 0.02)


@dataclass
class WallApi:
    """Answers 403 for a minute after more than 100 requests in 10 seconds."""

    admitted: deque[float] = field(default_factory=deque)
    until: float = -math.inf
    walls: int = 0

    def ask(self, now: float) -> Answer:
        if now < self.until:
            return 403, None, 0.02
        while self.admitted and self.admitted[0] <= now - 10:
            self.admitted.popleft()
        self.admitted.append(now)
        if len(self.admitted) <= 100:
            return 200, None, 0.02
        self.admitted.clear()
        self.until, self.walls = now + 60, self.walls + 1
        return 403, None, 0.02


@dataclass
class StrayApi:
    """Refuses one request for no reason, and never again."""

    at: int
    retry_after_s: float | None
    asked: int = 0

    def ask(self, now: float) -> Answer:
        self.asked += 1
        return (429, self.retry_after_s, 0.02) if self.asked == self.at else (200, None, 0.02)


@dataclass
class MixedApi:
    """Several limiters one behind the other: the first that refuses is heard."""

    apis: tuple[Api, ...]

    def ask(self, now: float) -> Answer:
        answers = [api.ask(now) for api in self.apis]
        return next((answer for answer in answers if answer[0] != 200), answers[0])


class Api(Protocol):
    """A simulated API."""

    def ask(self, now: float) -> Answer: ...


@dataclass
class Ran:
    starts: list[float] = field(default_factory=list)
    answers: list[tuple[float, int]] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def most_in(self, window_s: float) -> int:
        return max(bisect.bisect_left(self.starts, at + window_s) - i for i, at in enumerate(self.starts))

    def count(self, status: int, since: float = 0.0, until: float = math.inf) -> int:
        return sum(1 for at, each in self.answers if each == status and since <= at < until)


async def simulate(
    api: Api, pace: Pace, *, orders: float = math.inf, until: float = math.inf, ran: Ran | None = None
) -> Ran:
    """Let workers ask for orders until each is answered or the time is over."""
    loop = asyncio.get_running_loop()
    ran = Ran() if ran is None else ran
    left = orders

    async def work() -> None:
        nonlocal left
        while left > 0 and loop.time() < until:
            left -= 1
            while not await ask_once():
                pass

    async def ask_once() -> bool:
        await pace.slot()
        started = loop.time()
        status, retry_after_s, latency_s = api.ask(started)
        ran.starts.append(started)
        await asyncio.sleep(latency_s)
        ran.answers.append((loop.time(), status))
        ran.latencies.append(latency_s)
        if status == 200:
            pace.answered(loop.time() - started)
        else:
            pace.throttled(retry_after_s, loop.time() - started, str(status))
        return status == 200

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(work())
    return ran


def paced(rate: str, **options: Any) -> Pace:
    return Pace(Rate.parse(rate), clock=asyncio.get_running_loop().time, **options)


def ran_against(
    api: Api, rate: str, *, orders: float = math.inf, until: float = math.inf, **options: Any
) -> Ran:
    async def main() -> Ran:
        return await simulate(api, paced(rate, **options), orders=orders, until=until)

    return in_virtual_time(main)


@pytest.mark.parametrize("latency_s", [0.005, 0.05, 0.5])
@pytest.mark.parametrize("retry_after", [True, False])
@pytest.mark.parametrize("rate", ["100/s", "unlimited"])
def test_a_refused_rate_costs_little(rate: str, retry_after: bool, latency_s: float) -> None:
    """Asking too much of an API that bears 30/s takes at most 1.2 times what the quota itself takes."""
    ran = ran_against(QuotaApi(30, 1.0, latency_s, retry_after), rate, orders=1800)
    assert ran.count(200) == 1800
    assert ran.answers[-1][0] <= 1.2 * 60
    assert ran.count(429) <= 0.05 * 1800


@pytest.mark.parametrize("until", [90.0, 180.0])
@pytest.mark.parametrize("retry_after", [True, False])
@pytest.mark.parametrize(("quota", "window_s"), [(30, 1.0), (300, 60.0)])
def test_auto_finds_a_hidden_quota(quota: int, window_s: float, retry_after: bool, until: float) -> None:
    """After 30 s `auto` uses 85 % of a quota a second or a minute, with at most 2 % of 429s."""
    ran = ran_against(QuotaApi(quota, window_s, 0.05, retry_after), "auto", until=until)
    assert ran.count(200, since=30) >= 0.85 * (until - 30) * quota / window_s
    assert ran.count(429) <= 0.02 * len(ran.answers)


@pytest.mark.parametrize("latency_s", [0.005, 0.05, 0.5])
def test_auto_finds_a_capacity_by_latency(latency_s: float) -> None:
    """Without one refusal `auto` comes to use 85 % of a capacity of 40/s, and no queue stays."""
    ran = ran_against(QueueApi(40, latency_s), "auto", until=120)
    assert ran.count(200, since=30) >= 0.85 * 90 * 40
    assert max(ran.latencies[-1000:]) <= 4 * latency_s + 0.5


def test_auto_keeps_to_its_bound() -> None:
    """`auto` goes up to --max-rate, 50/s unless said, and not above it."""
    assert ran_against(QueueApi(10_000), "auto", until=100).most_in(1.0) <= 52
    bounded = ran_against(QueueApi(10_000), "auto", until=60, max_rate=Rate.parse("7/s"))
    assert bounded.most_in(1.0) <= 8


def test_auto_accepts_that_an_api_has_become_slow() -> None:
    """Latency that slowing does not cure is no reason to slow down again and again."""
    api = QueueApi(10_000)

    async def main() -> float:
        pace = paced("auto")
        await simulate(api, pace, until=60)
        api.latency_s = 0.6
        await simulate(api, pace, until=300)
        return pace.snapshot().per_s

    assert in_virtual_time(main) >= 30


@pytest.mark.parametrize("rate", ["50/s", "unlimited"])
def test_the_pace_comes_back_by_itself(rate: str) -> None:
    """Once the API bears the rate again, the run is back at it within five minutes."""
    api = QuotaApi(10, 1.0)

    async def main() -> float:
        pace = paced(rate)
        await simulate(api, pace, until=20)
        assert pace.snapshot().per_s <= 11
        api.quota = 10_000
        await simulate(api, pace, until=320)
        return pace.snapshot().per_s

    assert in_virtual_time(main) >= 50


def test_a_whim_does_not_ruin_the_pace() -> None:
    """An API that refuses one request in 500, whatever the pace, still gets most of the rate."""
    ran = ran_against(WhimApi(every=500), "20/s", until=900)
    assert ran.count(200, since=600) >= 0.8 * 300 * 20


@pytest.mark.parametrize("burst", [0, 5])
@pytest.mark.parametrize("rate", ["25/s", "50/s", "200/s", "unlimited", "auto"])
def test_a_leaky_bucket_is_found(rate: str, burst: int) -> None:
    """Where 20/s are borne, 503 else, 400 orders take little over their 20 s, and hardly a request is wasted."""
    ran = ran_against(LeakyApi(20, burst), rate, orders=400)
    in_flight = CONCURRENCY if rate == "unlimited" else 0
    assert ran.answers[-1][0] <= (55 if rate == "auto" else 40)
    assert ran.count(503) <= 10 + in_flight


@pytest.mark.parametrize("rate", ["20/s", "100/s", "auto"])
def test_a_quota_of_each_minute_is_found(rate: str) -> None:
    """300 in each minute of the API's own clock, without Retry-After: 1,500 orders in their five minutes."""
    ran = ran_against(MinuteApi(300), rate, orders=1500)
    assert ran.answers[-1][0] <= 1.2 * 300
    assert ran.count(429) <= 0.02 * 1500


@pytest.mark.parametrize("rate", ["20/s", "50/s", "unlimited"])
def test_a_wall_is_met_less_and_less_often(rate: str) -> None:
    """A firewall that blocks for a minute: a thousand orders meet it a few times, not once in each 100."""
    api = WallApi()
    ran = ran_against(api, rate, orders=1000)
    assert ran.count(200) == 1000
    assert api.walls <= 4
    assert ran.count(403) <= 4 * (5 + CONCURRENCY)


def test_several_limiters_at_once_are_found() -> None:
    """A bucket of 20/s before a quota of 600 in each minute before an API that refuses by whim."""
    api = MixedApi((LeakyApi(20, 5), MinuteApi(600), WhimApi(every=300)))
    ran = ran_against(api, "100/s", orders=1800)
    assert ran.answers[-1][0] <= 1.8 * 180
    assert len(ran.answers) <= 1.05 * 1800


@pytest.mark.parametrize("retry_after_s", [None, 1.0, 3.0])
@pytest.mark.parametrize("at", [1, 5, 60, 500])
@pytest.mark.parametrize("rate", [10, 50, 200])
def test_a_stray_refusal_costs_little(rate: int, at: int, retry_after_s: float | None) -> None:
    """20 s after one refusal that is not met again the asked rate is used again, also in the first seconds."""
    ran = ran_against(StrayApi(at, retry_after_s), f"{rate}/s", orders=at + 30 * rate)
    [refused_at] = [when for when, status in ran.answers if status == 429]
    back = refused_at + 20
    assert ran.count(200, since=back, until=back + 5) >= 0.95 * 5 * rate


@pytest.mark.parametrize("text", ["120/m", "600/m", "30000/m", "5000/h", "60/h"])
def test_no_window_of_a_minute_or_hour_holds_more(text: str) -> None:
    """No sliding minute or hour holds more than N requests, though arrivals jitter; 99 % are used."""
    rate = Rate.parse(text)
    orders = int(min(2 * rate.requests, rate.requests + 10_000))
    ran = ran_against(QueueApi(1e9, 0.0), text, orders=orders)
    assert ran.most_in(rate.period_s - 0.2) <= rate.requests
    assert (orders - 1) / ran.starts[-1] >= 0.99 * rate.per_s


@pytest.mark.parametrize("text", ["0.5/s", "2/s", "20/s", "150/s", "1000/s"])
def test_idle_stretches_and_pauses_earn_no_burst(text: str) -> None:
    """No second holds more than rate * 1.02 + 1: not at the start, after an idle stretch or a pause."""
    rate = Rate.parse(text)

    async def main() -> list[float]:
        loop, pace = asyncio.get_running_loop(), paced(text)
        ran = Ran()
        for _ in range(3):
            await simulate(QueueApi(1e9, 0.0), pace, orders=4 * rate.per_s, ran=ran)
            await asyncio.sleep(3)
        pace.throttled(2.0)
        await simulate(QueueApi(1e9, 0.0), pace, orders=4 * rate.per_s, ran=ran)
        assert loop.time() > 10
        return [ran.most_in(1.0), ran.most_in(0.05)]

    worst_second, worst_moment = in_virtual_time(main)
    assert worst_second <= rate.per_s * 1.02 + 1
    assert worst_moment <= rate.per_s * 0.05 * 1.3 + 2


def test_refusals_in_flight_are_one_event() -> None:
    """Thirty 429s to requests that were in flight together lower the pace once, and wait once."""

    async def main() -> tuple[float, float]:
        loop, pace = asyncio.get_running_loop(), paced("100/s")
        await simulate(QueueApi(1e9), pace, orders=500)
        before = loop.time()
        for _ in range(30):
            await asyncio.sleep(0.01)
            pace.throttled(1.0, 0.3)
        await asyncio.sleep(1.1)
        pace.throttled(1.0, 1.5)
        await pace.slot()
        return loop.time() - before, pace.snapshot().per_s

    waited_s, per_s = in_virtual_time(main)
    assert waited_s == pytest.approx(1.4, abs=0.05)
    assert per_s == pytest.approx(90, rel=0.05)


def test_a_longer_retry_after_makes_the_pause_longer() -> None:
    """The longest wait that any of the refused requests was told holds for everybody."""

    async def main() -> float:
        pace = paced("10/s")
        pace.throttled(2.0, 0.1)
        pace.throttled(7.0, 0.1)
        pace.throttled(1.0, 0.1)
        await pace.slot()
        return asyncio.get_running_loop().time()

    assert in_virtual_time(main) == pytest.approx(7, abs=0.01)


@pytest.mark.parametrize("retry_after_s", [3600.0, 901.0, math.inf])
def test_a_wait_over_15_minutes_stops_the_run(retry_after_s: float) -> None:
    """The 429 that asks for over 15 minutes raises the error of exit code 6."""

    async def main() -> None:
        with pytest.raises(ApiUnavailableError, match="over 15"):
            paced("10/s").throttled(retry_after_s)

    in_virtual_time(main)


def test_15_minutes_are_waited() -> None:
    """A wait of exactly 15 minutes is kept, not refused and not cut short."""

    async def main() -> float:
        pace = paced("10/s")
        pace.throttled(900.0)
        await pace.slot()
        return asyncio.get_running_loop().time()

    assert in_virtual_time(main) >= 900


@pytest.mark.parametrize("retry_after", [True, False])
def test_refusals_without_end_stop_the_run(retry_after: bool) -> None:
    """An API that only refuses is asked a few times more, and given up after 15 minutes."""
    asked = 0

    async def main() -> float:
        nonlocal asked
        pace = paced("10/s")
        while True:
            await pace.slot()
            asked += 1
            await asyncio.sleep(0.05)
            try:
                pace.throttled(1.0 if retry_after else None, 0.05)
            except ApiUnavailableError:
                return asyncio.get_running_loop().time()

    assert in_virtual_time(main) <= 1000
    assert asked <= 15
