"""The client inside a test's own event loop, as `run` opens it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from exporter.client import Client, open_client
from exporter.options import Options
from exporter.pace import Pace
from exporter.rate import Rate
from exporter.statistics import Statistics

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
