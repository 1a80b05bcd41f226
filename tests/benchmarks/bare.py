"""The measure of speed: a bare aiohttp loop that throws every body away.

python tests/benchmarks/bare.py URL NUMBERS_FILE [IN_FLIGHT]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp


async def fetch_all(url: str, numbers: Iterator[str], in_flight: int) -> int:
    """Fetch every order, keep nothing, and return how many answers were 200."""
    fetched = 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal fetched
        for number in numbers:
            async with session.get(f"{url}/api/i1/orders/{number}") as response:
                await response.read()
                fetched += response.status == 200

    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work(session))
    return fetched


if __name__ == "__main__":
    texts = Path(sys.argv[2]).read_text("ascii").split()
    count = asyncio.run(fetch_all(sys.argv[1], iter(texts), int(sys.argv[3]) if len(sys.argv) > 3 else 32))
    print(f"{count} of {len(texts)} orders")
