"""A hand-written HTTP/1.1 server that misbehaves as told, and records what arrives.

    async with FaultyServer({"a1": in_turn(end(End.RESET), good)}) as server:
        ...  # server.url, server.arrivals

    python -m tests.support.servers.faulty --script tests.support.servers.scripts:tenth_faulty

The process prints its URL as its first line and ends when its standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from pkgutil import resolve_name
from socket import SO_LINGER, SOL_SOCKET
from types import TracebackType
from typing import Literal, Self
from urllib.parse import unquote

from exporter.demo.api import SlidingWindow
from tests.support.servers.moves import (
    Behaviour,
    End,
    Pause,
    Step,
    answer,
    by_number,
    good,
    redirect,
    throttled,
)

_ORDER_TARGET = re.compile(r"/api/i1/orders/([^/?]+)(/?)$")
_LARGEST_HEAD = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How a faulty server behaves.

    Args:
        behaviour: The answer to each request that nothing below took.
        limits: Requests and seconds: at most so many answers in any such window, more get 429.
        retry_after: What those 429s say about it.
        latency_s: Seconds before each answer.
        workers: So many answers are worked on at once, each for `latency_s`; the others queue.
        slash: Order targets without a slash at the end get a 301 to the form with one.
        answers_per_connection: A keep-alive connection ends after so many, without a word before.
        ends: Right after the last answer, or just as the next request arrives.
        down_from: At this request, counted over all, the listener and all connections go away.
        down_for_s: Seconds until the server is back; None for never.
    """

    behaviour: Behaviour = good
    limits: tuple[tuple[int, float], ...] = ()
    retry_after: Literal["seconds", "date", "absent"] = "seconds"
    latency_s: float = 0.0
    workers: int | None = None
    slash: bool = False
    answers_per_connection: int | None = None
    ends: Literal["answered", "next_request"] = "next_request"
    down_from: int | None = None
    down_for_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """One request, as it reached the server.

    Args:
        at: Monotonic seconds; on one machine they compare between processes.
        number: The order number; for other requests, the target.
        nth: The number's nth request, from 1.
        connection: The connection's place in the order of their coming, from 1.
        method: GET, mostly.
        target: Path and query as sent.
        headers: By lower-case name.
        body: As text.
    """

    at: float
    number: str
    nth: int
    connection: int
    method: str
    target: str
    headers: Mapping[str, str]
    body: str


@dataclass(slots=True, eq=False)
class _Connection:
    """One client's connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ordinal: int
    requests: int = 0

    def reset(self) -> None:
        """Closing with a linger of 0 seconds sends RST instead of FIN."""
        raw = self.writer.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def perform(self, steps: Iterable[Step]) -> bool:
        """Do the steps, and tell whether the connection goes on."""
        for step in steps:
            if isinstance(step, bytes):
                self.writer.write(step)
                await self.writer.drain()
            elif isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            else:
                await self._end(step)
                return False
        return True

    async def _end(self, how: End) -> None:
        if how is End.RESET:
            self.reset()
        elif how is End.STALL:
            while await self.reader.read(65_536):
                pass


@dataclass(eq=False)
class FaultyServer:
    """A server for the length of an `async with` block.

    Args:
        plan: How it behaves; a behaviour alone, or behaviours by order number, are plans too.
        tls: Speaks https with this context.
        port: 0 takes any free port.

    Attributes:
        arrivals: The requests so far, in order.
    """

    plan: Plan | Behaviour | Mapping[str, Behaviour] = good
    tls: ssl.SSLContext | None = None
    port: int = 0
    arrivals: list[Arrival] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._plan = _as_plan(self.plan)
        self._windows = [SlidingWindow(count, seconds) for count, seconds in self._plan.limits]
        self._most_answers = self._plan.answers_per_connection or math.inf
        self._workers = asyncio.Semaphore(self._plan.workers or 1_000_000)
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._asked: Counter[str] = Counter()
        self._ordinal = 0
        self._listener: asyncio.Server | None = None
        self._return: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.come_up()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._return:
            self._return.cancel()
        tasks = list(self._connections.values())
        self.go_down()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def come_up(self) -> None:
        """Listen, at the same port as before."""
        self._listener = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self.tls, limit=_LARGEST_HEAD, backlog=1024
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    def go_down(self) -> None:
        """Stop listening and reset every connection; new ones are refused."""
        if self._listener:
            self._listener.close()
            self._listener = None
        for connection in self._connections:
            connection.reset()

    async def _come_back(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self.come_up()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ordinal += 1
        connection = _Connection(reader, writer, self._ordinal)
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            while await self._exchange(connection):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the block ended; a stream's own task must not fail
        finally:
            del self._connections[connection]
            writer.close()

    async def _exchange(self, connection: _Connection) -> bool:
        """Read one request and answer it; tell whether the connection goes on."""
        request = await self._read(connection)
        if request.target == "/_stats":
            return await connection.perform(self._stats()("", 1))
        self.arrivals.append(request)
        connection.requests += 1
        if len(self.arrivals) == self._plan.down_from:
            self._break_down()
            return False
        if connection.requests > self._most_answers:
            return False
        behaviour = self._choose(request)
        await self._work()
        if not await connection.perform(behaviour(request.number, request.nth)):
            return False
        used_up = self._plan.ends == "answered" and connection.requests >= self._most_answers
        return not used_up and request.headers.get("connection", "").lower() != "close"

    async def _read(self, connection: _Connection) -> Arrival:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        at = time.monotonic()
        request_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _version = request_line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await connection.reader.readexactly(int(headers.get("content-length", "0")))
        number = self._number(target)
        self._asked[number] += 1
        return Arrival(
            at=at,
            number=number,
            nth=self._asked[number],
            connection=connection.ordinal,
            method=method,
            target=target,
            headers=headers,
            body=body.decode(),
        )

    def _number(self, target: str) -> str:
        """The order number; redirected targets are counted apart from the orders they stand for."""
        found = _ORDER_TARGET.match(target)
        if found is None or bool(found[2]) != self._plan.slash:
            return target
        return unquote(found[1])

    async def _work(self) -> None:
        async with self._workers:
            await asyncio.sleep(self._plan.latency_s)

    def _choose(self, request: Arrival) -> Behaviour:
        wait = max((window.wait_s(request.at) for window in self._windows), default=0.0)
        if wait:
            return throttled(self._retry_after(wait))
        for window in self._windows:
            window.take(request.at)
        if self._plan.slash and request.number == request.target and _ORDER_TARGET.match(request.target):
            return redirect(request.target + "/")
        return self._plan.behaviour

    def _retry_after(self, wait: float) -> str | None:
        seconds = math.ceil(wait)
        texts = {"seconds": str(seconds), "date": formatdate(math.ceil(time.time()) + seconds, usegmt=True)}
        return texts.get(self._plan.retry_after)

    def _stats(self) -> Behaviour:
        return answer(json.dumps({"arrivals": [asdict(arrival) for arrival in self.arrivals]}).encode())

    def _break_down(self) -> None:
        self.go_down()
        if self._plan.down_for_s is not None:
            self._return = asyncio.create_task(self._come_back(self._plan.down_for_s))


def _as_plan(plan: Plan | Behaviour | Mapping[str, Behaviour]) -> Plan:
    if isinstance(plan, Plan):
        return plan
    return Plan(behaviour=by_number(plan) if isinstance(plan, Mapping) else plan)


async def _run(plan: Plan | Behaviour, port: int) -> None:
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def watch() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(closed.set)

    async with FaultyServer(plan, port=port) as server:
        print(server.url, flush=True)
        threading.Thread(target=watch, daemon=True).start()
        await closed.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.servers.faulty")
    parser.add_argument("--script", default="tests.support.servers.moves:good", help="module:name of a plan")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    asyncio.run(_run(resolve_name(arguments.script), arguments.port))


if __name__ == "__main__":
    # By its importable name: a script's `Plan` is that module's, not `__main__`'s.
    from tests.support.servers import faulty  # noqa: PLW0406 - on purpose, see above

    faulty.main()
