"""Measure the pace by arrivals at a server in another process: python tests/benchmarks/pace.py [--quick]"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import json
import logging
import math
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import aiohttp

from exporter.api.pace import Pace
from exporter.model.rate import Rate, parse_retry_after

BODY = json.dumps({"number": "bf7b66149236455", "filler": "x" * 3500}).encode()


# --- The server: records when each request arrived, then answers, refuses or hangs up. ---


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What the server does."""

    latency_s: float = 0.0
    quota: int = 0  # requests in each `window_s`, 0 is no quota
    window_s: float = 1.0
    retry_after: bool = True
    capacity: float = 0.0  # answers a second, one after the other; 0 is no bound
    drop_every: int = 0  # every so many requests the connection is closed instead of an answer


class Server:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.arrivals: list[tuple[float, int]] = []
        self.admitted: deque[float] = deque()
        self.free_at = 0.0

    def judge(self, now: float) -> tuple[int, float]:
        """Return the status (0 hangs up) and the seconds until the quota bears another request."""
        told = self.behaviour
        if told.drop_every and len(self.arrivals) % told.drop_every == told.drop_every - 1:
            return 0, 0.0
        while self.admitted and self.admitted[0] <= now - told.window_s:
            self.admitted.popleft()
        if told.quota and len(self.admitted) >= told.quota:
            return 429, self.admitted[0] + told.window_s - now
        if told.quota:
            self.admitted.append(now)
        return 200, 0.0

    def delay(self, now: float) -> float:
        if not self.behaviour.capacity:
            return self.behaviour.latency_s
        self.free_at = max(self.free_at, now) + 1 / self.behaviour.capacity
        return self.behaviour.latency_s + self.free_at - now


class Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            self.answer(head)

    def answer(self, head: bytes) -> None:
        server, now = self.server, time.monotonic()
        if head.startswith(b"GET /arrivals"):
            self.send(200, json.dumps(server.arrivals).encode())
            return
        status, wait_s = server.judge(now)
        server.arrivals.append((now, status))
        if status == 0:
            self.transport.close()
            return
        extra = (
            f"Retry-After: {math.ceil(wait_s)}\r\n" if status == 429 and server.behaviour.retry_after else ""
        )
        delay_s = server.behaviour.latency_s if status == 429 else server.delay(now)
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self.send, status, BODY, extra)
        else:
            self.send(status, BODY, extra)

    def send(self, status: int, body: bytes, extra: str = "") -> None:
        kind = "Content-Type: application/json\r\n"
        head = f"HTTP/1.1 {status} -\r\n{kind}{extra}Content-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


async def serve(behaviour: Behaviour) -> None:
    server = Server(behaviour)
    listening = await asyncio.get_running_loop().create_server(
        lambda: Connection(server), "127.0.0.1", 0, backlog=1024
    )
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


@contextlib.asynccontextmanager
async def server_process(behaviour: Behaviour) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", json.dumps(asdict(behaviour)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


# --- The client: workers that take a slot before each request, and a further one for each resend. ---

sent_by_worker: ContextVar[list[int]] = ContextVar("sent_by_worker")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What one run did, as the server saw it."""

    arrivals: list[tuple[float, int]]
    took_s: float

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.arrivals]

    def count(self, status: int, since_s: float = 0.0) -> int:
        start = self.arrivals[0][0] + since_s
        return sum(1 for at, each in self.arrivals if each == status and at >= start)


def slot_for_each_resend(pace: Pace) -> aiohttp.ClientMiddlewareType:
    async def middleware(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        sent = sent_by_worker.get()
        sent[0] += 1
        if sent[0] > 1:
            await pace.slot()
        return await handler(request)

    return middleware


async def ask_once(session: aiohttp.ClientSession, url: str, pace: Pace) -> bool:
    await pace.slot()
    sent_by_worker.set([0])
    started = time.monotonic()
    try:
        async with session.get(url) as response:
            await response.read()
    except aiohttp.ClientError:
        return False
    latency_s = time.monotonic() - started
    if response.status == 429:
        pace.throttled(parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC)), latency_s)
        return False
    pace.answered(latency_s)
    return True


async def run(
    behaviour: Behaviour,
    pace: Pace,
    *,
    concurrency: int = 32,
    orders: float = math.inf,
    seconds: float = math.inf,
    idle: Callable[[float], Awaitable[None]] | None = None,
) -> Ran:
    """Let workers ask until the orders are done or the time is over; return what arrived."""
    left = orders
    async with server_process(behaviour) as base, aiohttp.TCPConnector(limit=0) as connector:
        middlewares = (slot_for_each_resend(pace),)
        async with aiohttp.ClientSession(connector=connector, middlewares=middlewares) as session:
            start = time.monotonic()

            async def work() -> None:
                nonlocal left
                while left > 0 and time.monotonic() - start < seconds:
                    left -= 1
                    while not await ask_once(session, base + "/order", pace):
                        pass
                    if idle is not None:
                        await idle(time.monotonic() - start)

            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(work())
            took_s = time.monotonic() - start
            async with session.get(base + "/arrivals", middlewares=()) as response:
                return Ran(arrivals=[(at, status) for at, status in await response.json()], took_s=took_s)


# --- The scenarios. ---


def worst_window(times: list[float], window_s: float) -> int:
    """Return the most arrivals in any window `[t, t + window_s)`."""
    return max(bisect.bisect_left(times, at + window_s) - index for index, at in enumerate(times))


def workers_for(rate_per_s: float, latency_s: float) -> int:
    return max(32, math.ceil(1.3 * rate_per_s * (latency_s + 0.02)))


def report_fixed(name: str, rate: Rate, ran: Ran) -> None:
    times = ran.times
    use = (len(times) - 1) / (times[-1] - times[0]) / rate.per_s
    allowed = math.floor(rate.per_s * 1.02 + 1) if rate.period_s == 1 else int(rate.requests)
    worst = worst_window(times, rate.period_s)
    least = 0.97 if rate.per_s >= 1000 else 0.99
    verdict = "ok" if use >= least and worst <= allowed else "MISSED"
    print(
        f"{name:<44} use {use:6.1%} (>= {least:.0%})   worst window {worst:>5} (<= {allowed})   {verdict}",
        flush=True,
    )


async def fixed(text: str, seconds: float, latency_s: float = 0.0, drop_every: int = 0) -> None:
    rate = Rate.parse(text)
    behaviour = Behaviour(latency_s=latency_s, drop_every=drop_every)
    ran = await run(
        behaviour,
        Pace(rate),
        concurrency=workers_for(rate.per_s, latency_s),
        orders=max(3, rate.per_s * seconds),
    )
    dropped = f", 1 of {drop_every} dropped" if drop_every else ""
    report_fixed(f"{text}, {latency_s * 1000:.0f} ms{dropped}", rate, ran)


async def after_idle(text: str) -> None:
    """Two seconds of work, one and a half of idleness, then work again."""
    rate = Rate.parse(text)

    async def idle(elapsed_s: float) -> None:
        if 2 <= elapsed_s < 3.5:
            await asyncio.sleep(3.5 - elapsed_s)

    ran = await run(Behaviour(), Pace(rate), seconds=6, idle=idle)
    allowed = math.floor(rate.per_s * 1.02 + 1)
    print(f"{text}, idle in between: worst second {worst_window(ran.times, 1)} (<= {allowed})")


async def refused(rate: str, latency_s: float, retry_after: bool, orders: int) -> None:
    """Ask too much of an API that bears 30 a second."""
    behaviour = Behaviour(latency_s=latency_s, quota=30, retry_after=retry_after)
    ran = await run(behaviour, Pace(Rate.parse(rate)), orders=orders)
    quotas_own_s = orders / 30
    given = "given" if retry_after else "missing"
    print(
        f"{rate} asked of 30/s, {latency_s * 1000:.0f} ms, Retry-After {given}: {orders} orders in "
        f"{ran.took_s / quotas_own_s:.3f} x the quota's own {quotas_own_s:.0f} s (<= 1.2), "
        f"{ran.count(429) / orders:.4f} 429s an order (<= 0.05)",
        flush=True,
    )


async def auto(name: str, borne_per_s: float, behaviour: Behaviour, seconds: float) -> None:
    ran = await run(behaviour, Pace(Rate.parse("auto")), seconds=seconds, concurrency=64)
    share = ran.count(200, since_s=30) / (borne_per_s * (seconds - 30))
    print(
        f"auto, {name}: {share:.1%} of what it bears after 30 s (>= 85 %), "
        f"{ran.count(429) / len(ran.arrivals):.2%} answered 429 (<= 2 %)",
        flush=True,
    )


async def steady_rates(quick: bool) -> None:
    lengths = {"2/s": 12.0, "20/s": 8.0, "150/s": 6.0, "1000/s": 6.0}
    for text, seconds in lengths.items():
        for latency_s in (0.05,) if quick else (0.0, 0.05, 0.5):
            await fixed(text, seconds / (2 if quick else 1), latency_s)
        await fixed(text, seconds / (2 if quick else 1), 0.05, drop_every=10)
    await after_idle("150/s")


async def whole_minutes() -> None:
    await asyncio.gather(fixed("120/m", 75), fixed("600/m", 75, 0.05), fixed("6000/m", 75, 0.05))


async def refusals(quick: bool) -> None:
    orders = 450 if quick else 1800
    cases = [(latency_s, given) for latency_s in (0.02, 0.2) for given in (True, False)]
    await asyncio.gather(*(refused("100/s", latency_s, given, orders) for latency_s, given in cases))


async def autos(quick: bool) -> None:
    seconds = 60 if quick else 120
    await asyncio.gather(
        auto("30/s", 30, Behaviour(latency_s=0.05, quota=30), seconds),
        auto("30/s, no Retry-After", 30, Behaviour(latency_s=0.05, quota=30, retry_after=False), seconds),
        auto("300/min", 5, Behaviour(latency_s=0.05, quota=300, window_s=60), seconds),
        auto(
            "300/min, no Retry-After",
            5,
            Behaviour(latency_s=0.05, quota=300, window_s=60, retry_after=False),
            seconds,
        ),
        auto("a queue beyond 40/s", 40, Behaviour(latency_s=0.05, capacity=40), seconds),
    )


async def main(quick: bool, only: str) -> None:
    if only in ("", "steady"):
        await steady_rates(quick)
    if only in ("", "minutes") and not quick:
        await whole_minutes()
    if only in ("", "refusals"):
        await refusals(quick)
    if only in ("", "auto"):
        await autos(quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about two minutes instead of seven")
    parser.add_argument("--only", default="", choices=["", "steady", "minutes", "refusals", "auto"])
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    with contextlib.suppress(KeyboardInterrupt):
        if options.serve:
            asyncio.run(serve(Behaviour(**json.loads(options.serve))))
        else:
            asyncio.run(main(options.quick, options.only))
