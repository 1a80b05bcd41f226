"""The client inside a test's own event loop, and a faulty server beside a test that has none."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from threading import Thread
from typing import Any, TypeVar

from exporter.api.client import Client, open_client
from exporter.api.pace import Pace
from exporter.model.options import Options
from exporter.model.rate import Rate
from exporter.model.run_statistics import Statistics
from tests.support.servers.faulty import FaultyServer, Plan
from tests.support.servers.moves import Behaviour

T = TypeVar("T")
TOKEN = "a-token-that-nobody-may-see"


@asynccontextmanager
async def client_of(url: str, **settings: Any) -> AsyncIterator[Client]:
    """Open a client for the API at `url`; `settings` are those of `Options`."""
    given = {"token": TOKEN, "rate": "unlimited", "timeout_s": 5.0, **settings}
    options = Options(orders="numbers.txt", out="out", api_url=url, **given)
    pace = Pace(Rate.parse(options.rate))
    async with open_client(options, pace, Statistics(time.monotonic)) as client:
        yield client


def run(test: Coroutine[Any, Any, T], timeout_s: float = 20.0) -> T:
    """Run a test's coroutine; fail when it hangs."""
    return asyncio.run(asyncio.wait_for(test, timeout_s))


@contextmanager
def serving(
    plan: FaultyServer | Plan | Behaviour | Mapping[str, Behaviour], tls: ssl.SSLContext | None = None
) -> Iterator[FaultyServer]:
    """Run a faulty server in a thread for the length of the block, for exporters in their own processes.

    Args:
        plan: How it behaves, or the server itself.
        tls: See `FaultyServer`.
    """
    started: Future[tuple[FaultyServer, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        async with plan if isinstance(plan, FaultyServer) else FaultyServer(plan, tls) as server:
            started.set_result((server, asyncio.get_running_loop(), over))
            await over.wait()

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    server, loop, over = started.result(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
